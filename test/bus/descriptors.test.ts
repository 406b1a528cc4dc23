import { closeSync, readdirSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus, type FaultOptions } from '../../host/bus/index.js';
import { isSystemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import { s32, u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { VduseControlFile, VduseFile } from '../../host/vduse/file.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import {
  createDevice,
  deviceConfig,
  iotlbMessage,
  NAME,
  Responder,
  SharedMemory,
  STATUS_DRIVER_OK,
  setStatus,
  vringState,
  within,
} from './fixture.js';

const memory = new SharedMemory(8192);
const count = () => readdirSync('/proc/self/fd').length;
const rejections: unknown[] = [];
process.on('unhandledRejection', (reason) => rejections.push(reason));

/** Every step of a device's life, each of which may be made to fail: a step's failure does not keep the others from it. */
async function live(bus: Bus, parent: 'set_map' | 'dma_map'): Promise<void> {
  const addon = loadAddon();
  const eventfd = addon.eventfd();
  const attempt = async <T>(step: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await within(step(), 'a step');
    } catch {
      return undefined;
    }
  };
  const control: VduseControlFile = bus.control();
  await attempt(() => control.ioctl(vduse.VDUSE_SET_API_VERSION, u64.encode(0n)));
  await attempt(() => control.ioctl(vduse.VDUSE_CREATE_DEV, deviceConfig({ queues: 1 })));
  const file: VduseFile | undefined = await attempt(() => control.open(NAME));
  if (file) {
    const setup = vduse.vduseVqConfig.encode({ index: 0, max_size: 64 });
    await attempt(() => file.ioctl(vduse.VDUSE_VQ_SETUP, setup));
    new Responder(file);
  }
  await attempt(() => bus.attach(NAME, { parent, doorbell: 'page-per-vq', messageTimeout: 20 }));
  const driver: VhostVdpaFile | undefined = await attempt(() => bus.openVhostVdpa(NAME));
  if (driver) {
    const uaddr = memory.address;
    const vring = vhost.vhostVringFile.encode({ index: 0, fd: eventfd });
    await attempt(() => driver.ioctl(vhost.VHOST_SET_OWNER));
    for (const iova of [0n, 8192n])
      await attempt(() => driver.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, { iova, size: 8192n, uaddr })));
    for (const request of [vhost.VHOST_SET_VRING_KICK, vhost.VHOST_SET_VRING_CALL, vhost.VHOST_SET_VRING_ERR])
      await attempt(() => driver.ioctl(request, vring));
    await attempt(() => driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(eventfd)));
    await attempt(() => driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1)));
    await attempt(() => setStatus(driver, STATUS_DRIVER_OK));
  }
  if (file) {
    await attempt(() => file.kickFd(0, eventfd));
    await attempt(() => file.callFd(0));
    const kickfd = vduse.vduseVqEventfd.encode({ index: 0, fd: eventfd });
    await attempt(() => file.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, kickfd));
    const entry = vduse.vduseIotlbEntry.encode({ start: 0n, last: 1n });
    const fd = await attempt(() => file.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry));
    if (fd !== undefined) closeSync(fd);
  }
  if (driver) {
    const range = { iova: 0n, size: 8192n };
    await attempt(() => driver.ioctl(vhost.VHOST_GET_VRING_BASE, vringState(0, 0)));
    await attempt(() => driver.write(iotlbMessage(vhost.VHOST_IOTLB_INVALIDATE, range)));
    await attempt(() => setStatus(driver, 0));
    await attempt(() => driver.close());
  }
  await attempt(() => bus.detach(NAME));
  await attempt(async () => file?.close());
  await attempt(() => control.ioctl(vduse.VDUSE_DESTROY_DEV, vduse.vduseName.encode(NAME)));
  await control.close();
  closeSync(eventfd);
}

/** A fault for every call and message of a life, one at a time, by how many calls go before it. */
function* everyFault(): Generator<FaultOptions> {
  for (let skip = 0; skip < 20; skip++) {
    yield { point: 'ioctl', skip, errno: 'EIO' };
    if (skip >= 8) continue;
    yield { point: 'message', skip, errno: 'EIO' };
    yield { point: 'message', skip, drop: true };
    yield { point: 'reply', skip, drop: true };
    yield { point: 'reply', skip, errno: 'EIO' };
    if (skip < 2) yield { point: 'open', skip, errno: 'EIO' };
    if (skip < 3) yield { point: 'write', skip, errno: 'EIO' };
  }
}

