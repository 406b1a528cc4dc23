import { closeSync, openSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../host/native/addon.js';
import { s32, u8, u16, u32, u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VIRTIO_CONFIG_S_FAILED, VIRTIO_ID_BLOCK } from '../../host/uapi/virtio.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import {
  FEATURES,
  fails,
  getStatus,
  LAST_IOVA,
  NAME,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  scene,
  setStatus,
  vringState,
} from './fixture.js';

const mask = (...bits: number[]) => bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);

async function get<T>(
  driver: VhostVdpaFile,
  request: number,
  codec: { size: number; decode(b: Uint8Array): T },
) {
  const argument = new Uint8Array(codec.size);
  assert.is(await driver.ioctl(request, argument), 0);
  return codec.decode(argument);
}

function configArgument(off: number, len: number, bytes = len): Uint8Array {
  return vhost.vhostVdpaConfig.encode({ off, len, buf: new Uint8Array(bytes) });
}

test('what the device is can be asked without an owner', async () => {
  await scene(
    async ({ bus, driver }) => {
      await driver.close();
      const fresh = await bus.openVhostVdpa(NAME);
      assert.is(await get(fresh, vhost.VHOST_GET_FEATURES, u64), FEATURES);
      assert.is(await get(fresh, vhost.VHOST_VDPA_GET_DEVICE_ID, u32), VIRTIO_ID_BLOCK);
      assert.is(await get(fresh, vhost.VHOST_VDPA_GET_STATUS, u8), 0);
      assert.is(await get(fresh, vhost.VHOST_VDPA_GET_VRING_NUM, u16), 512);
      assert.is(await get(fresh, vhost.VHOST_VDPA_GET_VQS_COUNT, u32), 3);
      assert.is(await get(fresh, vhost.VHOST_VDPA_GET_CONFIG_SIZE, u32), 16);
      assert.is(await get(fresh, vhost.VHOST_VDPA_GET_GROUP_NUM, u32), 1);
      assert.is(await get(fresh, vhost.VHOST_VDPA_GET_AS_NUM, u32), 1);
      assert.equal(await get(fresh, vhost.VHOST_VDPA_GET_IOVA_RANGE, vhost.vhostVdpaIovaRange), {
        first: 0n,
        last: LAST_IOVA,
      });
    },
    { queues: 3, queueSize: 512 },
  );
});

test('what falls through to vhost needs an owner: EPERM', async () => {
  await scene(async ({ bus, driver }) => {
    await driver.close();
    const fresh = await bus.openVhostVdpa(NAME);
    for (const request of [
      vhost.VHOST_SET_VRING_NUM,
      vhost.VHOST_SET_VRING_ADDR,
      vhost.VHOST_SET_VRING_BASE,
      vhost.VHOST_GET_VRING_BASE,
      vhost.VHOST_SET_VRING_KICK,
      vhost.VHOST_SET_VRING_CALL,
      vhost.VHOST_SET_VRING_ERR,
      vhost.VHOST_SET_MEM_TABLE,
      vhost.VHOST_RESET_OWNER,
      vhost.VHOST_VDPA_SET_VRING_ENABLE,
      vhost.VHOST_VDPA_GET_VRING_GROUP,
      vhost.VHOST_VDPA_SET_GROUP_ASID,
      vhost.VHOST_VDPA_GET_VRING_DESC_GROUP,
      vhost.VHOST_VDPA_GET_VRING_SIZE,
    ])
      await fails(fresh.ioctl(request, new Uint8Array(64)), 'EPERM', 'ioctl');
  });
});

test('there is one owner: EBUSY', async () => {
  await scene(async ({ driver }) => {
    await fails(driver.ioctl(vhost.VHOST_SET_OWNER), 'EBUSY');
  });
});

test('an argument that is missing or too short is EFAULT', async () => {
  await scene(async ({ driver }) => {
    await fails(driver.ioctl(vhost.VHOST_GET_FEATURES), 'EFAULT');
    await fails(driver.ioctl(vhost.VHOST_GET_FEATURES, new Uint8Array(7)), 'EFAULT');
    await fails(driver.ioctl(vhost.VHOST_SET_VRING_ADDR, new Uint8Array(39)), 'EFAULT');
    await fails(driver.ioctl(vhost.VHOST_VDPA_GET_CONFIG, configArgument(0, 16, 15)), 'EFAULT');
    await fails(driver.ioctl(vhost.VHOST_RESET_OWNER), 'EFAULT');
  });
});

