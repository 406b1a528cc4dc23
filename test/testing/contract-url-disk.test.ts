/** The contract, played by a disk in TypeScript that is given by the URL of its module: on queue threads. */
import { test } from 'uvu';
import { modelContract } from '../../host/testing/index.js';
import { blockRequests } from './block-requests.js';
import Squares from './squares.js';

modelContract('a disk in TypeScript, by URL', {
  test,
  model: () => new URL('squares.js', import.meta.url),
  queues: 2,
  requests: blockRequests({ content: Squares.bytes(4096), id: 'squares' }),
});

test.run();
