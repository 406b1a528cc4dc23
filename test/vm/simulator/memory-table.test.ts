/** Memory tables under a running disk of the kernel's simulator, by each way in which that takes mappings. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SharedMemory } from '../../../host/aperture/shared-memory.js';
import { isSystemError, type RingbellError } from '../../../host/errors.js';
import { u64 } from '../../../host/uapi/codec.js';
import * as vhost from '../../../host/uapi/vhost.js';
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTQ_DESC_F_WRITE,
} from '../../../host/uapi/virtio.js';
import { IotlbMapper } from '../../../host/vhost-vdpa/iotlb-mapper.js';
import type { MemoryRegion } from '../../../host/vhost-vdpa/memory-table.js';
import { mask } from '../../bus/fixture.js';
import { DATA, HEADER, IOVA, type RawDriver, STATUS_BYTE } from '../../models/raw-driver.js';
import { openRawDriver } from '../disk-fixture.js';
import {
  addSimulator,
  bindDriver,
  hasModule,
  modprobe,
  removeDevice,
  shell,
  skip,
  until,
} from '../fixture.js';

const PAGE = 4096;
const PAGES = 64;
/** IOVA of the tables' first page: not the driver's own memory, which it maps by itself. */
const TABLES = IOVA + 0x1_0000_0000n;
const BYTE = 0x5a;
const FEATURES = [VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM];
const BACKEND_FEATURES = mask(vhost.VHOST_BACKEND_F_IOTLB_MSG_V2, vhost.VHOST_BACKEND_F_IOTLB_BATCH);
const root = process.env.RINGBELL_VM_MODULES ?? '/';

const memory = SharedMemory.create(PAGES * PAGE);

/** Pages of a table, which are those of the memory from `from` on. */
const region = (page: number, pages: number, from = page): MemoryRegion => ({
  iova: TABLES + BigInt(page * PAGE),
  bytes: BigInt(pages * PAGE),
  address: memory.address + BigInt(from * PAGE),
});

/** Has the disk write to a page of the table: the page of the memory where that arrived; undefined where nothing is mapped. */
async function arrival(driver: RawDriver, page: number): Promise<number | undefined> {
  memory.bytes.fill(0);
  driver.data.setUint32(HEADER, 0, true);
  driver.data.setBigUint64(HEADER + 8, 0n, true);
  driver.data.setUint8(STATUS_BYTE, 0xff);
  driver.describe([
    { addr: IOVA + BigInt(HEADER), len: 16 },
    { addr: TABLES + BigInt(page * PAGE), len: 512, flags: VIRTQ_DESC_F_WRITE },
    { addr: IOVA + BigInt(STATUS_BYTE), len: 1, flags: VIRTQ_DESC_F_WRITE },
  ]);
  driver.offer(0);
  await until('the status of a request', () => driver.data.getUint8(STATUS_BYTE) !== 0xff);
  const found = memory.bytes.indexOf(BYTE);
  assert.is(driver.data.getUint8(STATUS_BYTE), found < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
  return found < 0 ? undefined : found / PAGE;
}

if (!hasModule('vdpa_sim_blk')) {
  skip('simulated disk', 'this kernel comes without vdpa_sim_blk, and nobody built it');
} else {
  modprobe('vhost_vdpa');
  for (const [name, parameters] of [
    ['whole tables, by process addresses', 'batch_mapping=1 use_va=1'],
    ['one mapping at a time, by process addresses', 'batch_mapping=0 use_va=1'],
    ['whole tables, of pinned memory', 'batch_mapping=1 use_va=0'],
    ['one mapping at a time, of pinned memory', 'batch_mapping=0 use_va=0'],
  ])
    test(`${name}: the disk finds what each table says`, async () => {
      // Whoever came before may have loaded it, and its drivers, with other parameters.
      shell(`modprobe -d ${root} -r vdpa_sim_blk vdpa_sim_net vdpa_sim`);
      shell(`modprobe -d ${root} vdpa_sim ${parameters}`);
      addSimulator('blk', 'disk0');
      const driver = await openRawDriver(await bindDriver('disk0', 'vhost_vdpa'));
      await driver.file.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(BACKEND_FEATURES));
      const mapper = new IotlbMapper(driver.file, BACKEND_FEATURES);
      const set = (regions: MemoryRegion[], mayCut = false) =>
        mapper.setMemTable(regions, 0, async () => mayCut);
      await driver.start({ features: FEATURES });
      driver.memory.bytes.fill(BYTE, DATA, DATA + 512);
      assert.is(await driver.request(1, 0n, 512), VIRTIO_BLK_S_OK);

      assert.equal(await set([region(0, 4), region(8, 2), region(12, 1), region(16, 1)]), {
        messages: 6,
        updates: 4,
        invalidations: 0,
        confirmed: true,
      });
      for (const [page, where] of [
        [0, 0],
        [3, 3],
        [4, undefined],
        [9, 9],
        [16, 16],
      ] as const)
        assert.is(await arrival(driver, page), where, `page ${page}`);

      // One region has come to lie elsewhere, one goes, one comes, one is split, and goes on.
      const next = [region(0, 2), region(2, 2), region(8, 2, 32), region(16, 1), region(20, 4, 40)];
      assert.equal(await set(next), { messages: 5, updates: 2, invalidations: 1, confirmed: true });
      for (const [page, where] of [
        [1, 1],
        [3, 3],
        [8, 32],
        [9, 33],
        [12, undefined],
        [16, 16],
        [23, 43],
      ] as const)
        assert.is(await arrival(driver, page), where, `page ${page}`);
      assert.is((await set(next)).messages, 0);

      // A region is cut: what is left of it is found again.
      const refused = await set([region(0, 1), region(2, 2)]).catch((error: RingbellError) => error.code);
      assert.is(refused, 'ERR_MEMORY_IN_USE');
      await set([region(0, 3), ...next.slice(2)], true);
      assert.is(await arrival(driver, 2), 2);
      assert.is(await arrival(driver, 3), undefined);

      // One that the kernel refuses leaves everything as it was.
      const nowhere = { ...region(40, 1), address: 2n ** 63n };
      const error = await set([region(0, 3), ...next.slice(2), region(30, 2), nowhere]).catch(
        (caught) => caught,
      );
      assert.ok(isSystemError(error, 'EFAULT'), `${error}`);
      assert.is(await arrival(driver, 2), 2);
      assert.is(await arrival(driver, 30), undefined);

      await set([], true);
      assert.is(await arrival(driver, 0), undefined);
      await driver.close();
      removeDevice('disk0');
      shell(`modprobe -d ${root} -r vdpa_sim_blk vdpa_sim_net vdpa_sim`);
    });

  test.after(() => memory.close());
}

test.run();
