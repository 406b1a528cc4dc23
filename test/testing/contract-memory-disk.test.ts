/** The contract, played by a disk in memory. */
import { test } from 'uvu';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { modelContract } from '../../host/testing/index.js';
import { blockRequests } from './block-requests.js';

const BYTES = 2 ** 20;
const id = 'contract';

modelContract('a disk in memory', {
  test,
  model: () => new BlockDevice({ memory: BYTES, id }),
  queues: 2,
  inOrder: true,
  requests: blockRequests({ id }),
});

test.run();