test('an unknown ioctl and the dirty log are ENOTTY', async () => {
  await scene(async ({ driver }) => {
    for (const request of [
      0x4008affe,
      vhost.VHOST_SET_LOG_BASE,
      vhost.VHOST_SET_LOG_FD,
      vhost.VHOST_RESET_OWNER,
      vhost.VHOST_SET_VRING_ENDIAN,
      vhost.VHOST_GET_VRING_ENDIAN,
    ])
      await fails(driver.ioctl(request, new Uint8Array(64)), 'ENOTTY', 'ioctl');
  });
});

test('a queue that the device does not have is ENOBUFS, before anything else about it', async () => {
  await scene(async ({ driver }) => {
    await fails(driver.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(2, 0)), 'ENOBUFS');
    await fails(driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0xffffffff, 1)), 'ENOBUFS');
    await fails(driver.ioctl(vhost.VHOST_VDPA_SET_GROUP_ASID, vringState(2, 9)), 'ENOBUFS');
  });
});

test('status bits can be added; taking one away is EINVAL, 0 is a reset', async () => {
  await scene(async ({ driver, responder }) => {
    await setStatus(driver, 1);
    await setStatus(driver, 3);
    await fails(driver.ioctl(vhost.VHOST_VDPA_SET_STATUS, u8.encode(1)), 'EINVAL');
    await fails(driver.ioctl(vhost.VHOST_VDPA_SET_STATUS, u8.encode(4)), 'EINVAL');
    await setStatus(driver, 3 | VIRTIO_CONFIG_S_FAILED);
    await setStatus(driver, 0);
    assert.is(await getStatus(driver), 0);
    assert.equal(
      responder.of(vduse.VDUSE_SET_STATUS).map((request) => request.s.status),
      [0, 1, 3, 131, 0],
    );
  });
});

test('a status that the device refuses is not taken over, and the ioctl says nothing', async () => {
  await scene(async ({ driver, responder }) => {
    await setStatus(driver, 3);
    responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
    await setStatus(driver, STATUS_FEATURES_OK);
    assert.is(await getStatus(driver), 3);
  });
});

test('a reset that the device refuses is EIO, and has happened', async () => {
  await scene(async ({ device, driver, responder }) => {
    await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES));
    await setStatus(driver, STATUS_FEATURES_OK);
    responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
    await fails(driver.ioctl(vhost.VHOST_VDPA_SET_STATUS, u8.encode(0)), 'EIO');
    assert.is(await getStatus(driver), 0);
    const features = new Uint8Array(8);
    await device.ioctl(vduse.VDUSE_DEV_GET_FEATURES, features);
    assert.is(u64.decode(features), 0n);
  });
});

test('features are frozen at FEATURES_OK: EBUSY, until a reset', async () => {
  await scene(async ({ driver }) => {
    await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(1n));
    await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES));
    await setStatus(driver, STATUS_FEATURES_OK);
    await fails(driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES)), 'EBUSY');
    await setStatus(driver, 0);
    await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES));
  });
});

test('the backend features of a VDUSE parent are message v2, batches and address spaces', async () => {
  await scene(async ({ driver }) => {
    assert.is(
      await get(driver, vhost.VHOST_GET_BACKEND_FEATURES, u64),
      mask(
        vhost.VHOST_BACKEND_F_IOTLB_MSG_V2,
        vhost.VHOST_BACKEND_F_IOTLB_BATCH,
        vhost.VHOST_BACKEND_F_IOTLB_ASID,
      ),
    );
    for (const bit of [0, 4, 5, 6, 8, 9, 63])
      await fails(driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(mask(bit))), 'EOPNOTSUPP');
    const descAsid = vhost.VHOST_BACKEND_F_DESC_ASID;
    await fails(driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(mask(descAsid))), 'EINVAL');
    const both = mask(descAsid, vhost.VHOST_BACKEND_F_IOTLB_ASID);
    await fails(driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(both)), 'EOPNOTSUPP');
    await driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(mask(1, 2, 3)));
  });
});

