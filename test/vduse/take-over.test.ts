import { test } from 'uvu';
import * as assert from 'uvu/assert';
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
