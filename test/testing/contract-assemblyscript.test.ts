/** The contract, played by a disk in AssemblyScript. */
import { test } from 'uvu';
import { modelContract } from '../../host/testing/index.js';
import { compileModel, diskModel } from '../models/wasm/fixture.js';
import { blockRequests } from './block-requests.js';

const module = await compileModel('disk');

modelContract('a disk in AssemblyScript', {
  test,
  model: () => diskModel(module, 2),
  queues: 2,
  inOrder: true,
  requests: blockRequests({}),
});

test.run();