test('the config space is read in any piece; no bytes, or bytes past its end, are EINVAL', async () => {
  const config = Uint8Array.from({ length: 16 }, (_, index) => index + 1);
  await scene(
    async ({ driver }) => {
      const argument = configArgument(4, 12, 13);
      await driver.ioctl(vhost.VHOST_VDPA_GET_CONFIG, argument);
      assert.equal(argument.subarray(8), Uint8Array.of(5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0));
      for (const [off, len] of [
        [0, 0],
        [17, 1],
        [16, 1],
        [0, 17],
        [1, 0xffffffff],
      ] as const)
        for (const request of [vhost.VHOST_VDPA_GET_CONFIG, vhost.VHOST_VDPA_SET_CONFIG])
          await fails(driver.ioctl(request, configArgument(off, len, 32)), 'EINVAL');
    },
    { config },
  );
});

test('a driver writes to the config space without effect', async () => {
  await scene(async ({ driver }) => {
    const argument = vhost.vhostVdpaConfig.encode({ off: 0, len: 4, buf: Uint8Array.of(1, 2, 3, 4) });
    await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG, argument);
    await driver.ioctl(vhost.VHOST_VDPA_GET_CONFIG, argument);
    assert.equal(argument.subarray(8), new Uint8Array(4));
  });
});

test('the config call eventfd is signalled by the device, and lost at a reset', async () => {
  const addon = loadAddon();
  const fd = addon.eventfd();
  await scene(async ({ device, driver }) => {
    await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(fd));
    await fails(device.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ), 'EINVAL');
    await setStatus(driver, STATUS_DRIVER_OK);
    await device.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
    assert.is(addon.eventfdDrain(fd), 1);
    await setStatus(driver, 0);
    await setStatus(driver, STATUS_DRIVER_OK);
    await device.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
    assert.is(addon.eventfdDrain(fd), 0);
    await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(fd));
    await device.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
    assert.is(addon.eventfdDrain(fd), 1);
    await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(-1));
    await device.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
    assert.is(addon.eventfdDrain(fd), 0);
  });
  closeSync(fd);
});

test('a refused config call eventfd also unbinds the old one', async () => {
  const addon = loadAddon();
  const fd = addon.eventfd();
  await scene(async ({ device, driver }) => {
    await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(fd));
    await fails(driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(9999)), 'EBADF');
    await setStatus(driver, STATUS_DRIVER_OK);
    await device.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
    assert.is(addon.eventfdDrain(fd), 0);
  });
  closeSync(fd);
});

test('a descriptor that is not open is EBADF, one that is no eventfd EINVAL', async () => {
  const file = openSync('/dev/null', 'r');
  await scene(async ({ driver }) => {
    await fails(driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(file)), 'EINVAL');
    for (const request of [
      vhost.VHOST_SET_VRING_KICK,
      vhost.VHOST_SET_VRING_CALL,
      vhost.VHOST_SET_VRING_ERR,
    ]) {
      const argument = (fd: number) => vhost.vhostVringFile.encode({ index: 0, fd });
      await fails(driver.ioctl(request, argument(file)), 'EINVAL');
      await fails(driver.ioctl(request, argument(9999)), 'EBADF');
      await fails(driver.ioctl(request, argument(-2)), 'EBADF');
      await driver.ioctl(request, argument(-1));
    }
  });
  closeSync(file);
});

test('suspend and resume are EOPNOTSUPP, and nothing at all before DRIVER_OK', async () => {
  await scene(async ({ driver }) => {
    await driver.ioctl(vhost.VHOST_VDPA_SUSPEND);
    await driver.ioctl(vhost.VHOST_VDPA_RESUME);
    await setStatus(driver, STATUS_DRIVER_OK);
    await fails(driver.ioctl(vhost.VHOST_VDPA_SUSPEND), 'EOPNOTSUPP');
    await fails(driver.ioctl(vhost.VHOST_VDPA_RESUME), 'EOPNOTSUPP');
  });
});

