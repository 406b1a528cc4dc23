import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readdirSync } from 'node:fs';
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import { isSystemError } from '../../host/errors.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import { VDUSE_CREATE_DEV } from '../../host/uapi/vduse.js';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../../host/uapi/virtio.js';
import { rejects, scene, until, within } from './fixture.js';

const MIB = 2 ** 20;
const disk = () => new BlockDevice({ memory: MIB });

const MISTAKES: [Partial<ServeOptions>, RegExp][] = [
  [{ name: '' }, /^name must be 1 to 255 bytes of UTF-8 without '\/'$/],
  [{ name: 'a/b' }, /^name must be/],
  [{ name: 'x'.repeat(256) }, /^name must be/],
  [{ name: 'é'.repeat(128) }, /^name must be/],
  [{ queues: 0 }, /^queues must be an integer from 1 to 64, not 0$/],
  [{ queues: 65 }, /^queues must be an integer from 1 to 64, not 65$/],
  [{ queueSize: 100 }, /^queueSize must be a power of two, not 100$/],
  [{ queueSize: 2 }, /^queueSize must be an integer from 4 to 32768, not 2$/],
  [{ threads: -1 }, /^threads must be 0 or an integer from 1 to 64, not -1$/],
  [{ queues: 64, threads: 2 }, /^threads must be 0 or an integer from 3 to 64, not 2$/],
  [{ mode: 'fast' as 'poll' }, /^mode must be 'notify' or 'poll', not 'fast'$/],
  [
    { doorbell: 'yes' as 'shared' },
    /^doorbell must be 'page-per-vq', '2-byte', 'shared' or a layout, not 'yes'$/,
  ],
  [{ doorbell: { stride: 0, size: 1 } }, /^doorbell: size must be 2 bytes or more, not 1$/],
  [{ parent: 'x' as 'set_map' }, /^parent must be 'set_map' or 'dma_map', not 'x'$/],
  [{ transport: 'pci' as 'bus' }, /^transport must be 'bus' or 'vduse', not 'pci'$/],
  [{ transport: 'vduse', doorbell: 'shared' }, /^doorbell is an option of the in-process bus, not of vduse$/],
  [{ transport: 'vduse', attach: 'vdpa' as 'vhost' }, /^attach must be 'vhost' or 'virtio', not 'vdpa'$/],
  [{ attach: 'virtio' }, /^attach must be 'vhost' or 'mdev', not 'virtio'$/],
  [{ attach: false }, /^attach must be 'vhost' or 'mdev', not false$/],
  [{ quues: 3 } as Partial<ServeOptions>, /^serve has no option 'quues': there are name, transport, /],
];

for (const [options, message] of MISTAKES)
  test(`serve refuses ${inspect(options).slice(0, 60)} with a reason`, async () => {
    await rejects(serve(disk(), { name: 'disk0', ...options }), 'ERR_ARGUMENT', message);
  });

test('a model that is none, or options that are none, are refused by name', async () => {
  for (const [call, message] of [
    [() => serve(disk(), undefined as never), 'the options of serve must be an object, not undefined'],
    [() => serve(disk(), null as never), 'the options of serve must be an object, not null'],
    [
      () => serve(undefined as never, { name: 'disk0' }),
      /^model must be a device model, or the URL of a module that has one, not undefined$/,
    ],
    [
      () =>
        serve(
          new (class extends (BlockModel as new () => object) {
            capacity = MIB;
          })() as BlockModel,
          { name: 'disk0' },
        ),
      /^a BlockModel needs a read method$/,
    ],
    [
      () => serve({} as never, { name: 'disk0' }),
      /^model must be a device model, or the URL of a module that has one, not {}$/,
    ],
  ] as const) {
    const error = await call().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    assert.instance(error, TypeError);
    assert.match((error as TypeError).message, message);
  }
});

