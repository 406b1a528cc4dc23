import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Aperture } from '../../host/aperture/aperture.js';
import type { FaultOptions, FaultPoint } from '../../host/bus/index.js';
import { ERRNO, type ErrnoName, RingbellError } from '../../host/errors.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { fails, getStatus, iotlbMessage, NAME, type Scene, scene, setStatus } from './fixture.js';

const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
const batchBegin = iotlbMessage(vhost.VHOST_IOTLB_BATCH_BEGIN);

/** A call that passes each point, and what system call its failure names. */
const CALLS: Record<Exclude<FaultPoint, 'open' | 'message' | 'reply'>, (scene: Scene) => Promise<unknown>> = {
  ioctl: ({ driver }) => getStatus(driver),
  write: ({ driver }) => driver.write(batchBegin),
  mmap: ({ driver }) => {
    const { linear } = aperture.reserveWindow(4096);
    return driver.mmap(aperture, linear, { length: 4096, protection: 'w', shared: true, offset: 0 });
  },
};

test('every errno can be had of every system call of a driver', async () => {
  await scene(
    async (actors) => {
      for (const errno of Object.keys(ERRNO) as ErrnoName[])
        for (const [point, call] of Object.entries(CALLS)) {
          const fault = actors.bus.faults.inject({ point: point as FaultPoint, errno });
          await fails(call(actors), errno, point);
          assert.is(fault.hits, 1);
          fault.remove();
        }
      for (const call of Object.values(CALLS)) await call(actors);
    },
    { doorbell: 'page-per-vq' },
  );
});

test('every errno can be had of opening, of the device’s ioctls and of the control file', async () => {
  await scene(async ({ bus, control, device, driver }) => {
    await driver.close();
    for (const errno of Object.keys(ERRNO) as ErrnoName[]) {
      bus.faults.inject({ point: 'open', errno, device: NAME });
      await fails(bus.openVhostVdpa(NAME), errno, 'open');
      bus.faults.inject({ point: 'open', errno, device: NAME });
      await fails(control.open(NAME), errno, 'open');
      bus.faults.inject({ point: 'ioctl', errno, request: vduse.VDUSE_DEV_GET_FEATURES });
      await fails(device.ioctl(vduse.VDUSE_DEV_GET_FEATURES, new Uint8Array(8)), errno, 'ioctl');
      bus.faults.inject({ point: 'ioctl', errno, device: 'control' });
      await fails(control.ioctl(vduse.VDUSE_GET_API_VERSION, new Uint8Array(8)), errno, 'ioctl');
    }
    await bus.openVhostVdpa(NAME);
  });
});

test('a call that fails by injection has done nothing', async () => {
  await scene(async ({ bus, driver, responder }) => {
    bus.faults.inject({ point: 'ioctl', request: vhost.VHOST_VDPA_SET_STATUS, errno: 'ENOMEM' });
    const before = responder.requests.length;
    await fails(setStatus(driver, 1), 'ENOMEM');
    assert.is(responder.requests.length, before);
    assert.is(await getStatus(driver), 0);
  });
});

test('a fault strikes the calls that it names, after some and for a number of times', async () => {
  await scene(async ({ bus, driver }) => {
    const request = vhost.VHOST_VDPA_GET_STATUS;
    const fault = bus.faults.inject({ point: 'ioctl', request, skip: 2, times: 2, errno: 'EIO' });
    const other = bus.faults.inject({ point: 'ioctl', device: 'another', errno: 'EIO' });
    for (const expected of [true, true, false, false, true]) {
      await driver.ioctl(vhost.VHOST_GET_FEATURES, new Uint8Array(8));
      if (expected) await getStatus(driver);
      else await fails(getStatus(driver), 'EIO');
    }
    assert.equal([fault.hits, other.hits], [2, 0]);
    bus.faults.inject({ point: 'ioctl', times: Infinity, errno: 'EIO' });
    for (let time = 0; time < 3; time++) await fails(getStatus(driver), 'EIO');
    bus.faults.clear();
    await getStatus(driver);
  });
});

