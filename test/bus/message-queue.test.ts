import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FaultInjection } from '../../host/bus/fault-injection.js';
import { Bus } from '../../host/bus/index.js';
import { MessageQueue } from '../../host/bus/message-queue.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { VduseFile } from '../../host/vduse/file.js';
import {
  createDevice,
  deviceConfig,
  fails,
  getStatus,
  NAME,
  Responder,
  setStatus,
  within,
} from './fixture.js';

/** Milliseconds; long enough to be met, short enough to be missed on purpose. */
const TIMEOUT_MS = 60;

/** A device that nobody answers for, on a bus. */
async function silent(
  act: (bus: Bus, device: VduseFile) => Promise<void>,
  messageTimeout = 30_000,
): Promise<void> {
  await using bus = new Bus();
  const { file } = await createDevice(bus);
  await bus.attach(NAME, { messageTimeout });
  await act(bus, file);
}

const decode = async (device: VduseFile) =>
  vduse.vduseDevRequest.decode(await within(device.read(), 'a message'));
const reply = (values: Parameters<typeof vduse.vduseDevResponse.encode>[0]) =>
  vduse.vduseDevResponse.encode(values);

test('a request has 152 bytes, and its answer completes the call that asked', async () => {
  await silent(async (bus, device) => {
    let opened = false;
    const opening = bus.openVhostVdpa(NAME).then(() => {
      opened = true;
    });
    const bytes = await device.read();
    assert.is(bytes.byteLength, 152);
    const request = vduse.vduseDevRequest.decode(bytes);
    assert.equal([request.type, request.s.status], [vduse.VDUSE_SET_STATUS, 0]);
    await new Promise(setImmediate);
    assert.is(opened, false);
    await device.write(reply({ request_id: request.request_id }));
    await within(opening, 'the opening');
  });
});

test('request ids count up, and a read waits for its message', async () => {
  await silent(async (bus, device) => {
    const first = decode(device);
    const second = decode(device);
    const opening = bus.openVhostVdpa(NAME);
    const { request_id } = await first;
    await device.write(reply({ request_id }));
    const driver = await opening;
    void setStatus(driver, 1);
    assert.is((await second).request_id, request_id + 1);
    await device.write(reply({ request_id: request_id + 1 }));
    await getStatus(driver);
  });
});

test('an answer to nothing is ENOENT, a short or reserved one EINVAL, and the request still waits', async () => {
  await silent(async (bus, device) => {
    await fails(device.write(reply({ request_id: 0 })), 'ENOENT', 'write');
    const opening = bus.openVhostVdpa(NAME);
    // Sent but not read: there is nothing to answer yet.
    await new Promise(setImmediate);
    await fails(device.write(reply({ request_id: 0 })), 'ENOENT');
    const { request_id } = await decode(device);
    await fails(device.write(reply({ request_id: request_id + 1 })), 'ENOENT');
    await fails(device.write(reply({ request_id }).subarray(0, 151)), 'EINVAL', 'write');
    await fails(device.write(reply({ request_id, reserved: [0, 0, 0, 1] })), 'EINVAL');
    await device.write(reply({ request_id }));
    await fails(device.write(reply({ request_id })), 'ENOENT');
    await within(opening, 'the opening');
  });
});

test('a result other than OK is a refusal, whatever its number', async () => {
  for (const result of [vduse.VDUSE_REQ_RESULT_FAILED, 2, 0xffffffff])
    await silent(async (bus, device) => {
      const opening = fails(bus.openVhostVdpa(NAME), 'EIO');
      const { request_id } = await decode(device);
      await device.write(reply({ request_id, result }));
      await opening;
    });
});

