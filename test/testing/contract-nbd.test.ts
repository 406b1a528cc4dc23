/** The contract, played by a disk on an NBD server. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import { NbdDisk } from '../../host/models/nbd/nbd-disk.js';
import { modelContract } from '../../host/testing/index.js';
import { RealServer, testWith } from '../nbd/real-server.js';
import { blockRequests } from './block-requests.js';

const id = 'contract';
const content = randomBytes(2 ** 20);
const server = new RealServer(['nbdkit', '-f', '-U', 'SOCKET', 'file', 'FOLDER/disk.img']);
writeFileSync(join(server.folder, 'disk.img'), content);
let started: Promise<void> | undefined;

modelContract('a disk on an NBD server', {
  test: (name, act) => testWith('nbdkit', name, act),
  model: async () => {
    started ??= server.start();
    await started;
    return NbdDisk.connect(server.uri(), { id });
  },
  released: (model) => (model as NbdDisk).close(),
  queues: 2,
  threads: [0],
  requests: blockRequests({ content, id }),
});

test.after(() => started && server.close());

test.run();
