import { threadId } from 'node:worker_threads';
import type { Chain } from '../../host/models/chain.js';
import { DeviceModel } from '../../host/models/device-model.js';
import { VIRTIO_ID_RNG } from '../../host/uapi/virtio.js';

/** What a chain asks of the model: its first readable byte. */
export const ANSWER = 0;
export const THROW = 1;
export const REJECT = 2;
export const CRASH = 3;
export const CONFIG = 4;
export const UNSENDABLE = 5;

/** A model for queue threads, which says which thread it is in. */
export default class Threaded extends DeviceModel {
  override readonly manifest = {
    deviceId: VIRTIO_ID_RNG,
    queues: { minimum: 1, maximum: 8 },
    queueGroup: 2,
  };
  readonly #greeting: string;
  #life = 0;
  #configByte = 1;

  constructor({ greeting }: { greeting: string }) {
    super();
    this.#greeting = greeting;
  }

  override config() {
    return Uint8Array.of(this.#configByte, 0, 0, 0);
  }

  override started() {
    this.#life++;
  }

  override handle(chains: readonly Chain[]) {
    for (const chain of chains) this.#serve(chain);
    if (chains.some((chain) => chain.stale)) throw new Error('a stale chain');
  }

  #serve(chain: Chain): void {
    switch (chain.getUint8(0)) {
      case ANSWER: {
        const answer = Buffer.from(`${this.#greeting} from ${threadId} in life ${this.#life}`);
        chain.write(0, answer);
        chain.complete(answer.length);
        break;
      }
      case THROW:
        throw new Error('thrown in a thread');
      case REJECT:
        void Promise.reject(new Error('rejected in a thread')).catch((error) => chain.fail(error));
        break;
      case CRASH:
        setImmediate(() => {
          throw new Error('the thread is done for');
        });
        break;
      case CONFIG:
        this.#configByte++;
        void this.configChanged().then(() => chain.complete(0));
        break;
      case UNSENDABLE:
        throw () => 'no structured clone';
    }
  }
}
