/** The contract, played by a console that echoes: an instance, and one in each queue thread. */
import assert from 'node:assert/strict';
import { test } from 'uvu';
import { type ContractRequest, modelContract } from '../../host/testing/index.js';
import EchoConsole from './echo-console.js';

const WORDS = Buffer.from('is anybody there?');
const RECEIVEQ = 0;
const TRANSMITQ = 1;

/** Room for an answer, and what is answered. */
const requests: ContractRequest[][] = [
  [
    {
      queue: RECEIVEQ,
      writable: [30, 34],
      check: ({ written, writable }) =>
        assert.equal(Buffer.from(writable).toString('latin1', 0, written), WORDS.toString()),
    },
    { queue: TRANSMITQ, readable: WORDS, check: ({ written }) => assert.equal(written, 0) },
  ],
];

modelContract('a console', { test, model: () => new EchoConsole(), queues: 2, threads: [0], requests });

modelContract('a console, by URL', {
  test,
  model: () => new URL('echo-console.js', import.meta.url),
  queues: 2,
  requests,
});

test.run();
