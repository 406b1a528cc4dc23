/** The contract, played by models in TypeScript on the event loop of the test. */
import { test } from 'uvu';
import { modelContract } from '../../host/testing/index.js';
import { blockRequests } from './block-requests.js';
import Counter, { counterRequests } from './counter.js';
import Squares from './squares.js';

modelContract('a disk in TypeScript', {
  test,
  model: () => new Squares(),
  queues: 2,
  threads: [0],
  requests: blockRequests({ content: Squares.bytes(4096), id: 'squares' }),
});

modelContract('a device of two queues', {
  test,
  model: () => new Counter(),
  queues: 2,
  threads: [0],
  requests: counterRequests(),
});

test.run();
