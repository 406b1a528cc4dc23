import type { Chain } from '../../host/models/chain.js';
import { DeviceModel } from '../../host/models/device-model.js';
import { VIRTIO_ID_RNG } from '../../host/uapi/virtio.js';

/** What a chain asks of the model, by its first byte: an answer, or what the model does wrong. */
export const GOOD = 0;
export const WRONG = 1;
/** What a sound answer is, and what a failed chain ends with. */
export const ANSWER = 42;
export const ERROR_STATUS = 0xee;
/** Milliseconds that a slow model takes. */
const SLOW_MS = 300;

/** What a model can do wrong with a chain. */
const WRONGS = {
  awaits: (chain: Chain) => void setTimeout(() => answer(chain), SLOW_MS),
  blocks: (chain: Chain) => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SLOW_MS);
    answer(chain);
  },
  'never returns': () => {
    for (;;);
  },
  throws: () => {
    throw new Error('wrong');
  },
  rejects: async () => {
    throw new Error('wrong');
  },
  'throws outside of its handler': () => {
    setImmediate(() => {
      throw new Error('wrong');
    });
  },
  'never answers': () => {},
  'answers twice': (chain: Chain) => {
    answer(chain);
    answer(chain);
  },
  'writes beyond the room': (chain: Chain) => void chain.complete(chain.writableBytes + 1),
  'answers after the reset': (chain: Chain) =>
    chain.signal.addEventListener('abort', () => setImmediate(() => answer(chain)), { once: true }),
  'refuses what is a request': (chain: Chain) => chain.refuse(),
  'transfers its bytes away': (chain: Chain) => {
    if (chain.writable.buffer instanceof ArrayBuffer)
      structuredClone(0, { transfer: [chain.writable.buffer] });
    chain.complete(1);
  },
} satisfies Record<string, (chain: Chain) => unknown>;

export type Wrong = keyof typeof WRONGS;

/** A model that does one thing wrong whenever it is asked to. */
export default class Bad extends DeviceModel {
  override readonly manifest = { deviceId: VIRTIO_ID_RNG };
  override readonly errorStatus = ERROR_STATUS;
  readonly #wrong: (chain: Chain) => unknown;

  constructor({ wrong }: { wrong: Wrong }) {
    super();
    this.#wrong = WRONGS[wrong];
  }

  override handle(chains: readonly Chain[]): void | Promise<void> {
    let ended: unknown;
    for (const chain of chains)
      if (chain.getUint8(0) === GOOD) answer(chain);
      else ended = this.#wrong(chain);
    return ended instanceof Promise ? ended : undefined;
  }
}

function answer(chain: Chain): void {
  // It looks at nothing of a chain that may have ended.
  if (chain.stale) chain.complete();
  else chain.complete(1, ANSWER);
}
