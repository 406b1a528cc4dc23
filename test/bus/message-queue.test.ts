import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FaultInjection } from '../../host/bus/fault-injection.js';
import { Bus } from '../../host/bus/index.js';
import { MessageQueue } from '../../host/bus/message-queue.js';
import * as vduse from '../../host/uapi/vduse.js';
import type { VduseFile } from '../../host/vduse/file.js';
import { createDevice, getStatus, NAME, setStatus, within } from './fixture.js';

/** A device that nobody answers for, on a bus. */
async function silent(act: (bus: Bus, device: VduseFile) => Promise<void>): Promise<void> {
  await using bus = new Bus();
  const { file } = await createDevice(bus);
  await bus.attach(NAME);
  await act(bus, file);
}

const decode = async (device: VduseFile) =>
  vduse.vduseDevRequest.decode(await within(device.read(), 'a message'));
const reply = (values: Parameters<typeof vduse.vduseDevResponse.encode>[0]) =>
  vduse.vduseDevResponse.encode(values);

test('several reads wait, each for its message', async () => {
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
