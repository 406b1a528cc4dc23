import * as assert from 'uvu/assert';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import type { VhostVdpaFile } from '../../../host/vhost-vdpa/file.js';
import { fails } from '../protocol.js';
import { onScene, type Rule } from '../rule.js';

const CONFIG = Uint8Array.from({ length: 16 }, (_, index) => index + 1);
/** Ranges that no config space of 16 bytes has. */
const OUTSIDE: readonly (readonly [offset: number, bytes: number])[] = [
  [0, 0],
  [17, 1],
  [16, 1],
  [0, 17],
  [13, 4],
  [1, 0xffff_ffff],
];

/** `len` bytes of the config space, in a buffer with room for one more. */
async function read(driver: VhostVdpaFile, off: number, len: number): Promise<Uint8Array> {
  const argument = vhost.vhostVdpaConfig.encode({ off, len, buf: new Uint8Array(len + 1) });
  await driver.ioctl(vhost.VHOST_VDPA_GET_CONFIG, argument);
  return argument.subarray(vhost.vhostVdpaConfig.size);
}

/** The config space from both sides. */
export const configSpaceRules: readonly Rule[] = [
  {
    name: 'the config space is read in any piece; no bytes, or bytes past its end, are EINVAL',
    source: 'vhost_vdpa_config_validate',
    play: onScene(
      async ({ driver }) => {
        assert.equal(await read(driver, 4, 12), Uint8Array.of(5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0));
        assert.equal(await read(driver, 15, 1), Uint8Array.of(16, 0));
        for (const [off, len] of OUTSIDE)
          for (const request of [vhost.VHOST_VDPA_GET_CONFIG, vhost.VHOST_VDPA_SET_CONFIG]) {
            const argument = vhost.vhostVdpaConfig.encode({ off, len, buf: new Uint8Array(32) });
            await fails(driver.ioctl(request, argument), 'EINVAL', 'ioctl');
          }
      },
      { config: CONFIG },
    ),
  },
  {
    name: 'a driver writes to the config space without effect, and without a word',
    source: 'vduse_vdpa_set_config',
    play: onScene(
      async ({ driver, responder }) => {
        const before = responder.requests.length;
        const argument = vhost.vhostVdpaConfig.encode({ off: 0, len: 4, buf: new Uint8Array(4) });
        await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG, argument);
        assert.equal(await read(driver, 0, 4), Uint8Array.of(1, 2, 3, 4, 0));
        assert.is(responder.requests.length, before);
      },
      { config: CONFIG },
    ),
  },
  {
    name: 'the device changes its config space at any time, and the driver sees it at once',
    source: 'vduse_dev_ioctl, VDUSE_DEV_SET_CONFIG',
    play: onScene(
      async ({ device, driver }) => {
        const write = (offset: number, length: number, buffer: Uint8Array) =>
          device.ioctl(vduse.VDUSE_DEV_SET_CONFIG, vduse.vduseConfigData.encode({ offset, length, buffer }));
        await write(12, 4, Uint8Array.of(1, 2, 3, 4));
        assert.equal(await read(driver, 11, 5), Uint8Array.of(12, 1, 2, 3, 4, 0));
        for (const [offset, length] of OUTSIDE)
          await fails(write(offset, length, new Uint8Array(32)), 'EINVAL', 'ioctl');
        assert.equal(await read(driver, 11, 5), Uint8Array.of(12, 1, 2, 3, 4, 0));
      },
      { config: CONFIG },
    ),
  },
  {
    name: 'a device without a config space has nothing to read',
    source: 'vhost_vdpa_config_validate',
    play: onScene(
      async ({ driver }) => {
        await fails(read(driver, 0, 1), 'EINVAL');
      },
      { config: new Uint8Array(0) },
    ),
  },
];
