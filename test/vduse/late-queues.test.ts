import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../host/native/addon.js';
import { LateQueues } from '../../host/vduse/late-queues.js';
import { until } from '../models/fixture.js';

/** Milliseconds; longer than any test waits. */
const NEVER_MS = 1_000_000;

test('a kick has somebody look, and stays for the thread that will run the queue', async () => {
  const fd = loadAddon().eventfd();
  let looks = 0;
  const late = new LateQueues(() => looks++, NEVER_MS);
  late.watch([fd]);
  loadAddon().eventfdSignal(fd);
  await until(() => looks === 1, 'a look');
  assert.is(loadAddon().eventfdDrain(fd), 1);
  late.stop();
  loadAddon().close(fd);
});

test('so does the timer, until it is stopped', async () => {
  let looks = 0;
  const late = new LateQueues(() => looks++, 1);
  late.watch([]);
  await until(() => looks > 2, 'looks');
  late.stop();
  const now = looks;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.is(looks, now);
});

test.run();
