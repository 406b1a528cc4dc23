/** The contract, played by a console that echoes and by a source of entropy. */
import assert from 'node:assert/strict';
import { test } from 'uvu';
import { ConsoleDevice } from '../../host/models/console/console-device.js';
import type { ConsolePort } from '../../host/models/console/console-port.js';
import { EntropyDevice } from '../../host/models/entropy/entropy-device.js';
import { modelContract } from '../../host/testing/index.js';

const WORDS = Buffer.from('is anybody there?');

/** A console whose one port gives back what it gets, whenever it is served. */
class Echo extends ConsoleDevice {
  #piped: ConsolePort | undefined;

  override started(): void {
    const port = this.port();
    if (port !== this.#piped) port.pipe(port);
    this.#piped = port;
    super.started();
  }
}

modelContract('a console', {
  test,
  model: () => new Echo(),
  queues: 2,
  threads: [0],
  requests: [
    [
      {
        queue: 0,
        writable: [30, 34],
        check: ({ written, writable }) =>
          assert.equal(Buffer.from(writable).toString('latin1', 0, written), WORDS.toString()),
      },
      { queue: 1, readable: WORDS, check: ({ written }) => assert.equal(written, 0) },
    ],
  ],
});

modelContract('a source of entropy', {
  test,
  model: () => new EntropyDevice({ source: (into) => void into.fill(42) }),
  threads: [0],
  requests: [1, 64, 5000].map((bytes) => ({
    writable: bytes,
    check: ({ written, writable }) => {
      assert.equal(written, bytes);
      assert.ok(writable.every((byte) => byte === 42));
    },
  })),
});

test.run();
