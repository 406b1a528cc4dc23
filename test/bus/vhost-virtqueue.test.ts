import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VIRTIO_F_RING_PACKED } from '../../host/uapi/virtio.js';
import { PACKED_VRING_BASE_RESET } from '../../host/uapi/vring-base.js';
import type { VduseFile } from '../../host/vduse/file.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import { FEATURES, fails, NAME, STATUS_DRIVER_OK, scene, setStatus, vringState } from './fixture.js';

const PACKED = FEATURES | (1n << BigInt(VIRTIO_F_RING_PACKED));

async function vqInfo(device: VduseFile, index = 0): Promise<ReturnType<typeof vduse.vduseVqInfo.decode>> {
  const argument = vduse.vduseVqInfo.encode({ index });
  await device.ioctl(vduse.VDUSE_VQ_GET_INFO, argument);
  return vduse.vduseVqInfo.decode(argument);
}

async function ask(driver: VhostVdpaFile, request: number, index = 0): Promise<number> {
  const argument = vringState(index, 0);
  await driver.ioctl(request, argument);
  return vhost.vhostVringState.decode(argument).num;
}

test('a ring has a power of two entries up to the maximum, else EINVAL', async () => {
  await scene(async ({ device, driver }) => {
    for (const num of [0, 3, 96, 257, 512, 65536, 0x80000000])
      await fails(driver.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(0, num)), 'EINVAL');
    assert.is((await vqInfo(device)).num, 0);
    for (const num of [1, 2, 256]) {
      await driver.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(0, num));
      assert.is((await vqInfo(device)).num, num);
    }
  });
});

test('the size of a ring is its maximum until it is set', async () => {
  await scene(async ({ driver }) => {
    assert.is(await ask(driver, vhost.VHOST_VDPA_GET_VRING_SIZE, 1), 256);
    await driver.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(1, 16));
    assert.is(await ask(driver, vhost.VHOST_VDPA_GET_VRING_SIZE, 1), 16);
    assert.is(await ask(driver, vhost.VHOST_VDPA_GET_VRING_SIZE, 0), 256);
  });
});

test('ring addresses are aligned, avail to 2 and used to 4, else EINVAL; unknown flags are EOPNOTSUPP', async () => {
  await scene(async ({ device, driver }) => {
    const set = (addr: Parameters<typeof vhost.vhostVringAddr.encode>[0]) =>
      driver.ioctl(vhost.VHOST_SET_VRING_ADDR, vhost.vhostVringAddr.encode({ index: 0, ...addr }));
    await fails(set({ avail_user_addr: 1n }), 'EINVAL');
    await fails(set({ used_user_addr: 2n }), 'EINVAL');
    await fails(set({ log_guest_addr: 2n }), 'EINVAL');
    await fails(set({ flags: 2 }), 'EOPNOTSUPP');
    await set({ flags: 1, desc_user_addr: 1n, avail_user_addr: 2n, used_user_addr: 2n ** 64n - 4n });
    const { desc_addr, driver_addr, device_addr } = await vqInfo(device);
    assert.equal([desc_addr, driver_addr, device_addr], [1n, 2n, 2n ** 64n - 4n]);
  });
});

test('addresses and base are EINVAL while the driver runs', async () => {
  await scene(async ({ driver }) => {
    await setStatus(driver, STATUS_DRIVER_OK);
    await fails(
      driver.ioctl(vhost.VHOST_SET_VRING_ADDR, vhost.vhostVringAddr.encode({ index: 0 })),
      'EINVAL',
    );
    await fails(driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 0)), 'EINVAL');
  });
});

test('the base of a split ring has 16 bits', async () => {
  await scene(async ({ device, driver }) => {
    await driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 0xffff));
    assert.is((await vqInfo(device)).split.avail_index, 0xffff);
    await fails(driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 0x10000)), 'EINVAL');
  });
});

