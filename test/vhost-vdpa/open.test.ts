import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, Bus, openVhostVdpa, SharedMemory, serve } from '../../host/index.js';

test('the control plane of a served device is opened by its name, and shown memory', async () => {
  const bus = new Bus();
  const served = await serve(new BlockDevice({ memory: 2 ** 20 }), { name: 'disk0', bus });
  const memory = SharedMemory.create(2 ** 20);
  const device = await openVhostVdpa('disk0', { bus });
  const region = { iova: 0n, bytes: 2n ** 20n, address: memory.address };
  assert.equal(await device.setMemTable([region]), {
    messages: 1,
    updates: 1,
    invalidations: 0,
    confirmed: true,
  });
  await device.unmap(region);
  await device.map([region]);
  assert.is((await device.setMemTable([region])).messages, 0);
  await device[Symbol.asyncDispose]();
  memory.close();
  await served.close();
  await bus.close();
});

for (const [name, target, options, code] of [
  ['an unknown name', 'disk1', {}, 'ERR_NO_DEVICE'],
  ['an unknown option', 'disk0', { buss: 1 }, 'ERR_ARGUMENT'],
] as const)
  test(`${name} is ${code}`, async () => {
    const bus = new Bus();
    try {
      await openVhostVdpa(target, { bus, ...options });
      assert.unreachable();
    } catch (error) {
      assert.is((error as { code?: string }).code, code);
    }
    await bus.close();
  });

test.run();
