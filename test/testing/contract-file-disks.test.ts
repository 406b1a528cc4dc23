/** The contract, played by disks in files. */
import { test } from 'uvu';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { modelContract } from '../../host/testing/index.js';
import { imageFile } from '../models/fixture.js';
import { blockRequests } from './block-requests.js';

const BYTES = 2 ** 20;
const id = 'contract';

const image = imageFile(BYTES);
test.after(() => image.remove());

for (const [name, options] of [
  ['a disk in a file', {}],
  ['a disk in a mapped file', { mapped: true }],
  ['a disk in a mapped file with storage', { mapped: true, allocate: true }],
] as const)
  modelContract(name, {
    test,
    model: () => new BlockDevice({ file: image.path, id, ...options }),
    queues: 2,
    inOrder: true,
    requests: blockRequests({ content: image.contents, id }),
  });

test.run();
