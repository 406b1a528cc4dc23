import { once } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTIO_BLK_SECTOR_SIZE } from '../../assembly/virtio.js';
import type { BlockConfig } from '../../host/drivers/block-config.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { VduseFile } from '../../host/vduse/file.js';
import { CAPACITY, diskScene, rejects } from './block-fixture.js';

async function resize(file: VduseFile, sectors: bigint): Promise<void> {
  const buffer = u64.encode(sectors);
  await file.ioctl(
    vduse.VDUSE_DEV_SET_CONFIG,
    vduse.vduseConfigData.encode({ offset: 0, length: 8, buffer }),
  );
  await file.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
}

test('a change of capacity is an event, and holds from then on', () =>
  diskScene(async ({ disk, file }) => {
    const changed = once(disk, 'config') as Promise<[BlockConfig]>;
    await resize(file, BigInt(CAPACITY / VIRTIO_BLK_SECTOR_SIZE / 2));
    const [config] = await changed;
    assert.is(config.capacity, CAPACITY / 2);
    assert.is(disk.capacity, CAPACITY / 2);
    await rejects(disk.read(CAPACITY / 2, 512), 'ERR_OUT_OF_RANGE');
    await disk.read(CAPACITY / 2 - 512, 512);
  }));

test('a config space that cannot be read any more breaks the disk', () =>
  diskScene(async ({ bus, disk, file }) => {
    const reported = once(disk, 'error');
    bus.faults.inject({ point: 'ioctl', request: vhost.VHOST_VDPA_GET_CONFIG, errno: 'EIO' });
    await resize(file, 8n);
    const [error] = await reported;
    assert.is(error.code, 'ERR_DEVICE_BROKEN');
    assert.match(error.message, /config space cannot be read/);
    await rejects(disk.read(0, 512), 'ERR_DEVICE_BROKEN');
  }));

test('a capacity that cannot be breaks the disk', () =>
  diskScene(async ({ disk, file }) => {
    const reported = once(disk, 'error');
    await resize(file, 2n ** 64n - 1n);
    await reported;
    await rejects(disk.read(0, 512), 'ERR_DEVICE_BROKEN');
  }));

test.run();
