import { PAGE_SIZE } from '../../../assembly/layout.js';
import { Aperture } from '../../../host/aperture/aperture.js';
import type { MmapRequest, VhostVdpaFile } from '../../../host/vhost-vdpa/file.js';
import { fails } from '../protocol.js';
import { onScene, type Rule } from '../rule.js';

const GOOD: MmapRequest = { length: PAGE_SIZE, protection: 'w', shared: true, offset: 0 };
const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });

async function mmap(driver: VhostVdpaFile, request: Partial<MmapRequest> = {}): Promise<void> {
  const { linear } = aperture.reserveWindow(request.length ?? PAGE_SIZE);
  await driver.mmap(aperture, linear, { ...GOOD, ...request });
}

/** mmap of a doorbell page, in the order in which its conditions are checked. */
export const doorbellRules: readonly Rule[] = [
  {
    name: 'a mapping other than one page, shared, for writing only, is EINVAL',
    source: 'vhost_vdpa_mmap',
    play: onScene(async ({ driver }) => {
      for (const request of [
        { length: 2 * PAGE_SIZE },
        { shared: false },
        { protection: 'r' },
        { protection: 'rw' },
        { length: 2 * PAGE_SIZE, offset: 99 * PAGE_SIZE },
      ] as const)
        await fails(mmap(driver, request), 'EINVAL', 'mmap');
    }),
  },
  {
    name: 'a mapping that nobody can read is the parent’s to judge, even one that nobody can write',
    source: 'vhost_vdpa_mmap',
    play: onScene(async ({ driver }) => {
      for (const protection of ['w', 'none'] as const)
        await fails(mmap(driver, { protection }), 'ENOTSUPP', 'mmap');
    }),
  },
  {
    name: 'a parent without doorbell pages answers 524, whichever queue is asked for',
    source: 'vhost_vdpa_mmap',
    play: onScene(async ({ driver }) => {
      for (const index of [0, 1, 2, 65_536])
        await fails(mmap(driver, { offset: index * PAGE_SIZE }), 'ENOTSUPP', 'mmap');
    }),
  },
  {
    name: 'a doorbell can be asked for without an owner',
    source: 'vhost_vdpa_mmap',
    play: onScene(async ({ reopen }) => {
      await fails(mmap(await reopen()), 'ENOTSUPP', 'mmap');
    }),
  },
];
