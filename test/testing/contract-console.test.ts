/** The contract, played by a console whose application reads what its driver writes. */
import * as assert from 'node:assert/strict';
import { test } from 'uvu';
import { ConsoleDevice } from '../../host/models/console/console-device.js';
import type { DeviceShape } from '../../host/models/manifest.js';
import { modelContract } from '../../host/testing/index.js';

const TRANSMITQ = 1;

/** A console that forgets what it is told. */
class Forgetful extends ConsoleDevice {
  override prepare(shape: DeviceShape): void {
    super.prepare?.(shape);
    this.port().resume();
  }
}

modelContract('a console', {
  test,
  model: () => new Forgetful(),
  queues: 2,
  threads: [0],
  requests: [
    {
      queue: TRANSMITQ,
      readable: new Uint8Array(100).fill(1),
      check: ({ written }) => assert.equal(written, 0),
    },
  ],
});

test.run();
