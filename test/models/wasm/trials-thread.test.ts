import { once } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { until, within } from '../fixture.js';
import { ANSWER, ask, defineTrials, offer, Trial, trial } from './trials.js';

defineTrials(1);

test('a model that does not come back costs its device its thread once that has to stop, and its device alone', async () => {
  await trial({ threads: 1 }, async (driver, device) => {
    assert.is((await ask(driver, Trial.Knowledge)).used, 24);
    const error = once(device, 'error');
    offer(driver, Trial.Endless, new Uint8Array(0), [], [64]);
    await until(() => driver.data.getUint32(ANSWER, true) === 1, 'the model in its loop');
    const reset = driver.reset();
    const [{ code }] = await within(error, 'an error event', 30_000);
    assert.is(code, 'ERR_THREAD_LOST');
    await within(reset, 'the reset', 30_000);
  });
});

test.run();