test('a signal or bus that is none is refused before anything starts', async () => {
  const bus = new Bus();
  const model = disk();
  for (const [options, message] of [
    [{ signal: {} }, /^signal must be an AbortSignal, not {}$/],
    [{ signal: 1 }, /^signal must be an AbortSignal, not 1$/],
    [{ signal: new EventTarget() }, /^signal must be an AbortSignal, not EventTarget/],
    [{ bus: {} }, /^bus must be a Bus, not {}$/],
    [{ bus: 'x' }, /^bus must be a Bus, not 'x'$/],
  ] as const) {
    const error: unknown = await serve(model, { name: 'disk0', bus, ...options } as never).catch(
      (reason) => reason,
    );
    assert.instance(error, TypeError);
    assert.match((error as TypeError).message, message);
    assert.equal(bus.list(), []);
  }
  const device = await within(serve(model, { name: 'disk0', bus }), 'serve');
  await within(device.close(), 'close');
  await bus.close();
});

test('a disk is served and driven under the longest name that there is', async () => {
  const bus = new Bus();
  // Two bytes a character, and one.
  const name = `${'é'.repeat(127)}x`;
  const device = await within(serve(disk(), { name, bus, doorbell: 'page-per-vq' }), 'serve');
  const driven = await within(openBlock(name, { bus }), 'openBlock');
  await within(driven.read(0, 512), 'read');
  await within(driven.close(), 'closing the disk');
  await within(device.close(), 'closing the device');
  await bus.close();
});

test('a name that is taken is refused, and its holder not disturbed', async () => {
  await scene(disk(), {}, async ({ bus, disk: driven }) => {
    try {
      await serve(disk(), { name: 'disk0', bus });
      assert.unreachable();
    } catch (error) {
      assert.ok(isSystemError(error, 'EEXIST'), String(error));
    }
    await within(driven.read(0, 512), 'read');
  });
});

test('a failure on the way leaves nothing behind', async () => {
  const bus = new Bus();
  const model = disk();
  bus.faults.inject({ point: 'ioctl', request: VDUSE_CREATE_DEV, errno: 'ENOSPC', times: 1 });
  try {
    await serve(model, { name: 'disk0', bus });
    assert.unreachable();
  } catch (error) {
    assert.ok(isSystemError(error, 'ENOSPC'), String(error));
  }
  assert.equal(bus.list(), []);
  const device = await within(serve(model, { name: 'disk0', bus }), 'serve');
  await within(device.close(), 'close');
  assert.equal(bus.list(), []);
  await bus.close();
});

test('the kernel’s VDUSE is asked for only where it is', async () => {
  try {
    const device = await serve(disk(), { name: 'ringbell-test', transport: 'vduse' });
    await device.close();
  } catch (error) {
    assert.ok(
      ['ERR_NOT_SUPPORTED', 'ERR_CONTROL_PLANE'].includes((error as { code: string }).code),
      String(error),
    );
  }
});

test('a signal that has aborted serves nothing, one that aborts later closes the device', async () => {
  const bus = new Bus();
  for (const late of [false, true]) {
    const early = new AbortController();
    if (!late) early.abort('why');
    const serving = serve(disk(), { name: 'disk0', bus, signal: early.signal });
    early.abort('why');
    const error = await within(serving, 'serve').catch((reason: unknown) => reason);
    assert.is((error as Error).name, 'AbortError');
    assert.is((error as { code?: string }).code, 'ABORT_ERR');
    assert.is((error as Error).cause, 'why');
    assert.equal(bus.list(), []);
  }
  const controller = new AbortController();
  const device = await within(serve(disk(), { name: 'disk0', bus, signal: controller.signal }), 'serve');
  const closed = new Promise<void>((resolve) => device.once('close', resolve));
  controller.abort();
  await within(closed, 'close');
  assert.equal(bus.list(), []);
  await bus.close();
});