test('a message that is not answered in time breaks the device for ever', async () => {
  await silent(async (bus, device) => {
    const opening = fails(bus.openVhostVdpa(NAME), 'EIO');
    const { request_id } = await decode(device);
    const waiting = fails(device.read(), 'EIO', 'read');
    await opening;
    await waiting;
    assert.is(bus.list()[0]?.broken, true);
    await fails(device.write(reply({ request_id })), 'ENOENT');
    await fails(device.ioctl(vduse.VDUSE_DEV_GET_FEATURES, new Uint8Array(8)), 'EPERM', 'ioctl');
    await fails(device.read(), 'EIO');
    await fails(bus.openVhostVdpa(NAME), 'EIO');

    // Opening the node again does not help; destroying it does.
    await device.close();
    const control = bus.control();
    const again = await control.open(NAME);
    await fails(again.ioctl(vduse.VDUSE_DEV_GET_FEATURES, new Uint8Array(8)), 'EPERM');
    await again.close();
    await bus.detach(NAME);
    await control.ioctl(vduse.VDUSE_DESTROY_DEV, vduse.vduseName.encode(NAME));
    await control.ioctl(vduse.VDUSE_CREATE_DEV, deviceConfig());
    assert.is(bus.list()[0]?.broken, false);
  }, TIMEOUT_MS);
});

test('a message that nobody reads times out as well', async () => {
  await silent(async (bus) => {
    await fails(bus.openVhostVdpa(NAME), 'EIO');
    assert.is(bus.list()[0]?.broken, true);
  }, TIMEOUT_MS);
});

test('a driver of a broken device finds EIO at reset, and its other status writes without effect', async () => {
  await silent(async (bus, device) => {
    const responder = new Responder(device);
    const driver = await bus.openVhostVdpa(NAME);
    await setStatus(driver, 1);
    responder.answer = () => undefined;
    await setStatus(driver, 3);
    assert.is(bus.list()[0]?.broken, true);
    assert.is(await getStatus(driver), 1);
    await setStatus(driver, 3);
    assert.is(await getStatus(driver), 1);
    await fails(driver.ioctl(vhost.VHOST_VDPA_SET_STATUS, Uint8Array.of(0)), 'EIO');
    await within(driver.close(), 'closing');
  }, TIMEOUT_MS);
});

test('a timeout of 0 waits for as long as it takes', async () => {
  await silent(async (bus, device) => {
    const opening = bus.openVhostVdpa(NAME);
    const { request_id } = await decode(device);
    await new Promise((resolve) => setTimeout(resolve, TIMEOUT_MS));
    await device.write(reply({ request_id }));
    await within(opening, 'the opening');
  }, 0);
});

test('what was read and not answered is delivered again to whoever opens next, before what came later', async () => {
  await silent(async (bus, device) => {
    const opening = bus.openVhostVdpa(NAME);
    const first = await device.read();
    const pending = fails(device.read(), 'EBADF', 'read');
    await device.close();
    await pending;
    const again = await bus.control().open(NAME);
    const bytes = await within(again.read(), 'the message again');
    assert.equal(bytes, first);
    // The queues that were set up are still there, and so is the negotiation.
    await again.ioctl(vduse.VDUSE_DEV_GET_FEATURES, u64.encode(0n));
    const { request_id } = vduse.vduseDevRequest.decode(bytes);
    await again.write(reply({ request_id }));
    await within(opening, 'the opening');
  });
});

test('messages that were read come before those that were not, when they are delivered again', async () => {
  const queue = new MessageQueue(NAME, new FaultInjection());
  const statuses = [1, 3, 7];
  const asked = statuses.map((status) => queue.request({ type: vduse.VDUSE_SET_STATUS, s: { status } }));
  const next = async () => vduse.vduseDevRequest.decode(await within(queue.read(), 'a message'));
  await next();
  await next();
  queue.requeue();
  for (const status of statuses) {
    const request = await next();
    assert.is(request.s.status, status);
    await queue.answer(reply({ request_id: request.request_id }));
  }
  await within(Promise.all(asked), 'the answers');
});

test('a reader cannot change a message that it may have to be given again', async () => {
  await silent(async (bus, device) => {
    const opening = bus.openVhostVdpa(NAME);
    const first = await device.read();
    const copy = first.slice();
    first.fill(0xff);
    await device.close();
    const again = await bus.control().open(NAME);
    assert.equal(await again.read(), copy);
    await again.write(reply({ request_id: vduse.vduseDevRequest.decode(copy).request_id }));
    await opening;
  });
});

test.run();
