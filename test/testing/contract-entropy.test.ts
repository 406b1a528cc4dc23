/** The contract, played by the entropy device: an instance, and one in each queue thread. */
import * as assert from 'node:assert/strict';
import { test } from 'uvu';
import { EntropyDevice } from '../../host/models/entropy/entropy-device.js';
import { type ContractRequest, modelContract } from '../../host/testing/index.js';

/** Bytes that a driver asks for. */
const BYTES = 64;

const requests: ContractRequest[] = [
  {
    writable: BYTES,
    check: ({ written, writable }) => {
      assert.equal(written, BYTES);
      assert.ok(
        writable.some((byte) => byte !== 0),
        'random bytes',
      );
    },
  },
];

modelContract('the entropy device', { test, model: () => new EntropyDevice(), threads: [0], requests });

modelContract('the entropy device, by URL', {
  test,
  model: () => new URL('entropy.js', import.meta.url),
  requests,
});

test.run();
