import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, BlockModel, Bus, type Model, openBlock, serve } from '../../host/index.js';
import { timeRequests } from '../../host/observability/open-devices.js';
import { netScene, testFrame } from '../drivers/net-fixture.js';

const folder = mkdtempSync(join(tmpdir(), 'latency-'));
test.after(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'disk.img');
writeFileSync(file, Buffer.alloc(2 ** 20));

/** A disk that takes its time. */
class Slow extends BlockModel {
  capacity = 2 ** 20;
  async read(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Serves and drives a model, `requests` reads by promise and as many in a batch. */
async function drive(
  model: Model,
  options: { threads: number; mode?: 'poll' | 'notify' },
  requests: number,
): Promise<{ device: number; driver: number; slowest: number }> {
  const bus = new Bus();
  const device = await serve(model, { name: 'disk0', bus, ...options });
  const disk = await openBlock('disk0', { bus });
  for (let request = 0; request < requests; request++) await disk.read(0, 512);
  const batch = disk.batch();
  const memory = disk.alloc(512);
  for (let request = 0; request < requests; request++) {
    batch.read(0, memory, request);
    batch.submit();
    while (batch.reap() === 0) await batch.wait();
  }
  const [served, driven] = [device.snapshot().queues[0]!, disk.snapshot().queues[0]!];
  await disk.close();
  await device.close();
  await bus.close();
  return {
    device: served.latency?.samples ?? 0,
    driver: driven.latency?.samples ?? 0,
    slowest: served.latency?.buckets.at(-1)?.[0] ?? 0,
  };
}

for (const [what, model, options] of [
  ['a disk in memory on the event loop', () => new BlockDevice({ memory: 2 ** 20 }), { threads: 0 }],
  ['a disk in memory on a thread', () => new BlockDevice({ memory: 2 ** 20 }), { threads: 1 }],
  ['a disk in memory that polls', () => new BlockDevice({ memory: 2 ** 20 }), { threads: 1, mode: 'poll' }],
  ['a disk in a file', () => new BlockDevice({ file }), { threads: 1 }],
] as const)
  test(`${what}: a request in nine is timed, on both sides, and none unless somebody looks`, async () => {
    assert.equal(await drive(model(), options, 20), { device: 0, driver: 0, slowest: 0 });
    const end = timeRequests();
    try {
      const { device, driver } = await drive(model(), options, 45);
      assert.is(driver, 10);
      assert.ok(device >= 1 && device <= 45, `${device} on the device's side`);
    } finally {
      end();
    }
    assert.equal(await drive(model(), options, 20), { device: 0, driver: 0, slowest: 0 });
  });

test('a model in TypeScript is timed from the taking of a request to its giving back', async () => {
  const end = timeRequests();
  try {
    const { device, slowest } = await drive(new Slow(), { threads: 0 }, 10);
    assert.is(device, 3);
    assert.ok(slowest >= 4_500_000, `${slowest} ns`);
  } finally {
    end();
  }
});

test('frames that are sent are timed, buffers that wait for one are not', () =>
  netScene(async ({ net }) => {
    const end = timeRequests();
    try {
      for (let index = 0; index < 10; index++) {
        await net.send(testFrame(60));
        await net.receive();
      }
      const [receive, transmit] = net.snapshot().queues;
      assert.is(receive!.latency, undefined);
      assert.is(transmit!.latency!.samples, 2);
    } finally {
      end();
    }
  }));

test('several may look: it ends with the last', async () => {
  const [one, other] = [timeRequests(), timeRequests()];
  one();
  one();
  const { driver } = await drive(new BlockDevice({ memory: 2 ** 20 }), { threads: 0 }, 9);
  assert.is(driver, 2);
  other();
  assert.is((await drive(new BlockDevice({ memory: 2 ** 20 }), { threads: 0 }, 9)).driver, 0);
});

test.run();
