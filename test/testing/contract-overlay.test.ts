/** The contract, played by a disk over a base. */
import { test } from 'uvu';
import { OverlayDisk } from '../../host/models/overlay/overlay-disk.js';
import { modelContract } from '../../host/testing/index.js';
import { imageFile } from '../models/fixture.js';
import { blockRequests } from './block-requests.js';

const BYTES = 2 ** 20;
const id = 'contract';
const image = imageFile(BYTES);
test.after(() => image.remove());

modelContract('an overlay', {
  test,
  model: () => OverlayDisk.open({ file: `${image.path}.overlay`, base: image.path, id }),
  released: (model) => (model as OverlayDisk).close(),
  queues: 2,
  threads: [0],
  requests: blockRequests({ content: image.contents, id }),
});

test.run();