test('the base of a packed ring has two indices and two wrap counters', async () => {
  await scene(
    async ({ device, driver, responder }) => {
      await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(PACKED));
      await driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, PACKED_VRING_BASE_RESET));
      assert.equal((await vqInfo(device)).packed, {
        last_avail_counter: 1,
        last_avail_idx: 0,
        last_used_counter: 1,
        last_used_idx: 0,
      });
      responder.answer = ({ vq_state }) => ({
        // Bits that do not belong to the answer are the device's mistake, and are left out.
        vq_state: {
          index: vq_state.index,
          packed: {
            last_avail_counter: 0xfffe,
            last_avail_idx: 0x8005,
            last_used_counter: 0xffff,
            last_used_idx: 0x8003,
          },
        },
      });
      assert.is(await ask(driver, vhost.VHOST_GET_VRING_BASE), 0x8003_0005);
    },
    { features: PACKED },
  );
});

test('the base is asked of the device, whose refusal is EIO', async () => {
  await scene(async ({ driver, responder }) => {
    responder.answer = ({ vq_state }) => ({
      vq_state: { index: vq_state.index, split: { avail_index: 40_000 + vq_state.index } },
    });
    assert.is(await ask(driver, vhost.VHOST_GET_VRING_BASE, 1), 40_001);
    responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
    await fails(driver.ioctl(vhost.VHOST_GET_VRING_BASE, vringState(0, 0)), 'EIO');
  });
});

test('a ring is enabled before and after DRIVER_OK without a message', async () => {
  await scene(async ({ device, driver, responder }) => {
    await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
    await setStatus(driver, STATUS_DRIVER_OK);
    await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(1, 1));
    await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 0));
    assert.is((await vqInfo(device, 0)).ready, 0);
    assert.is((await vqInfo(device, 1)).ready, 1);
    assert.is(responder.of(vduse.VDUSE_SET_VQ_READY).length, 0);
  });
});

test('a device that opted in is told of ready, and breaks when it refuses', async () => {
  await scene(
    async ({ bus, device, driver, responder }) => {
      await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(1, 1));
      assert.equal(responder.of(vduse.VDUSE_SET_VQ_READY)[0]?.vq_ready, { num: 1, ready: 1 });
      assert.is((await vqInfo(device, 1)).ready, 1);
      responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
      await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
      assert.is(bus.list()[0]?.broken, true);
      await fails(vqInfo(device), 'EPERM');
    },
    { vduseFeatures: 1n << BigInt(vduse.VDUSE_F_QUEUE_READY) },
  );
});

test('a reset forgets the ring', async () => {
  await scene(async ({ bus, device, driver }) => {
    await driver.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(0, 16));
    await driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 9));
    await driver.ioctl(
      vhost.VHOST_SET_VRING_ADDR,
      vhost.vhostVringAddr.encode({ index: 0, desc_user_addr: 4096n }),
    );
    await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
    const generation = bus.list().find(({ name }) => name === NAME)!.generation;
    await setStatus(driver, 0);
    const { num, desc_addr, split, ready } = await vqInfo(device);
    assert.equal([num, desc_addr, split.avail_index, ready], [0, 0n, 0, 0]);
    assert.is(bus.list()[0]?.generation, generation + 1);
  });
});

test('groups of queues are those of VDUSE_VQ_SETUP, descriptor groups there are none', async () => {
  await scene(
    async ({ device, driver }) => {
      await device.ioctl(
        vduse.VDUSE_VQ_SETUP,
        vduse.vduseVqConfig.encode({ index: 1, max_size: 64, group: 1 }),
      );
      assert.is(await ask(driver, vhost.VHOST_VDPA_GET_VRING_GROUP, 0), 0);
      assert.is(await ask(driver, vhost.VHOST_VDPA_GET_VRING_GROUP, 1), 1);
      await fails(driver.ioctl(vhost.VHOST_VDPA_GET_VRING_DESC_GROUP, vringState(0, 0)), 'EOPNOTSUPP');
    },
    { apiVersion: 1n, ngroups: 2, nas: 1 },
  );
});

test('the busy-loop timeout is kept and used by nobody', async () => {
  await scene(async ({ driver }) => {
    await driver.ioctl(vhost.VHOST_SET_VRING_BUSYLOOP_TIMEOUT, vringState(1, 50));
    assert.is(await ask(driver, vhost.VHOST_GET_VRING_BUSYLOOP_TIMEOUT, 1), 50);
    assert.is(await ask(driver, vhost.VHOST_GET_VRING_BUSYLOOP_TIMEOUT, 0), 0);
  });
});

test.run();
