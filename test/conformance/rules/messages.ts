import * as assert from 'uvu/assert';
import { u64 } from '../../../host/uapi/codec.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import type { VduseControlFile, VduseFile } from '../../../host/vduse/file.js';
import {
  createDevice,
  deviceConfig,
  fails,
  get,
  getStatus,
  NAME,
  Responder,
  setStatus,
  within,
} from '../protocol.js';
import { onScene, type Rule } from '../rule.js';
import type { World } from '../world.js';

/** Milliseconds; the shortest that a kernel knows. */
const SHORT_MS = 1000;
const LONG_MS = 30_000;

interface SilentScene {
  readonly world: World;
  readonly control: VduseControlFile;
  readonly device: VduseFile;
}

/** A rule's `play` on an attached device that nobody answers for. */
function onSilence(
  act: (scene: SilentScene) => Promise<void>,
  messageTimeoutMs = LONG_MS,
): (world: World) => Promise<void> {
  return async (world) => {
    const control = await world.control();
    const device = await createDevice(control);
    await world.attach(NAME, messageTimeoutMs);
    await act({ world, control, device });
  };
}

const decode = async (device: VduseFile) =>
  vduse.vduseDevRequest.decode(await within(device.read(), 'a message'));
const reply = (values: Parameters<typeof vduse.vduseDevResponse.encode>[0]) =>
  vduse.vduseDevResponse.encode(values);

