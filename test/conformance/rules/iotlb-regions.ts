import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../../host/native/addon.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { onMemory, PAGE, region } from '../mapping.js';
import { fails, iotlbMessage, LAST_IOVA } from '../protocol.js';
import { onScene, type Rule } from '../rule.js';
import { lacksApi1 } from './lacks.js';

const { VHOST_IOTLB_UPDATE } = vhost;

/** Flag of a descriptor in /proc/self/fdinfo. */
const O_CLOEXEC = 0o2000000;

/** What a device is told of a region that it asks for. */
export const iotlbRegionRules: readonly Rule[] = [
  {
    name: 'a descriptor given for a region is a fresh one, which a child process inherits',
    source: 'vduse_dev_ioctl, VDUSE_IOTLB_GET_FD',
    differs: [{ at: 'bus', why: 'it is close-on-exec there, like every other descriptor of the package' }],
    play: onMemory(async ({ at, device, driver }, uaddr) => {
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: 8192n, uaddr }));
      const entry = () => vduse.vduseIotlbEntry.encode({ start: 5000n, last: 5000n });
      const first = await device.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry());
      const second = await device.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry());
      assert.is.not(first, second);
      const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${first}`, 'utf8'))?.[1];
      assert.is((Number.parseInt(flags!, 8) & O_CLOEXEC) !== 0, at('bus'));
      for (const fd of [first, second]) loadAddon().close(fd);
    }),
  },
  {
    name: 'reserved fields of VDUSE_IOTLB_GET_FD2 are zero, else EINVAL',
    source: 'vduse_dev_ioctl, VDUSE_IOTLB_GET_FD2',
    lacks: lacksApi1,
    play: onMemory(
      async ({ device, driver }, uaddr) => {
        await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: PAGE, uaddr }));
        const reserved = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        const entry = vduse.vduseIotlbEntryV2.encode({ start: 0n, last: LAST_IOVA, reserved });
        await fails(device.ioctl(vduse.VDUSE_IOTLB_GET_FD2, entry), 'EINVAL', 'ioctl');
        assert.is((await region(device, 0n, LAST_IOVA, 0))?.start, PAGE);
      },
      { apiVersion: 1n },
    ),
  },
  {
    name: 'a region can be asked for without its file; with vhost-vdpa it is never a bounce buffer',
    source: 'vduse_dev_ioctl, VDUSE_IOTLB_GET_INFO',
    play: onMemory(async ({ device, driver }, uaddr) => {
      const info = vduse.vduseIovaInfo.encode({ start: 0n, last: LAST_IOVA });
      await fails(device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, info), 'EINVAL', 'ioctl');
      await driver.write(iotlbMessage(VHOST_IOTLB_UPDATE, { iova: PAGE, size: 8192n, uaddr }));
      await device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, info);
      const { start, last, capability } = vduse.vduseIovaInfo.decode(info);
      assert.equal([start, last, capability], [PAGE, PAGE + 8191n, 0n]);
      const reversed = vduse.vduseIovaInfo.encode({ start: 2n, last: 1n });
      await fails(device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, reversed), 'EINVAL', 'ioctl');
    }),
  },
  {
    name: 'VDUSE_IOTLB_GET_INFO answers EFAULT to reserved fields and to an unknown address space',
    source: 'vduse_dev_ioctl, VDUSE_IOTLB_GET_INFO',
    differs: [{ at: '6.12', why: 'EINVAL until the ioctl learnt of address spaces' }],
    play: onScene(async ({ at, device }) => {
      const errno = at('6.12') ? 'EINVAL' : 'EFAULT';
      for (const bad of [{ reserved: [0, 0, 0, 0, 1] }, { asid: 1 }]) {
        const info = vduse.vduseIovaInfo.encode({ last: LAST_IOVA, ...bad });
        await fails(device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, info), errno, 'ioctl');
      }
    }),
  },
];
