/** What a driver in user space maps, and what the kernel makes of it for the device. */
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Aperture } from '../../../host/aperture/aperture.js';
import { BlockDevice } from '../../../host/index.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTQ_DESC_F_WRITE } from '../../../host/uapi/virtio.js';
import { iotlbMessage } from '../../bus/fixture.js';
import { DATA, HEADER, IOVA, MEMORY_BYTES, type RawDriver, STATUS_BYTE } from '../../models/raw-driver.js';
import { openRawDriver, type VduseDisk, withDisk } from '../disk-fixture.js';
import { until } from '../fixture.js';

const BYTES = 2 ** 20;
/** IOVA of further mappings. */
const ELSEWHERE = IOVA + 0x1_0000_0000n;

/** A disk in memory and a driver for it, which has not started yet. */
async function withDriver(body: (driver: RawDriver, disk: VduseDisk) => Promise<void>): Promise<void> {
  await withDisk(new BlockDevice({ memory: BYTES }), { driver: 'vhost_vdpa' }, async (disk) => {
    const driver = await openRawDriver(disk.path);
    try {
      await body(driver, disk);
    } finally {
      await driver.close();
    }
  });
}

/** Offers a read into `data`, and waits for nothing. */
function offerRead(driver: RawDriver, data: bigint): void {
  driver.data.setUint32(HEADER, 0, true);
  driver.data.setBigUint64(HEADER + 8, 0n, true);
  driver.describe([
    { addr: IOVA + BigInt(HEADER), len: 16 },
    { addr: data, len: 512, flags: VIRTQ_DESC_F_WRITE },
    { addr: IOVA + BigInt(STATUS_BYTE), len: 1, flags: VIRTQ_DESC_F_WRITE },
  ]);
  driver.offer(0);
}

/** The one error of the device, and that a reset by the driver mends it. */
async function breaks(driver: RawDriver, { errors }: VduseDisk, error: RegExp): Promise<void> {
  await until('an error', () => errors.length > 0);
  assert.match(errors[0]!, error);
  assert.ok((await driver.status()) & VIRTIO_CONFIG_S_DRIVER_OK, 'VDUSE has no way to tell the driver');
  await driver.reset();
  await driver.start();
  assert.ok(await driver.works());
  assert.is(errors.length, 1);
}

test('anonymous memory is mapped without an error, and is not there', async () => {
  await withDriver(async (driver, disk) => {
    await driver.start();
    const { address } = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
    const mapping = { iova: ELSEWHERE, size: 4096n, uaddr: address + 4096n, perm: vhost.VHOST_ACCESS_RW };
    await driver.update(mapping);
    offerRead(driver, ELSEWHERE);
    await breaks(driver, disk, /^ERR_RING_UNMAPPED.*the driver does not know/);
  });
});

test('rings where nothing is mapped do not get DRIVER_OK', async () => {
  await withDriver(async (driver, { errors }) => {
    assert.not((await driver.start({ desc: ELSEWHERE })) & VIRTIO_CONFIG_S_DRIVER_OK);
    assert.match(errors[0]!, /^ERR_CONTROL_PLANE.*not mapped/);
    await driver.reset();
    assert.ok((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
    assert.ok(await driver.works());
  });
});

test('what is mapped to be read cannot be written: not by a request, not by an accident', async () => {
  await withDriver(async (driver, disk) => {
    await driver.start();
    await driver.map(vhost.VHOST_ACCESS_RO, ELSEWHERE);
    driver.memory.bytes.fill(0x5a, DATA, DATA + 512);
    // A write to the disk reads the region, and so has it mapped.
    driver.data.setUint32(HEADER, 1, true);
    driver.data.setBigUint64(HEADER + 8, 0n, true);
    driver.describe([
      { addr: IOVA + BigInt(HEADER), len: 16 },
      { addr: ELSEWHERE + BigInt(DATA), len: 512 },
      { addr: IOVA + BigInt(STATUS_BYTE), len: 1, flags: VIRTQ_DESC_F_WRITE },
    ]);
    const { used } = driver;
    driver.offer(0);
    await until('a used buffer', () => driver.used !== used);
    const windows = readFileSync('/proc/self/maps', 'utf8').match(/^.* r--s .*memfd:test.*$/gm) ?? [];
    assert.is(windows.length, 1, 'one window that cannot be written');
    offerRead(driver, ELSEWHERE + BigInt(DATA));
    await until('an error', () => disk.errors.length > 0);
    assert.ok(driver.memory.bytes.subarray(DATA, DATA + 512).every((byte) => byte === 0x5a));
    await breaks(driver, disk, /^ERR_RING_PERMISSION/);
  });
});

test('mappings come and go while requests are served', async () => {
  await withDriver(async (driver, { errors }) => {
    await driver.start();
    for (let round = 0; round < 30; round++) {
      const works = driver.works();
      const iova = ELSEWHERE + BigInt(round) * BigInt(MEMORY_BYTES);
      await driver.map(vhost.VHOST_ACCESS_RW, iova);
      assert.ok(await works);
      const range = { iova, size: BigInt(MEMORY_BYTES) };
      await driver.file.write(iotlbMessage(vhost.VHOST_IOTLB_INVALIDATE, range));
    }
    assert.equal(errors, []);
  });
});

test.run();
