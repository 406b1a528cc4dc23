import { fstatSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addressSpace } from '../../host/aperture/address-space.js';
import { Aperture } from '../../host/aperture/aperture.js';
import { Bus, type DoorbellLayout, type DoorbellLayoutName } from '../../host/bus/index.js';
import { RingbellError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { VduseFile } from '../../host/vduse/file.js';
import type { MmapRequest, VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import { createDevice, fails, iotlbMessage, NAME, scene } from './fixture.js';

const PAGE = 4096;
const LARGE_PAGE = 65536;
const aperture = Aperture.create({ bytes: 2 ** 24, privateBytes: 2 ** 16 });

/** Maps the doorbell of queue 0 as a driver has to, but for what `request` says. */
function mmap(driver: VhostVdpaFile, request: Partial<MmapRequest> = {}, linear?: number): Promise<void> {
  const length = driver.pageSize;
  const good: MmapRequest = { length, protection: 'w', shared: true, offset: 0 };
  return driver.mmap(aperture, linear ?? aperture.reserveWindow(length).linear, { ...good, ...request });
}

/** What each queue's mapping answers: an errno, or 'mapped'. */
async function answers(driver: VhostVdpaFile, queues: number): Promise<string[]> {
  const codes: string[] = [];
  for (let index = 0; index < queues; index++)
    codes.push(
      await mmap(driver, { offset: index * driver.pageSize }).then(
        () => 'mapped',
        (error) => error.code,
      ),
    );
  return codes;
}

/** Stores `value` as a driver's doorbell store does. */
function ring(linear: number, value: number): void {
  const source = aperture.allocate(8);
  aperture.data.setUint16(source, value, true);
  aperture.engine.copy(linear, source, 2);
}

/** What the device reads on a queue's page. */
async function readDoorbell(device: VduseFile, index: number): Promise<number> {
  const page = await device.doorbell(index);
  assert.ok(page);
  const own = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
  const { linear } = own.map(page, PAGE, 'r');
  loadAddon().close(page.fd);
  const copy = own.allocate(8);
  own.engine.copy(copy, linear, 2);
  own.close();
  return own.data.getUint16(copy, true);
}

test('most parents have no doorbell page: 524', async () => {
  await scene(async ({ driver, device }) => {
    const error = await fails(mmap(driver), 'ENOTSUPP', 'mmap');
    assert.is((error as NodeJS.ErrnoException).errno, -524);
    // Asked before the queue index is.
    await fails(mmap(driver, { offset: 99 * PAGE }), 'ENOTSUPP');
    assert.is(await device.doorbell(0), undefined);
  });
});

test('a mapping other than one page, shared, for writing only, is EINVAL on any parent', async () => {
  for (const layout of [
    {},
    { doorbell: 'page-per-vq' },
    { doorbell: '2-byte' },
    { doorbell: 'shared' },
  ] as const)
    await scene(async ({ driver }) => {
      for (const request of [
        { length: 2 * PAGE },
        { length: PAGE + 1 },
        { length: 0 },
        { shared: false },
        { protection: 'r' },
        { protection: 'rw' },
        { offset: 2048 },
      ] as const)
        await fails(mmap(driver, request), 'EINVAL', 'mmap');
    }, layout);
});

test('only reading is refused, as in vhost_vdpa_mmap: a page that cannot be accessed at all is mapped', async () => {
  await scene(
    async ({ driver }) => {
      const { linear } = aperture.reserveWindow(PAGE);
      await mmap(driver, { protection: 'none' }, linear);
      assert.throws(() => ring(linear, 0), 'memory access out of bounds');
    },
    { doorbell: 'page-per-vq' },
  );
});

test('a part of a page is that page, as for every mmap', async () => {
  await scene(
    async ({ driver }) => {
      await mmap(driver, { length: 2 });
    },
    { doorbell: 'page-per-vq' },
  );
});

test('a queue that the device does not have has no doorbell: EINVAL', async () => {
  await scene(
    async ({ driver, device }) => {
      for (const index of [2, 65_535, 65_536, -1])
        await fails(mmap(driver, { offset: index * PAGE }), 'EINVAL');
      await fails(device.doorbell(2), 'EINVAL');
    },
    { doorbell: 'page-per-vq' },
  );
});

test('a page per queue: a store shows on the device’s side, on the page of that queue', async () => {
  await scene(
    async ({ driver, device }) => {
      const { linear } = aperture.reserveWindow(PAGE);
      await mmap(driver, { offset: PAGE }, linear);
      ring(linear, 1);
      assert.equal([await readDoorbell(device, 0), await readDoorbell(device, 1)], [0, 1]);
    },
    { doorbell: 'page-per-vq' },
  );
});

test('a shared doorbell: every queue maps the one page, which the index stored tells apart', async () => {
  await scene(
    async ({ driver, device }) => {
      const pages = [0, 1].map(() => aperture.reserveWindow(PAGE).linear);
      for (const [index, linear] of pages.entries()) await mmap(driver, { offset: index * PAGE }, linear);
      for (const [index, linear] of pages.entries()) {
        ring(linear, index);
        assert.equal([await readDoorbell(device, 0), await readDoorbell(device, 1)], [index, index]);
      }
    },
    { doorbell: 'shared' },
  );
});

/** What a host with pages of that size makes of each queue of a device of four. */
const JUDGEMENTS: [string, DoorbellLayoutName | DoorbellLayout, number, string[]][] = [
  ['a page per queue', 'page-per-vq', PAGE, ['mapped', 'mapped', 'mapped', 'mapped']],
  // Only the first one starts a page, and it is not all its own.
  ['doorbells of two bytes', '2-byte', PAGE, ['ENOTSUPP', 'EINVAL', 'EINVAL', 'EINVAL']],
  ['a shared doorbell', 'shared', PAGE, ['mapped', 'mapped', 'mapped', 'mapped']],
  [
    'a page that the doorbell shares with other registers',
    { stride: PAGE, size: 64 },
    PAGE,
    ['ENOTSUPP', 'ENOTSUPP', 'ENOTSUPP', 'ENOTSUPP'],
  ],
  [
    'a page that begins with other registers',
    { stride: PAGE, size: PAGE - 64, offset: 64 },
    PAGE,
    ['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL'],
  ],
  [
    'doorbells of two pages',
    { stride: 2 * PAGE, size: 2 * PAGE },
    PAGE,
    ['ENOTSUPP', 'ENOTSUPP', 'ENOTSUPP', 'ENOTSUPP'],
  ],
  [
    'a control queue in software',
    { stride: PAGE, size: PAGE, software: [3] },
    PAGE,
    ['mapped', 'mapped', 'mapped', 'ENOTSUPP'],
  ],
  [
    'a shared doorbell in the last 4 KiB of its BAR',
    { stride: 0, size: PAGE, offset: LARGE_PAGE - PAGE, barSize: LARGE_PAGE },
    PAGE,
    ['mapped', 'mapped', 'mapped', 'mapped'],
  ],
  [
    'the same on a host with pages of 64 KiB',
    { stride: 0, size: PAGE, offset: LARGE_PAGE - PAGE, barSize: LARGE_PAGE },
    LARGE_PAGE,
    ['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL'],
  ],
  [
    'doorbells of 4 KiB on a host with pages of 64 KiB',
    'page-per-vq',
    LARGE_PAGE,
    ['ENOTSUPP', 'EINVAL', 'EINVAL', 'EINVAL'],
  ],
  [
    'a BAR of 4 KiB, all of it doorbell, that starts a page of 64 KiB',
    { stride: 0, size: PAGE, barSize: PAGE, barAddress: BigInt(LARGE_PAGE) },
    LARGE_PAGE,
    ['ENOTSUPP', 'ENOTSUPP', 'ENOTSUPP', 'ENOTSUPP'],
  ],
  [
    'a BAR of 4 KiB in the middle of a page of 64 KiB',
    { stride: 0, size: PAGE, barSize: PAGE, barAddress: BigInt(3 * PAGE) },
    LARGE_PAGE,
    ['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL'],
  ],
  [
    'doorbells of 64 KiB on such a host',
    { stride: LARGE_PAGE, size: LARGE_PAGE },
    LARGE_PAGE,
    ['mapped', 'mapped', 'mapped', 'mapped'],
  ],
  [
    'doorbells of 16 KiB on a host with pages of 16 KiB',
    { stride: 4 * PAGE, size: 4 * PAGE },
    4 * PAGE,
    ['mapped', 'mapped', 'mapped', 'mapped'],
  ],
];

for (const [what, doorbell, pageSize, expected] of JUDGEMENTS)
  test(`${what}: ${[...new Set(expected)].join(', ')}`, () =>
    scene(
      async ({ driver, device }) => {
        assert.is(driver.pageSize, pageSize);
        assert.equal(await answers(driver, expected.length), expected);
        // Nobody watches what nobody can ring.
        const pages = await Promise.all(expected.map((_, index) => device.doorbell(index)));
        for (const page of pages) if (page) loadAddon().close(page.fd);
        assert.equal(
          pages.map((page) => page !== undefined),
          expected.map((answer) => answer === 'mapped'),
        );
      },
      { queues: 4, doorbell, pageSize },
    ));

test('a doorbell in the last page of a BAR is mapped, and nothing behind the BAR', async () => {
  await scene(
    async ({ driver, device }) => {
      const { linear } = aperture.reserveWindow(PAGE);
      await mmap(driver, {}, linear);
      const page = await device.doorbell(0);
      assert.ok(page);
      assert.equal([fstatSync(page.fd).size, page.offset], [4 * PAGE, BigInt(3 * PAGE)]);
      loadAddon().close(page.fd);
      ring(linear, 7);
      assert.is(await readDoorbell(device, 0), 7);
    },
    { doorbell: { stride: 0, size: PAGE, offset: 3 * PAGE, barSize: 4 * PAGE } },
  );
});

test('a parent that states more than it has is refused: ERR_ARGUMENT', async () => {
  await using bus = new Bus();
  await createDevice(bus);
  const refused: DoorbellLayout[] = [
    // The whole page of a host with pages of 64 KiB, of a doorbell of 4 KiB: what lies behind it is somebody else's.
    { stride: 0, size: LARGE_PAGE, barSize: PAGE },
    { stride: 0, size: LARGE_PAGE, offset: LARGE_PAGE - PAGE, barSize: LARGE_PAGE },
    { stride: PAGE, size: PAGE, barSize: PAGE },
    // Doorbells that overlap: each one's page would show the others.
    { stride: 2, size: PAGE },
    { stride: 1, size: 1 },
    { stride: 0, size: 0 },
    { stride: PAGE, size: PAGE, offset: 1 },
    { stride: PAGE, size: PAGE, barSize: 3 * PAGE },
    { stride: PAGE, size: PAGE, barSize: 4 * PAGE, barAddress: BigInt(PAGE) },
    // A BAR that does not lie on a multiple of its size, which it has by itself.
    { stride: PAGE, size: PAGE, offset: PAGE / 2, barAddress: BigInt(PAGE / 2) },
    { stride: PAGE, size: PAGE, barAddress: -BigInt(PAGE) },
    { stride: PAGE, size: PAGE, software: [-1] },
    { stride: Number.NaN, size: PAGE },
  ];
  for (const doorbell of refused) {
    const error: unknown = await bus.attach(NAME, { doorbell }).catch((caught: unknown) => caught);
    assert.instance(error, RingbellError, JSON.stringify(Object.values(doorbell).map(String)));
    assert.is((error as RingbellError).code, 'ERR_ARGUMENT');
    assert.is(bus.list()[0]?.attached, false);
  }
});

test('no host has pages of 8 KiB', () => {
  for (const pageSize of [0, 2048, 8192, 2 ** 21])
    assert.throws(() => new Bus({ pageSize }), /^pageSize must be/);
});

test('a doorbell page is no memory that a device can be given', async () => {
  await scene(
    async ({ driver, responder }) => {
      const { linear } = aperture.reserveWindow(PAGE);
      await mmap(driver, {}, linear);
      const uaddr = aperture.address + BigInt(linear);
      assert.equal(addressSpace.resolve(uaddr, BigInt(PAGE)), []);
      await driver.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, { iova: 0n, size: BigInt(PAGE), uaddr }));
      assert.is(responder.of(vduse.VDUSE_UPDATE_IOTLB).length, 0);
    },
    { doorbell: 'page-per-vq' },
  );
});

test('a driver that has closed, or whose device has gone, maps nothing', async () => {
  await scene(
    async ({ bus, driver }) => {
      await bus.detach(NAME);
      await fails(mmap(driver), 'ENODEV', 'mmap');
      await driver.close();
      await fails(mmap(driver), 'EBADF', 'mmap');
    },
    { doorbell: 'page-per-vq' },
  );
});

test.run();
