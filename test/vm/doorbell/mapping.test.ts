/** The same mappings of the same doorbells, asked of the kernel and of the bus: vp_vdpa states what a layout states there. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PAGE_SIZE } from '../../../assembly/layout.js';
import { Aperture } from '../../../host/aperture/aperture.js';
import { Bus, type DoorbellLayout } from '../../../host/bus/index.js';
import type { MmapRequest, VhostVdpaFile } from '../../../host/vhost-vdpa/file.js';
import { openVhostVdpaFile } from '../../../host/vhost-vdpa/open.js';
import { createDevice, NAME, Responder } from '../../conformance/protocol.js';
import { hasModule, skip } from '../fixture.js';
import { bindNic, NIC, unbindNic } from './nic.js';

/** Receive, transmit, control. */
const QUEUES = 3;
const GOOD: MmapRequest = { length: PAGE_SIZE, protection: 'w', shared: true, offset: 0 };
/** What is asked for queue 0 besides, one mistake at a time, and several at once. */
const REQUESTS: Partial<MmapRequest>[] = [
  { protection: 'none' },
  { length: 2 * PAGE_SIZE },
  { shared: false },
  { protection: 'r' },
  { protection: 'rw' },
  { length: 2 * PAGE_SIZE, shared: false, protection: 'rw', offset: QUEUES * PAGE_SIZE },
  ...[QUEUES, 65_535, 65_536].map((index) => ({ offset: index * PAGE_SIZE })),
];

/** What is answered to every request: 'mapped', or an errno. */
async function answersOf(file: VhostVdpaFile): Promise<Record<string, string>> {
  const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
  const answers: Record<string, string> = {};
  const queues = Array.from({ length: QUEUES }, (_, index) => ({ offset: index * PAGE_SIZE }));
  for (const request of [...queues, ...REQUESTS]) {
    const { linear } = aperture.reserveWindow(2 * PAGE_SIZE);
    const answer = file.mmap(aperture, linear, { ...GOOD, ...request }).then(
      () => 'mapped',
      (error) => error.code,
    );
    answers[JSON.stringify(request)] = await answer;
  }
  aperture.close();
  return answers;
}

/** The bus's answers for a parent of that layout. */
async function answersOfBus(doorbell: DoorbellLayout): Promise<Record<string, string>> {
  await using bus = new Bus();
  new Responder(await createDevice(bus.control(), { queues: QUEUES }));
  await bus.attach(NAME, { doorbell });
  // Awaited here: the bus closes with this function.
  return await answersOf(await bus.openVhostVdpa(NAME));
}

/** What QEMU has as notify_off_multiplier with page-per-vq, and without. */
const LAYOUTS: [keyof typeof NIC, DoorbellLayout, string[]][] = [
  ['PAGES', { stride: PAGE_SIZE, size: PAGE_SIZE }, ['mapped', 'mapped', 'mapped']],
  ['SHARED_PAGE', { stride: 4, size: 4 }, ['ENOTSUPP', 'EINVAL', 'EINVAL']],
];

if (!hasModule('vp_vdpa')) skip('vp_vdpa', 'this kernel comes without it, and nobody built it');
else
  for (const [nic, layout, queues] of LAYOUTS)
    test(`the bus answers to mappings of ${nic} as the kernel does`, async () => {
      const path = await bindNic(NIC[nic]);
      try {
        const file = await openVhostVdpaFile(path);
        const answers = await answersOf(file);
        await file.close();
        assert.equal(Object.values(answers).slice(0, QUEUES), queues);
        assert.equal(await answersOfBus(layout), answers);
      } finally {
        unbindNic(NIC[nic]);
      }
    });

test.run();