for (const parent of ['set_map', 'dma_map'] as const) {
  test(`${parent}: hundreds of lives of a device leave no descriptor behind`, async () => {
    await using bus = new Bus();
    await live(bus, parent);
    const before = count();
    for (let round = 0; round < 200; round++) await live(bus, parent);
    assert.is(count(), before);
    assert.equal(bus.list(), []);
  });

  test(`${parent}: nor does one in which a call, a message or an answer fails, once the bus is closed`, async () => {
    const before = count();
    for (const fault of everyFault()) {
      const bus = new Bus();
      bus.faults.inject(fault);
      await live(bus, parent);
      await within(bus.close(), 'closing the bus');
      assert.is(count(), before, JSON.stringify(fault));
    }
    await new Promise(setImmediate);
    assert.equal(rejections, []);
  });
}

test('calls that race with each other, with closing and with detaching all end, and leave nothing behind', async () => {
  const addon = loadAddon();
  const before = count();
  // A linear congruential generator: the same races each time.
  let seed = 1;
  const below = (limit: number) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 16) % limit;
  };
  for (let round = 0; round < 150; round++) {
    const bus = new Bus();
    const { control, file } = await createDevice(bus);
    const parent = round % 2 ? 'set_map' : 'dma_map';
    const options = { parent, messageTimeout: 40 } as const;
    const responder = new Responder(file);
    responder.answer = async () => {
      for (let turns = below(4); turns > 0; turns--) await new Promise(setImmediate);
      if (below(20) === 0) return undefined;
      return below(10) ? {} : { result: vduse.VDUSE_REQ_RESULT_FAILED };
    };
    await bus.attach(NAME, options);
    const eventfd = addon.eventfd();
    const vring = vhost.vhostVringFile.encode({ index: 0, fd: eventfd });
    const drivers: VhostVdpaFile[] = [];
    const files = [file];
    const driver = (call: (driver: VhostVdpaFile) => Promise<unknown>) => async () => {
      const last = drivers.at(-1);
      if (last) await call(last);
    };
    const uaddr = memory.address;
    const steps: (() => Promise<unknown>)[] = [
      async () => drivers.push(await bus.openVhostVdpa(NAME)),
      driver((last) => last.ioctl(vhost.VHOST_SET_OWNER)),
      driver((last) => last.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, { iova: 0n, size: 4096n, uaddr }))),
      driver((last) => last.write(iotlbMessage(vhost.VHOST_IOTLB_INVALIDATE, { iova: 0n, size: 4096n }))),
      driver((last) => last.ioctl(vhost.VHOST_SET_VRING_KICK, vring)),
      driver((last) => last.ioctl(vhost.VHOST_SET_VRING_CALL, vring)),
      driver((last) => setStatus(last, STATUS_DRIVER_OK)),
      driver((last) => setStatus(last, 0)),
      driver((last) => last.close()),
      () => bus.detach(NAME),
      () => bus.attach(NAME, options),
      async () => files.at(-1)?.kickFd(0, eventfd),
      async () => files.at(-1)?.callFd(1),
      async () => files.at(-1)?.needsReset(),
      async () => files.at(-1)?.close(),
      async () => {
        const next = await control.open(NAME);
        files.push(next);
        new Responder(next).answer = responder.answer;
      },
    ];
    const calls: Promise<unknown>[] = [];
    for (let step = 0; step < 40; step++) {
      const call = within(steps[below(steps.length)]!(), `a step of round ${round}`);
      // Looked at below: what rejects with nobody looking is the bus's.
      call.catch(() => {});
      calls.push(call);
      if (below(3) === 0) await new Promise(setImmediate);
    }
    if (below(2)) calls.push(bus.close());
    for (const call of await Promise.allSettled(calls))
      if (call.status === 'rejected') assert.ok(isSystemError(call.reason), `${call.reason}`);
    await within(bus.close(), 'closing the bus');
    await Promise.all([...drivers, ...files].map((open) => within(open.close(), 'closing a file')));
    closeSync(eventfd);
    assert.is(count(), before, `after round ${round}`);
  }
  await new Promise(setImmediate);
  assert.equal(rejections, []);
});

test.run();
