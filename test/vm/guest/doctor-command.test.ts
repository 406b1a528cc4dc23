import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, type Check, type Probe, probe, serve } from '../../../host/index.js';
import { run } from '../../cli/command-line.js';
import { kernelIsSince, modprobe } from '../fixture.js';

const AUTOPROBE = '/sys/bus/vdpa/drivers_autoprobe';

modprobe('vduse', 'vhost_vdpa', 'virtio_vdpa', 'virtio_blk');

/** A check that was made. */
const check = ({ checks }: Probe, name: string): Check => checks.find((each) => each.name === name)!;

test('with the modules loaded, a device can be created and attached', () => {
  const found = probe();
  assert.is(found.vduse, true);
  for (const name of ['vdpa', 'vduse', 'virtio_vdpa', 'virtio_blk', 'vhost_vdpa'])
    assert.is(check(found, `module ${name}`).state, 'ok', name);
  for (const name of ['/dev/vduse/control', 'vDPA netlink', 'CAP_NET_ADMIN'])
    assert.is(check(found, name).state, 'ok', name);
});

test('the VDUSE API is told by version and features', () => {
  const { found } = check(probe(), 'VDUSE API');
  assert.match(found, kernelIsSince('7.0') ? /^version 1, / : /^version 0, no features/);
  assert.is(found.includes('VDUSE_F_QUEUE_READY'), kernelIsSince('7.3'));
});

test('who takes a new device is told', () => {
  const before = readFileSync(AUTOPROBE, 'latin1');
  try {
    writeFileSync(AUTOPROBE, '0');
    assert.match(check(probe(), 'drivers_autoprobe').found, /^off/);
    writeFileSync(AUTOPROBE, '1');
    assert.match(check(probe(), 'drivers_autoprobe').found, /^on: /);
  } finally {
    writeFileSync(AUTOPROBE, before);
  }
});

test('a device for programs can be driven', async () => {
  assert.is(probe().vhostVdpa, false);
  const device = await serve(new BlockDevice({ memory: 2 ** 20 }), {
    name: 'disk0',
    transport: 'vduse',
    attach: 'vhost',
  });
  const found = probe();
  await device.close();
  assert.is(found.vhostVdpa, true);
  assert.match(check(found, '/dev/vhost-vdpa-*').found, /^\/dev\/vhost-vdpa-\d+$/);
  assert.is(check(found, 'hardware').state, 'warning');
});

test('doctor says so', async () => {
  const { status, stdout } = await run(['doctor']);
  assert.is(status, 0);
  assert.match(stdout, /VDUSE: ready/);
  assert.match(stdout, /ok +VDUSE API +version [01]/);
});

test.run();
