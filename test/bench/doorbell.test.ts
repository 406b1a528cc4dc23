/** What the doorbell benchmark measures is there: each kick is made by one thread and seen by another. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { buildModule } from '../../bench/build.js';
import { Driver } from '../../bench/doorbell/driver.js';
import { KICKS_LIMIT } from '../../bench/doorbell/stage.js';

buildModule('doorbell');

for (const way of ['doorbell', 'eventfd'] as const)
  test(`kicks by ${way} are seen after they are made`, async () => {
    const driver = new Driver();
    try {
      const { p50, p99, deviceCpu, driverCpu, kickCost } = await driver.slice(way, 2_000, 0.05);
      assert.ok(p50 > 0);
      assert.ok(p99 >= p50);
      assert.ok(deviceCpu >= 0);
      assert.ok(kickCost > 0);
      assert.ok(driverCpu > 0);
    } finally {
      await driver.close();
    }
  });

test('a slice of no kicks has no delays, and one of too many is refused', async () => {
  const driver = new Driver();
  try {
    const { p50, deviceCpu } = await driver.slice('doorbell', 0, 0.02);
    assert.ok(Number.isNaN(p50));
    assert.ok(deviceCpu >= 0);
    await driver.slice('eventfd', KICKS_LIMIT, 2).then(
      () => assert.unreachable(),
      (error) => assert.instance(error, RangeError),
    );
  } finally {
    await driver.close();
  }
});

test.run();