test('a device that opted in can be suspended, and only a reset revives it', async () => {
  const addon = loadAddon();
  const [kick, call, own] = [addon.eventfd(), addon.eventfd(), addon.eventfd()];
  await scene(
    async ({ device, driver, responder }) => {
      const features = await get(driver, vhost.VHOST_GET_BACKEND_FEATURES, u64);
      assert.ok(features & mask(vhost.VHOST_BACKEND_F_SUSPEND));
      await driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(features));
      await driver.ioctl(vhost.VHOST_SET_VRING_KICK, vhost.vhostVringFile.encode({ index: 0, fd: kick }));
      await driver.ioctl(vhost.VHOST_SET_VRING_CALL, vhost.vhostVringFile.encode({ index: 0, fd: call }));
      await device.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, vduse.vduseVqEventfd.encode({ index: 0, fd: own }));
      await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
      const kickFd = await device.kickFd(0, own);
      await driver.ioctl(vhost.VHOST_VDPA_SUSPEND);
      assert.is(responder.of(vduse.VDUSE_SUSPEND).length, 0);
      await setStatus(driver, STATUS_DRIVER_OK);
      await fails(driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 5)), 'EINVAL');

      responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
      await fails(driver.ioctl(vhost.VHOST_VDPA_SUSPEND), 'EIO');
      responder.answer = () => ({});
      await driver.ioctl(vhost.VHOST_VDPA_SUSPEND);
      addon.eventfdDrain(kickFd);
      addon.eventfdDrain(kick);
      addon.eventfdSignal(kick);
      assert.is(addon.eventfdDrain(kickFd), 0);
      await fails(device.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(0)), 'EINVAL');
      await fails(device.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ), 'EINVAL');
      addon.eventfdDrain(call);
      addon.eventfdSignal(await device.callFd(0));
      assert.is(addon.eventfdDrain(call), 0);
      await driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 5));
      await fails(driver.ioctl(vhost.VHOST_VDPA_RESUME), 'EOPNOTSUPP');

      await setStatus(driver, 0);
      await setStatus(driver, STATUS_DRIVER_OK);
      await device.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
    },
    { vduseFeatures: mask(vduse.VDUSE_F_SUSPEND) },
  );
  for (const fd of [kick, call, own]) closeSync(fd);
});

test('the memory table is taken for what it is worth: nothing', async () => {
  await scene(async ({ driver, responder }) => {
    const before = responder.requests.length;
    const regions = new Uint8Array(2 * vhost.vhostMemoryRegion.size);
    await driver.ioctl(vhost.VHOST_SET_MEM_TABLE, vhost.vhostMemory.encode({ nregions: 2, regions }));
    await fails(
      driver.ioctl(vhost.VHOST_SET_MEM_TABLE, vhost.vhostMemory.encode({ nregions: 3, regions })),
      'EFAULT',
    );
    await fails(driver.ioctl(vhost.VHOST_SET_MEM_TABLE, vhost.vhostMemory.encode({ nregions: 65 })), 'E2BIG');
    await fails(
      driver.ioctl(vhost.VHOST_SET_MEM_TABLE, vhost.vhostMemory.encode({ padding: 1 })),
      'EOPNOTSUPP',
    );
    assert.is(responder.requests.length, before);
  });
});

test('an address space is given to a group before DRIVER_OK, if there are several', async () => {
  const setGroupAsid = (driver: VhostVdpaFile, group: number, asid: number) =>
    driver.ioctl(vhost.VHOST_VDPA_SET_GROUP_ASID, vringState(group, asid));
  await scene(
    async ({ driver, responder }) => {
      await setGroupAsid(driver, 1, 2);
      assert.equal(responder.of(vduse.VDUSE_SET_VQ_GROUP_ASID)[0]?.vq_group_asid, { group: 1, asid: 2 });
      await fails(setGroupAsid(driver, 0, 3), 'EINVAL');
      responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
      await fails(setGroupAsid(driver, 1, 0), 'EIO');
      responder.answer = () => ({});
      await setStatus(driver, STATUS_DRIVER_OK);
      await fails(setGroupAsid(driver, 1, 0), 'EBUSY');
    },
    { apiVersion: 1n, ngroups: 2, nas: 3 },
  );
  await scene(async ({ driver }) => {
    await fails(setGroupAsid(driver, 1, 0), 'EINVAL');
    await fails(setGroupAsid(driver, 0, 0), 'EINVAL');
  });
});

test('ioctls wait for each other as they do for the kernel’s mutex', async () => {
  await scene(async ({ driver, responder }) => {
    const order: string[] = [];
    responder.answer = async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      order.push('device');
      return {};
    };
    const slow = setStatus(driver, 1).then(() => order.push('set'));
    const fast = getStatus(driver).then((status) => order.push(`get ${status}`));
    await Promise.all([slow, fast]);
    assert.equal(order, ['device', 'set', 'get 1']);
  });
});

test.run();
