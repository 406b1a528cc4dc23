import * as assert from 'node:assert/strict';
import type { Chain } from '../../host/models/chain.js';
import { DeviceModel } from '../../host/models/device-model.js';
import type { ModelQueue } from '../../host/models/model-queue.js';
import type { ContractRequest } from '../../host/testing/index.js';
import { VIRTIO_ID_RNG } from '../../host/uapi/virtio.js';

/** Queue that a counter is asked on, and queue with the buffers of its answers. */
const ASKED = 0;
const ANSWERED = 1;
/** Bytes of a question, each of which is 1. */
const QUESTION_BYTES = 9;

/** A device of two queues that belong together: for each chain of one, it answers with its sum in a buffer of the other. */
export default class Counter extends DeviceModel {
  override readonly manifest = { deviceId: VIRTIO_ID_RNG, features: [3], queues: 2, queueGroup: 2 };
  #buffers: Chain[] = [];
  #asked: Chain[] = [];
  #answers = 0;

  override config(): Uint8Array {
    return Uint8Array.of(1, 2, 3, 4);
  }

  override handle(chains: readonly Chain[], queue: ModelQueue): void {
    (queue.index === ANSWERED ? this.#buffers : this.#asked).push(...chains);
    while (this.#asked.length > 0 && this.#buffers.length > 0) {
      const asked = this.#asked.shift()!;
      const buffer = this.#buffers.shift()!;
      buffer.write(0, Uint8Array.of(asked.readable.reduce((sum, byte) => sum + byte, 0) & 0xff));
      buffer.complete(1);
      asked.complete();
      this.#answers = (this.#answers + 1) & 0xff;
    }
  }

  override save(): Uint8Array {
    return Uint8Array.of(this.#answers);
  }

  override restore(state: Uint8Array): void {
    this.#answers = state[0]!;
  }

  override reset(): void {
    for (const chain of [...this.#buffers.splice(0), ...this.#asked.splice(0)]) chain.complete();
  }
}

/** A buffer, and a question that is answered in it. */
export function counterRequests(): ContractRequest[][] {
  const buffer: ContractRequest = {
    queue: ANSWERED,
    writable: 64,
    check: ({ written, writable }) => {
      assert.equal(written, 1);
      assert.equal(writable[0], QUESTION_BYTES);
    },
  };
  const question: ContractRequest = {
    queue: ASKED,
    readable: new Uint8Array(QUESTION_BYTES).fill(1),
    check: ({ written }) => assert.equal(written, 0),
  };
  return [[buffer, question]];
}
