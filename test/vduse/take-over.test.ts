import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  LOG_AHEAD,
  LOG_BYTES_PER_ENTRY,
  LOG_ENTRIES,
  LOG_STATE,
  LOG_STATE_SPLIT,
  LOG_USED,
} from '../../assembly/layout.js';
import { systemError } from '../../host/errors.js';
import * as vduse from '../../host/uapi/vduse.js';
import { until } from '../models/fixture.js';
import { Stage } from './stage.js';

/** A device that another process has left, whose driver runs or does not: what INJECT_CONFIG_IRQ answers says which. */
function abandoned(isRunning: () => boolean, queues = 1): Stage {
  const stage = new Stage({ takenOver: true, queues });
  const answer = stage.file.onIoctl;
  stage.file.onIoctl = (request, argument) => {
    if (request === vduse.VDUSE_DEV_INJECT_CONFIG_IRQ && !isRunning()) throw systemError('EINVAL', 'ioctl');
    return answer(request, argument);
  };
  return stage;
}

test('the queues of a driver that runs are opened at once, without a message, and without being announced', async () => {
  const stage = abandoned(() => true, 2);
  await until(() => stage.isOpen(0) && stage.isOpen(1), 'open queues');
  assert.equal(stage.events, ['status 15']);
  assert.not.ok(stage.ioctls.includes(vduse.VDUSE_VQ_SETUP));
  assert.ok(await stage.status(0));
  assert.not.ok(stage.isOpen(0));
  assert.ok(await stage.start(), 'and the next driver starts as always');
  await stage.close();
});

test('without a driver nothing is opened until messages say so', async () => {
  const stage = abandoned(() => false);
  stage.features = 0n;
  await new Promise((resolve) => setImmediate(resolve));
  assert.not.ok(stage.isOpen());
  stage.features = (1n << 32n) | (1n << 33n);
  assert.ok(await stage.start());
  assert.ok(stage.isOpen());
  await stage.close();
});

test('a reply to DRIVER_OK that the transport acts on late is found out', async () => {
  let running = false;
  const stage = abandoned(() => running);
  await until(() => stage.ioctls.includes(vduse.VDUSE_DEV_GET_FEATURES), 'a look at the features');
  assert.not.ok(stage.isOpen());
  running = true;
  await until(() => stage.isOpen(), 'an open queue');
  await stage.close();
});

test('a message that was not answered is: what it says is believed', async () => {
  const stage = abandoned(() => false);
  // The other process was killed between FEATURES_OK and its reply to DRIVER_OK.
  assert.ok(await stage.status(15));
  assert.ok(stage.isOpen());
  await stage.close();
});

test('rings that cannot be run break the device until it is reset', async () => {
  const stage = abandoned(() => true);
  stage.mapped = false;
  await until(() => stage.events.length > 1, 'an error');
  assert.equal(stage.events.slice(0, 2), ['status 15', 'ERR_CONTROL_PLANE']);
  assert.not.ok(stage.isOpen());
  stage.mapped = true;
  assert.ok(await stage.start());
  assert.ok(stage.isOpen());
  await stage.close();
});

test('the position of a queue of a suspended device is what the log says, until the driver resets', async () => {
  const stage = abandoned(() => false);
  const [block] = stage.blocks;
  const log = stage.aperture.allocate(LOG_ENTRIES + 64 * LOG_BYTES_PER_ENTRY);
  stage.aperture.data.setUint32(log + LOG_STATE, LOG_STATE_SPLIT, true);
  stage.aperture.data.setUint32(log + LOG_AHEAD, 5, true);
  // Above the count of heads that were never taken.
  stage.aperture.data.setBigUint64(log + LOG_USED, 65536n, true);
  block!.keepLog(log, 64);
  stage.info = [{ ...stage.info[0]!, split: { avail_index: 2 } }];
  const position = async () => {
    const { result, vq_state } = await stage.message(vduse.VDUSE_GET_VQ_STATE, { vq_state: { index: 0 } });
    assert.is(result, vduse.VDUSE_REQ_RESULT_OK);
    return vq_state.split.avail_index;
  };
  assert.is(await position(), 5);
  assert.not.ok(stage.isOpen());
  assert.ok(await stage.status(0));
  assert.is(await position(), 2);
  await stage.close();
});

test('a queue that becomes ready afterwards is found', async () => {
  const stage = abandoned(() => true);
  const [info] = stage.info;
  stage.info = [{ ...info!, ready: 0 }];
  await until(() => stage.events.length > 0, 'the status');
  assert.not.ok(stage.isOpen());
  stage.info = [info!];
  await until(() => stage.isOpen(), 'an open queue');
  await stage.close();
});

test.run();
