/** The contract, played by a device in TypeScript of two queues that belong together, by the URL of its module. */
import { test } from 'uvu';
import { modelContract } from '../../host/testing/index.js';
import { counterRequests } from './counter.js';

modelContract('a device of two queues, by URL', {
  test,
  model: () => new URL('counter.js', import.meta.url),
  queues: 2,
  requests: counterRequests(),
});

test.run();
