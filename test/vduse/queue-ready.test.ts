/** Queues that become ready, or stop being so, after DRIVER_OK: told by a message (VDUSE_F_QUEUE_READY), or found out. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as vduse from '../../host/uapi/vduse.js';
import { until } from '../models/fixture.js';
import { type Stage, scenario } from './stage.js';

const TOLD = { queues: 2, features: [vduse.VDUSE_F_QUEUE_READY, vduse.VDUSE_F_SUSPEND] };

/** Starts with the second queue not ready. */
async function start(stage: Stage): Promise<void> {
  ready(stage, 0);
  assert.ok(await stage.start());
  assert.equal([stage.isOpen(0), stage.isOpen(1)], [true, false]);
}

function ready(stage: Stage, ready: number, index = 1): void {
  stage.info[index] = { ...stage.info[index], ready };
}

/** Sends VDUSE_SET_VQ_READY, and has the transport act on the answer. */
async function setReady(stage: Stage, num: number, value: number): Promise<void> {
  const answer = stage.message(vduse.VDUSE_SET_VQ_READY, { vq_ready: { num, ready: value } });
  assert.is((await answer).result, vduse.VDUSE_REQ_RESULT_OK);
  ready(stage, value, num);
}

scenario(
  'a queue is adopted by the message that makes it ready, and opens once the transport has it so',
  async (stage) => {
    await start(stage);
    await setReady(stage, 1, 1);
    await until(() => stage.isOpen(1), 'the second queue');
  },
  TOLD,
);

scenario(
  'a queue that stops being ready stops, and can be made ready again, elsewhere',
  async (stage) => {
    await start(stage);
    const { epoch } = stage.blocks[0]!;
    await setReady(stage, 0, 0);
    assert.not(stage.isOpen(0));
    assert.is.not(stage.blocks[0]!.epoch, epoch, 'what a model holds is stale at once');
    stage.info[0] = { ...stage.info[0], split: { avail_index: 9 } };
    await setReady(stage, 0, 1);
    await until(() => stage.isOpen(0), 'the first queue');
    assert.is(stage.blocks[0]!.base, 9);
  },
  TOLD,
);

scenario(
  'a queue that stops is broken no more by what its driver had done to it',
  async (stage) => {
    await start(stage);
    stage.info[1] = { ...stage.info[1], num: 24 };
    await setReady(stage, 1, 1);
    await setReady(stage, 1, 0);
    stage.info[1] = { ...stage.info[1], num: 8 };
    await setReady(stage, 1, 1);
    await until(() => stage.isOpen(1), 'the second queue');
    assert.is(stage.blocks[1]!.verdict, 0);
  },
  TOLD,
);

scenario(
  'a queue that cannot be run is not refused, which would break the device for ever, but reported',
  async (stage) => {
    await start(stage);
    stage.info[1] = { ...stage.info[1], num: 24 };
    await setReady(stage, 1, 1);
    assert.ok(stage.events.includes('ERR_CONTROL_PLANE'));
    assert.equal([stage.isOpen(0), stage.isOpen(1)], [true, false]);
  },
  TOLD,
);

scenario(
  'before DRIVER_OK the message changes nothing, and a queue that there is not neither',
  async (stage) => {
    await stage.status(0);
    await setReady(stage, 1, 1);
    await setReady(stage, 0, 1);
    assert.is((await stage.message(vduse.VDUSE_SET_VQ_READY, { vq_ready: { num: 7, ready: 1 } })).result, 0);
    assert.not(stage.isOpen(0));
    assert.ok(await stage.start());
    assert.ok(stage.isOpen(1));
  },
  TOLD,
);

scenario(
  'who is told does not look',
  async (stage) => {
    await start(stage);
    const looks = stage.ioctls.length;
    ready(stage, 1);
    stage.kick(1);
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.is(stage.ioctls.length, looks);
  },
  TOLD,
);

scenario(
  'who is not told looks at a kick',
  async (stage) => {
    await start(stage);
    ready(stage, 1);
    stage.kick(1);
    await until(() => stage.isOpen(1), 'the second queue');
  },
  { queues: 2 },
);

scenario(
  'a suspended device takes up no queue',
  async (stage) => {
    await start(stage);
    await stage.message(vduse.VDUSE_SUSPEND);
    await setReady(stage, 1, 1);
    assert.equal([stage.isOpen(0), stage.isOpen(1)], [false, false]);
  },
  TOLD,
);

test.run();
