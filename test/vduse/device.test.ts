import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VERDICT_HEAD, VQ_GATE_CLOSED } from '../../assembly/layout.js';
import type { QueueBlock } from '../../host/queue/queue-block.js';
import * as vduse from '../../host/uapi/vduse.js';
import { VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_F_VERSION_1 } from '../../host/uapi/virtio.js';
import { until } from '../models/fixture.js';
import { DRIVER_OK, FEATURES_OK, REGION_BYTES, RINGS, scenario } from './stage.js';

scenario('the queues are set up before any message is read', async (stage) => {
  await stage.status(0);
  assert.is(stage.ioctls[0], vduse.VDUSE_VQ_SETUP);
});

scenario('a message of an unknown type is answered: failed', async (stage) => {
  assert.is((await stage.message(77)).result, vduse.VDUSE_REQ_RESULT_FAILED);
  assert.ok(await stage.status(0));
});

scenario('queues open at DRIVER_OK, with kick eventfd, not before', async (stage) => {
  assert.not(stage.isOpen());
  for (const status of [0, VIRTIO_CONFIG_S_ACKNOWLEDGE, FEATURES_OK]) await stage.status(status);
  assert.not(stage.isOpen());
  assert.ok(await stage.status(DRIVER_OK));
  assert.ok(stage.isOpen());
  assert.ok(stage.ioctls.includes(vduse.VDUSE_VQ_SETUP_KICKFD));
});

scenario(
  'reset is idempotent, closes the queues, and a new life sets the kick eventfd again',
  async (stage) => {
    assert.ok(await stage.start());
    for (let round = 0; round < 3; round++) assert.ok(await stage.status(0));
    assert.not(stage.isOpen());
    // `vdpa dev del` sends ACKNOWLEDGE last.
    assert.ok(await stage.status(VIRTIO_CONFIG_S_ACKNOWLEDGE));
    assert.not(stage.isOpen());
    const before = stage.ioctls.filter((request) => request === vduse.VDUSE_VQ_SETUP_KICKFD).length;
    assert.ok(await stage.start());
    const after = stage.ioctls.filter((request) => request === vduse.VDUSE_VQ_SETUP_KICKFD).length;
    assert.equal([before, after], [1, 2]);
    assert.ok(stage.isOpen());
  },
);

scenario('GET_VQ_STATE answers the driver’s own start value, then where the queue is', async (stage) => {
  stage.info[0] = { ...stage.info[0], split: { avail_index: 7 } };
  const state = async () =>
    (await stage.message(vduse.VDUSE_GET_VQ_STATE, { vq_state: { index: 0 } })).vq_state.split.avail_index;
  assert.is(await state(), 7);
  await stage.start();
  assert.is(await state(), 7);
  assert.ok(stage.isOpen());
  const none = await stage.message(vduse.VDUSE_GET_VQ_STATE, { vq_state: { index: 5 } });
  assert.is(none.result, vduse.VDUSE_REQ_RESULT_FAILED);
});

scenario('SUSPEND stops the queues until a reset', async (stage) => {
  await stage.start();
  assert.is((await stage.message(vduse.VDUSE_SUSPEND)).result, vduse.VDUSE_REQ_RESULT_OK);
  assert.not(stage.isOpen());
  await stage.status(0);
  await stage.start();
  assert.ok(stage.isOpen());
});

scenario('UPDATE_IOTLB drops what was mapped and finds the rings again', async (stage) => {
  await stage.start();
  const lookups = () => stage.ioctls.filter((request) => request === vduse.VDUSE_IOTLB_GET_FD).length;
  assert.is(lookups(), 1);
  const everything = { iova: { start: 0n, last: 2n ** 64n - 1n } };
  for (let round = 0; round < 10; round++)
    assert.is((await stage.message(vduse.VDUSE_UPDATE_IOTLB, everything)).result, vduse.VDUSE_REQ_RESULT_OK);
  assert.is(lookups(), 11);
  assert.ok(stage.isOpen());
  // Elsewhere: nothing of ours goes.
  await stage.message(vduse.VDUSE_UPDATE_IOTLB, { iova: { start: 0n, last: 0xffffn } });
  assert.is(lookups(), 11);
  stage.mapped = false;
  assert.is((await stage.message(vduse.VDUSE_UPDATE_IOTLB, everything)).result, vduse.VDUSE_REQ_RESULT_OK);
  assert.ok(stage.events.includes('ERR_RING_UNMAPPED'));
  assert.not(stage.isOpen());
  assert.is(stage.file.resets, 1);
});