test('an IOTLB message is named by its type', async () => {
  await scene(async ({ bus, driver }) => {
    bus.faults.inject({ point: 'write', request: vhost.VHOST_IOTLB_BATCH_END, errno: 'ENOMEM' });
    await driver.write(batchBegin);
    await fails(driver.write(iotlbMessage(vhost.VHOST_IOTLB_BATCH_END)), 'ENOMEM', 'write');
  });
});

test('a delayed call is late, and those behind it wait their turn', async () => {
  await scene(async ({ bus, driver }) => {
    bus.faults.inject({ point: 'ioctl', request: vhost.VHOST_VDPA_SET_STATUS, delay: 30 });
    const order: string[] = [];
    await Promise.all([
      setStatus(driver, 1).then(() => order.push('set')),
      getStatus(driver).then((status) => order.push(`get ${status}`)),
    ]);
    assert.equal(order, ['set', 'get 1']);
  });
});

test('a message that fails by injection never reaches the device', async () => {
  await scene(async ({ bus, driver, responder }) => {
    bus.faults.inject({ point: 'message', request: vduse.VDUSE_GET_VQ_STATE, errno: 'EIO' });
    const base = vhost.vhostVringState.encode({ index: 0 });
    await fails(driver.ioctl(vhost.VHOST_GET_VRING_BASE, base), 'EIO');
    assert.is(responder.of(vduse.VDUSE_GET_VQ_STATE).length, 0);
    await driver.ioctl(vhost.VHOST_GET_VRING_BASE, base);
  });
});

for (const point of ['message', 'reply'] as const)
  test(`a ${point} that gets lost ends in a timeout, which breaks the device`, async () => {
    await scene(
      async ({ bus, driver, responder }) => {
        bus.faults.inject({ point, request: vduse.VDUSE_SET_STATUS, drop: true });
        const before = responder.requests.length;
        await setStatus(driver, 1);
        assert.is(await getStatus(driver), 0);
        assert.is(responder.requests.length - before, point === 'message' ? 0 : 1);
        assert.is(bus.list()[0]?.broken, true);
      },
      { messageTimeout: 60 },
    );
  });

test('an answer that is late beyond the timeout comes to nothing', async () => {
  await scene(
    async ({ bus, device, driver, responder }) => {
      bus.faults.inject({ point: 'reply', delay: 120 });
      let late: Promise<unknown> | undefined;
      responder.answer = ({ request_id }) => {
        late = fails(device.write(vduse.vduseDevResponse.encode({ request_id })), 'ENOENT', 'write');
        return undefined;
      };
      await setStatus(driver, 1);
      assert.is(bus.list()[0]?.broken, true);
      await late;
      assert.is(await getStatus(driver), 0);
    },
    { messageTimeout: 60 },
  );
});

test('a refused answer leaves its message waiting for another', async () => {
  await scene(async ({ bus, driver, responder, device }) => {
    bus.faults.inject({ point: 'reply', errno: 'EIO' });
    responder.answer = async ({ request_id }) => {
      await fails(device.write(vduse.vduseDevResponse.encode({ request_id })), 'EIO', 'write');
      return {};
    };
    await setStatus(driver, 1);
    assert.is(await getStatus(driver), 1);
  });
});

test('a fault says exactly one thing that can happen where it strikes', async () => {
  await scene(async ({ bus }) => {
    for (const options of [
      { point: 'ioctl' },
      { point: 'ioctl', errno: 'EIO', delay: 1 },
      { point: 'ioctl', drop: true },
      { point: 'mmap', drop: true },
    ] as FaultOptions[])
      assert.throws(
        () => bus.faults.inject(options),
        (error: unknown) => error instanceof RingbellError && error.code === 'ERR_ARGUMENT',
      );
  });
});

test.run();
