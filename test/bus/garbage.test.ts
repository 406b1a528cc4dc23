import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isSystemError } from '../../host/errors.js';
import { iocSize, iocType } from '../../host/uapi/ioc.js';
import * as vfio from '../../host/uapi/vfio.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VHOST_MDEV_SET_STATE } from '../../host/uapi/vhost-mdev.js';
import { MdevDialect } from '../../host/vhost-vdpa/mdev-dialect.js';
import { getStatus, NAME, STATUS_DRIVER_OK, setStatus } from './fixture.js';
import { mdevScene } from './mdev-fixture.js';

const ROUNDS = 4000;

let seed = 20;
function random(limit: number): number {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return Math.floor((seed / 2 ** 32) * limit);
}

/** Bytes as a confused or hostile caller gives them: any length, small numbers and wild ones. */
function garbage(size: number): Uint8Array | undefined {
  if (!random(20)) return undefined;
  const bytes = new Uint8Array(random(10) ? size + random(64) : random(size + 1));
  const view = new DataView(bytes.buffer);
  for (let offset = 0; offset + 4 <= bytes.length; offset += 4)
    if (random(2)) view.setUint32(offset, random(3) ? random(4) : 0xffff_0000 + random(0x10000), true);
  return bytes;
}

/** Every ioctl number among the exports of a module. */
function requests(module: Record<string, unknown>, type: number): number[] {
  return Object.values(module).filter(
    (value): value is number =>
      typeof value === 'number' && ((value >>> 8) & 0xff) === type && value > 0xffff,
  );
}

/** Makes a call that may fail only as a kernel does. */
async function survives(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    assert.ok(isSystemError(error), `${error instanceof Error ? error.stack : error}`);
  }
}

// Numbers of descriptors stay out of it: the small ones belong to Node itself.
const WITH_DESCRIPTORS = new Set([
  vhost.VHOST_SET_VRING_KICK,
  vhost.VHOST_SET_VRING_CALL,
  vhost.VHOST_SET_VRING_ERR,
  vhost.VHOST_VDPA_SET_CONFIG_CALL,
]);

test('garbage from a driver of VFIO is answered with errnos, and the device can be driven afterwards', async () => {
  const ofVhost = requests(vhost, vhost.VHOST_VIRTIO).filter((request) => !WITH_DESCRIPTORS.has(request));
  const ofVfio = Object.values(vfio).filter(
    (value): value is number => typeof value === 'number' && iocType(value) === vfio.VFIO_TYPE,
  );
  assert.ok(ofVfio.length > 10);
  await mdevScene(async ({ bus, container, group, openDevice }) => {
    const device = await openDevice();
    await device.ioctl(vhost.VHOST_SET_OWNER);
    const state = [VHOST_MDEV_SET_STATE, vhost.VHOST_SET_FEATURES];
    for (let round = 0; round < ROUNDS; round++) {
      const request = [...ofVhost, ...ofVfio, ...state][random(ofVhost.length + ofVfio.length + 2)]!;
      const argument = garbage(Math.max(iocSize(request), 32));
      await survives(device.ioctl(request, argument));
      if (request !== vfio.VFIO_GROUP_UNSET_CONTAINER) await survives(group.ioctl(request, argument));
      await survives(container.ioctl(request, random(4) ? argument : random(10)));
    }
    await device.close();
    await group.close();
    const next = await MdevDialect.open(bus, NAME);
    await setStatus(next, STATUS_DRIVER_OK);
    assert.is(await getStatus(next), STATUS_DRIVER_OK);
    await next.close();
  });
});

test.run();