scenario(
  'a queue that is ready only after DRIVER_OK is adopted nevertheless',
  async (stage) => {
    stage.info[1] = { ...stage.info[1], ready: 0 };
    assert.ok(await stage.start());
    assert.equal([stage.isOpen(0), stage.isOpen(1)], [true, false]);
    stage.info[1] = { ...stage.info[1], ready: 1 };
    await until(() => stage.isOpen(1), 'the second queue');
  },
  { queues: 2 },
);

for (const [what, change] of [
  ['of size 0', { num: 0 }],
  ['of a size that is no power of two', { num: 24 }],
  ['that is too large', { num: 128 }],
  ['with a misaligned descriptor table', { desc_addr: RINGS + 4n }],
  ['with a misaligned driver area', { driver_addr: RINGS + 0x201n }],
  ['with a misaligned device area', { device_addr: RINGS + 0x402n }],
  ['whose device area crosses the end of its region', { device_addr: RINGS + BigInt(REGION_BYTES) - 16n }],
  ['that wraps 2^64', { desc_addr: 2n ** 64n - 16n }],
] as const)
  scenario(
    `a queue ${what} is refused at DRIVER_OK, and a sound one is taken after a reset`,
    async (stage) => {
      const [sound] = stage.info;
      stage.info = [{ ...sound, ...change }];
      assert.not(await stage.start());
      assert.ok(stage.events.includes('ERR_CONTROL_PLANE'));
      assert.not(stage.isOpen());
      stage.info = [sound!];
      assert.ok(await stage.start());
      assert.ok(stage.isOpen());
    },
  );

for (const perm of [vduse.VDUSE_ACCESS_RO, vduse.VDUSE_ACCESS_WO, 0, 9])
  scenario(`rings in a region of permission ${perm} are refused`, async (stage) => {
    stage.perm = perm;
    assert.not(await stage.start());
    assert.not(stage.isOpen());
  });

scenario('a driver without the features that are needed does not get FEATURES_OK', async (stage) => {
  stage.features = 1n << BigInt(VIRTIO_F_VERSION_1);
  await stage.status(VIRTIO_CONFIG_S_ACKNOWLEDGE);
  assert.not(await stage.status(FEATURES_OK));
  assert.ok(stage.events.includes('ERR_FEATURES'));
});

scenario(
  'a broken queue closes all of them until the next reset',
  async (stage) => {
    await stage.start();
    stage.aperture.engine.deviceBreak(stage.blocks[1]!.vq, VERDICT_HEAD);
    await stage.device.attend();
    assert.ok(stage.events.includes('ERR_RING_HEAD'));
    assert.is(stage.file.resets, 1);
    assert.equal([stage.isOpen(0), stage.isOpen(1)], [false, false]);
    await stage.device.attend();
    assert.is(stage.file.resets, 1, 'told once');
    await stage.status(0);
    assert.ok(await stage.start());
    assert.equal([stage.isOpen(0), stage.isOpen(1)], [true, true]);
  },
  { queues: 2 },
);

scenario('a message that stops nothing is answered while a queue is inside its ring', async (stage) => {
  await stage.start();
  assert.ok(stage.blocks[0]!.gate.enter());
  assert.ok(await stage.status(DRIVER_OK));
  assert.is((await stage.message(77)).result, vduse.VDUSE_REQ_RESULT_FAILED);
  stage.blocks[0]!.gate.leave();
  assert.equal(
    stage.events.filter((event) => event.startsWith('ERR')),
    [],
  );
});

scenario('a thread that is stuck inside its ring leaves the device broken for good', async (stage) => {
  await stage.start();
  assert.ok(stage.blocks[0]!.gate.enter());
  assert.ok(await stage.status(0), 'a reset happens in the kernel whatever the answer is');
  await stage.status(VIRTIO_CONFIG_S_ACKNOWLEDGE);
  await stage.status(FEATURES_OK);
  assert.not(await stage.status(DRIVER_OK));
  assert.is(stage.events.at(-1), 'ERR_DEVICE_BROKEN');
  assert.match(stage.messages.at(-1)!, 'close the device and serve another one');
});

scenario(
  'a pause that one queue does not grant ends for the others, and whoever wanted it is told',
  async (stage) => {
    await stage.start();
    assert.ok(stage.blocks[1]!.gate.enter());
    let changed = false;
    const change = async () => {
      changed = true;
      return undefined;
    };
    const failure = await stage.device.reconfigure(change).catch((error) => error);
    assert.is(failure?.code, 'ERR_THREAD_LOST');
    assert.not(changed);
    assert.ok(stage.events.includes('ERR_THREAD_LOST'));
    // Stopped once, by the device that is broken now: not paused as well.
    const closed = ({ vq }: QueueBlock) => Atomics.load(stage.aperture.i32, (vq + VQ_GATE_CLOSED) / 4);
    assert.is(closed(stage.blocks[0]!), 1);
  },
  { queues: 2 },
);

test.run();