/** What a driver and its device say to each other through the kernel. */
export const messageRules: readonly Rule[] = [
  {
    name: 'a request has 152 bytes, and its answer completes the call that asked',
    source: 'vduse_dev_msg_sync',
    play: onSilence(async ({ world, device }) => {
      let opened = false;
      const opening = world.open(NAME).then((driver) => {
        opened = true;
        return driver;
      });
      const bytes = await within(device.read(), 'a message');
      assert.is(bytes.byteLength, 152);
      const request = vduse.vduseDevRequest.decode(bytes);
      assert.equal([request.type, request.s.status], [vduse.VDUSE_SET_STATUS, 0]);
      await world.settle();
      assert.is(opened, false);
      await device.write(reply({ request_id: request.request_id }));
      await within(opening, 'the opening');
      void new Responder(device);
    }),
  },
  {
    name: 'request ids count up',
    source: 'vduse_dev_msg_sync',
    play: onScene(async ({ driver, responder }) => {
      await setStatus(driver, 1);
      await setStatus(driver, 3);
      const ids = responder.requests.map(({ request_id }) => request_id);
      assert.equal(
        ids,
        ids.map((_, index) => ids[0]! + index),
      );
      assert.is(ids.length, 3);
    }),
  },
  {
    name: 'an answer to nothing is ENOENT, a short or reserved one EINVAL, and the request still waits',
    source: 'vduse_dev_write_iter',
    play: onSilence(async ({ world, device }) => {
      await fails(device.write(reply({ request_id: 0 })), 'ENOENT', 'write');
      const opening = world.open(NAME);
      await world.settle();
      // Sent but not read: there is nothing to answer yet.
      await fails(device.write(reply({ request_id: 0 })), 'ENOENT');
      const { request_id } = await decode(device);
      await fails(device.write(reply({ request_id: request_id + 1 })), 'ENOENT');
      await fails(device.write(reply({ request_id }).subarray(0, 151)), 'EINVAL', 'write');
      await fails(device.write(reply({ request_id, reserved: [0, 0, 0, 1] })), 'EINVAL');
      await device.write(reply({ request_id }));
      await fails(device.write(reply({ request_id })), 'ENOENT');
      await within(opening, 'the opening');
      void new Responder(device);
    }),
  },
  {
    name: 'a result other than OK is a refusal, whatever its number',
    source: 'vduse_dev_msg_sync',
    play: onSilence(async ({ world, device }) => {
      for (const result of [vduse.VDUSE_REQ_RESULT_FAILED, 2, 0xffffffff]) {
        const opening = fails(world.open(NAME), 'EIO', 'open');
        const { request_id } = await decode(device);
        await device.write(reply({ request_id, result }));
        await opening;
      }
    }),
  },
  {
    name: 'a message that is not answered in time breaks the device for ever',
    source: 'vduse_dev_broken',
    play: onSilence(async ({ world, control, device }) => {
      const opening = fails(world.open(NAME), 'EIO');
      const { request_id } = await decode(device);
      const waiting = fails(device.read(), 'EIO', 'read');
      await opening;
      await waiting;
      await fails(device.write(reply({ request_id })), 'ENOENT');
      await fails(get(device, vduse.VDUSE_DEV_GET_FEATURES, u64), 'EPERM', 'ioctl');
      await fails(device.ioctl(vduse.VDUSE_VQ_INJECT_IRQ), 'EPERM');
      await fails(world.open(NAME), 'EIO');

      // Opening the node again does not help; destroying it does.
      await device.close();
      const again = await control.open(NAME);
      await fails(get(again, vduse.VDUSE_DEV_GET_FEATURES, u64), 'EPERM');
      await again.close();
      await world.detach(NAME);
      await control.ioctl(vduse.VDUSE_DESTROY_DEV, vduse.vduseName.encode(NAME));
      await control.ioctl(vduse.VDUSE_CREATE_DEV, deviceConfig());
      const fresh = await control.open(NAME);
      assert.is(await get(fresh, vduse.VDUSE_DEV_GET_FEATURES, u64), 0n);
    }, SHORT_MS),
  },
  {
    name: 'a message that nobody reads times out as well',
    source: 'vduse_dev_msg_sync',
    play: onSilence(async ({ world, device }) => {
      await fails(world.open(NAME), 'EIO');
      await fails(get(device, vduse.VDUSE_DEV_GET_FEATURES, u64), 'EPERM');
    }, SHORT_MS),
  },
  {
    name: 'a driver of a broken device finds EIO at reset, and its other status writes without effect',
    source: 'vduse_vdpa_set_status, vduse_vdpa_reset',
    play: onScene(
      async ({ driver, responder }) => {
        await setStatus(driver, 1);
        responder.answer = () => undefined;
        await setStatus(driver, 3);
        assert.is(await getStatus(driver), 1);
        await setStatus(driver, 3);
        assert.is(await getStatus(driver), 1);
        await fails(setStatus(driver, 0), 'EIO');
        assert.is(await getStatus(driver), 0);
        await within(driver.close(), 'closing');
      },
      { messageTimeoutMs: SHORT_MS },
    ),
  },
  {
    name: 'a timeout of 0 waits for as long as it takes',
    source: 'vduse_dev_msg_sync',
    play: onSilence(async ({ world, device }) => {
      const opening = world.open(NAME);
      const { request_id } = await decode(device);
      await world.settle();
      await device.write(reply({ request_id }));
      await within(opening, 'the opening');
      void new Responder(device);
    }, 0),
  },
  {
    name: 'what was read and not answered is delivered again to whoever opens the node next',
    source: 'vduse_dev_release',
    play: onSilence(async ({ world, control, device }) => {
      const opening = world.open(NAME);
      const first = await within(device.read(), 'a message');
      const pending = fails(device.read(), 'EBADF', 'read');
      await device.close();
      await pending;
      const again = await control.open(NAME);
      const bytes = await within(again.read(), 'the message again');
      assert.equal(bytes, first);
      await again.write(reply({ request_id: vduse.vduseDevRequest.decode(bytes).request_id }));
      await within(opening, 'the opening');
      void new Responder(again);
    }),
  },
  {
    name: 'a server that takes over finds queues and negotiation as they were',
    source: 'vduse_dev_release',
    play: onScene(async ({ control, device, driver }) => {
      await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(1n));
      await driver.ioctl(vhost.VHOST_SET_VRING_NUM, vhost.vhostVringState.encode({ index: 1, num: 64 }));
      await device.close();
      const again = await control.open(NAME);
      void new Responder(again);
      assert.is(await get(again, vduse.VDUSE_DEV_GET_FEATURES, u64), 1n);
      const info = vduse.vduseVqInfo.encode({ index: 1 });
      await again.ioctl(vduse.VDUSE_VQ_GET_INFO, info);
      assert.is(vduse.vduseVqInfo.decode(info).num, 64);
    }),
  },
];
