import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isSystemError, RingbellError } from '../../host/errors.js';
import { SysfsDevice } from '../../host/vdpa/sysfs-device.js';

// A folder in the shape of /sys/bus/vdpa: what is written to it shows which of the kernel's files each operation uses.

const root = mkdtempSync(join(tmpdir(), 'ringbell-sysfs-'));
test.after(() => rmSync(root, { recursive: true }));

let buses = 0;

/** A bus with both drivers and one device, bound to one of them, with these folders below it. */
function scene(driver?: string, folders: readonly string[] = []): { bus: string; device: SysfsDevice } {
  const bus = join(root, `${buses++}`);
  for (const name of ['vhost_vdpa', 'virtio_vdpa'])
    mkdirSync(join(bus, 'drivers', name), { recursive: true });
  const path = join(bus, 'devices/disk0');
  for (const folder of ['', ...folders]) mkdirSync(join(path, folder), { recursive: true });
  if (driver !== undefined) symlinkSync(join(bus, 'drivers', driver), join(path, 'driver'));
  return { bus, device: new SysfsDevice('disk0', bus) };
}

test('a device that is not there is nothing', () => {
  const device = new SysfsDevice('none', scene().bus);
  assert.is(device.exists, false);
  assert.is(device.driver, undefined);
  assert.is(device.node, undefined);
  assert.is(device.virtioStatus, undefined);
});

test('the node is that of the driver', () => {
  for (const [driver, folders, node] of [
    [undefined, ['power'], undefined],
    ['vhost_vdpa', ['power', 'vhost-vdpa-12'], '/dev/vhost-vdpa-12'],
    ['virtio_vdpa', ['virtio3'], undefined],
    ['virtio_vdpa', ['virtio3/block/vdb/queue'], '/dev/vdb'],
    ['virtio_vdpa', ['virtio3/net/eth1'], 'eth1'],
  ] as const) {
    const { device } = scene(driver, folders);
    assert.is(device.exists, true);
    assert.is(device.driver, driver);
    assert.is(device.node, node);
  }
});

test('the status of the virtio device is read', () => {
  const { bus, device } = scene('virtio_vdpa', ['virtio3']);
  writeFileSync(join(bus, 'devices/disk0/virtio3/status'), '0x0000000f\n');
  assert.is(device.virtioStatus, 0xf);
});

test('binding overrides the choice of a driver first', async () => {
  const { bus, device } = scene();
  await device.bind('vhost_vdpa');
  assert.is(readFileSync(join(bus, 'devices/disk0/driver_override'), 'utf8'), 'vhost_vdpa');
  assert.is(readFileSync(join(bus, 'drivers/vhost_vdpa/bind'), 'utf8'), 'disk0');
});

test('binding takes the device from another driver, and leaves it with its own', async () => {
  const { bus, device } = scene('virtio_vdpa');
  await device.bind('virtio_vdpa');
  assert.throws(() => readFileSync(join(bus, 'drivers/virtio_vdpa/bind')), /ENOENT/);
  await device.bind('vhost_vdpa');
  assert.is(readFileSync(join(bus, 'drivers/virtio_vdpa/unbind'), 'utf8'), 'disk0');
  assert.is(readFileSync(join(bus, 'drivers/vhost_vdpa/bind'), 'utf8'), 'disk0');
});

test('a driver that refuses the device leaves the choice as it was', async () => {
  for (const [before, after] of [
    ['(null)\n', '\n'],
    ['virtio_vdpa\n', 'virtio_vdpa\n'],
  ] as const) {
    const { bus, device } = scene();
    const override = join(bus, 'devices/disk0/driver_override');
    writeFileSync(override, before);
    // A folder cannot be written to.
    mkdirSync(join(bus, 'drivers/vhost_vdpa/bind'));
    const error = await device.bind('vhost_vdpa').catch((error) => error);
    assert.is(error.code, 'EISDIR');
    assert.is(readFileSync(override, 'utf8'), after);
  }
});

test('a driver that is not loaded is named', async () => {
  const { bus, device } = scene();
  rmSync(join(bus, 'drivers/virtio_vdpa'), { recursive: true });
  const error = await device.bind('virtio_vdpa').catch((error) => error);
  assert.instance(error, RingbellError);
  assert.is(error.code, 'ERR_NOT_SUPPORTED');
  assert.match(error.message, /modprobe virtio_vdpa/);
});

test('a refusal of sysfs is the error', async () => {
  const { bus } = scene();
  const error = await new SysfsDevice('none', bus).bind('vhost_vdpa').catch((error) => error);
  assert.ok(isSystemError(error, 'ENOENT'));
});

test('a device without a driver need not be taken from it', async () => {
  await scene().device.unbind();
});

test('a name that leads elsewhere is refused', () => {
  for (const name of ['', '.', '..', 'a/b', '../vdpa', 'a\0'])
    assert.throws(
      () => new SysfsDevice(name),
      (error: RingbellError) => error.code === 'ERR_ARGUMENT',
    );
});

test.run();