test('status, reset and diagnostics follow the driver', async () => {
  const bus = new Bus();
  const published: unknown[] = [];
  const listener = (message: unknown) => published.push((message as { status: number }).status);
  const lives: string[] = [];
  const named = (message: unknown, name: string | symbol) =>
    lives.push(`${String(name)} ${(message as { device: ServedDevice }).device.name}`);
  subscribe('ringbell:device:open', named);
  subscribe('ringbell:device:status', listener);
  subscribe('ringbell:device:close', named);
  const device = await within(serve(disk(), { name: 'disk0', bus }), 'serve');
  assert.equal(lives.splice(0), ['ringbell:device:open disk0']);
  const seen: number[] = [];
  let resets = 0;
  device.on('status', (status) => seen.push(status));
  device.on('reset', () => resets++);
  const driven = await within(openBlock('disk0', { bus }), 'openBlock');
  await until(() => (device.status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0, 'DRIVER_OK');
  await within(driven.close(), 'close');
  await until(() => device.status === 0, 'reset');
  assert.is(resets, 1);
  assert.equal(seen, [3, 11, 15, 0]);
  assert.equal(published, seen);
  await within(device.close(), 'close');
  assert.equal(lives, ['ringbell:device:close disk0']);
  unsubscribe('ringbell:device:open', named);
  unsubscribe('ringbell:device:status', listener);
  unsubscribe('ringbell:device:close', named);
  await bus.close();
});

test('close can be called twice, by dispose, and afterwards resize says so', async () => {
  const bus = new Bus();
  const device = await within(serve(disk(), { name: 'disk0', bus }), 'serve');
  assert.match(
    inspect(device),
    /^ServedDevice \{ disk0: BlockDevice \{ 1048576 bytes of memory \}, 1 queue\(s\), no driver \}$/,
  );
  await within(Promise.all([device.close(), device[Symbol.asyncDispose]()]), 'close');
  assert.match(inspect(device), /closed/);
  await rejects(device.resize(MIB), 'ERR_CLOSED');
  assert.is(device.stats().requests, 0);
  await bus.close();
});

test('a driver that has the device open when it is closed is told', async () => {
  const bus = new Bus();
  const device = await within(serve(disk(), { name: 'disk0', bus }), 'serve');
  const driven = await within(openBlock('disk0', { bus }), 'openBlock');
  await within(driven.read(0, 512), 'read');
  await within(device.close(), 'close');
  await rejects(within(driven.read(0, 512), 'read'), 'ERR_DEVICE_BROKEN');
  await within(driven.close(), 'close');
  await bus.close();
});

test('a bus that is closed under its devices leaves them to be closed, with nothing lost', async () => {
  const bus = new Bus();
  const device = await within(serve(disk(), { name: 'disk0', bus, queues: 2 }), 'serve');
  const codes: string[] = [];
  device.on('error', (error) => codes.push(error.code));
  const driven = await within(openBlock('disk0', { bus }), 'openBlock');
  await within(driven.read(0, 512), 'read');
  await within(bus.close(), 'closing the bus');
  await within(driven.close(), 'closing the disk');
  await within(device.close(), 'closing the device');
  assert.not(codes.includes('ERR_THREAD_LOST'), codes.join());
});

for (const options of [
  { doorbell: 'page-per-vq' },
  { doorbell: 'page-per-vq', threads: 0 },
  { parent: 'dma_map' },
  { queueSize: 4 },
  { queueSize: 1024, queues: 3 },
] as const)
  test(`a disk served with ${inspect(options)} works`, async () => {
    await scene(disk(), options, async ({ disk: driven }) => {
      const bytes = new Uint8Array(8192).fill(0x42);
      await within(driven.write(0, bytes), 'write');
      assert.equal(await within(driven.read(0, 8192), 'read'), bytes);
    });
  });

test('opening and closing many times loses no descriptor and no thread', async () => {
  const open = () => readdirSync('/proc/self/fd').length;
  const threads = () => readdirSync('/proc/self/task').length;
  const round = () =>
    scene(disk(), { queues: 2 }, async ({ disk: driven }) => void (await driven.read(0, 512)));
  for (let warm = 0; warm < 3; warm++) await round();
  const before = [open(), threads()];
  for (let more = 0; more < 10; more++) await round();
  assert.equal([open(), threads()], before);
});

test.run();
