import type { Chain } from '../../host/models/chain.js';
import { DeviceModel } from '../../host/models/device-model.js';
import { VIRTIO_ID_RNG } from '../../host/uapi/virtio.js';

/** Milliseconds that the thread is blocked for each chain. */
const BLOCKED_MS = 5;

/** What the model does with every chain. */
const WRONGS = {
  blocks: (chain: Chain) => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BLOCKED_MS);
    chain.complete();
  },
  throws: () => {
    throw new Error('as it is told to');
  },
  'never answers': () => {},
  'answers twice': (chain: Chain) => {
    chain.complete();
    chain.complete();
  },
};

export type Wrong = keyof typeof WRONGS;

/** A model that does nothing right. */
export default class Bad extends DeviceModel {
  override readonly manifest = { deviceId: VIRTIO_ID_RNG };
  readonly #wrong: (chain: Chain) => void;

  constructor({ wrong }: { wrong: Wrong }) {
    super();
    this.#wrong = WRONGS[wrong];
  }

  override handle(chains: readonly Chain[]): void {
    for (const chain of chains) this.#wrong(chain);
  }
}
