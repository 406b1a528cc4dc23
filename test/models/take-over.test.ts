import {
  chmodSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LOG_FEATURES, LOG_INSTANCE, LOG_VERSION } from '../../assembly/layout.js';
import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { serve } from '../../host/serve.js';
import { driverLog } from './driver-log.js';
import { imageFile, rejects, until, within } from './fixture.js';
import { type MortalOptions, MortalServer } from './mortal-server.js';

const BYTES = 2 ** 20;
const BLOCK = 4096;
const BLOCKS = 64;
const KILLS = 5;

interface Scene {
  bus: Bus;
  options: MortalOptions & { inFlightLog: string };
  /** Path of the log, and of the image. */
  log: string;
  image: string;
}

/** A bus of one's own, and where its device keeps its log. */
async function scene(body: (scene: Scene) => Promise<void>): Promise<void> {
  const { path, remove } = imageFile(BYTES);
  const bus = new Bus();
  const log = join(path, '..', 'log');
  try {
    await body({ bus, log, image: path, options: { disk: path, inFlightLog: log } });
  } finally {
    await within(bus.close(), 'closing the bus');
    remove();
  }
}

for (const [by, format] of [
  ['engine', {}],
  ['engine', { packed: true }],
  ['engine', { packed: true, inOrder: true }],
  ['model', {}],
  ['model', { packed: true }],
] as const)
  test(`a driver whose device is killed five times sees pauses, and loses nothing: served by the ${by} with ${JSON.stringify(format)}`, () =>
    scene(async ({ bus, options }) => {
      Object.assign(options, format);
      if (by === 'model') options.disk = new SharedArrayBuffer(BYTES);
      let server = await MortalServer.start(bus, options);
      assert.is(server.last('takenOver'), false, server.last('refused'));
      const disk = await openBlock('disk0', { bus });
      assert.is(disk.features.includes('VIRTIO_F_RING_PACKED'), 'packed' in format);
      let going = true;
      let passes = 0;
      const traffic = (async () => {
        for (; going; passes++) {
          const block = (n: number) => new Uint8Array(BLOCK).fill(1 + ((n + passes) % 255));
          await Promise.all(Array.from({ length: BLOCKS }, (_, n) => disk.write(n * BLOCK, block(n))));
          const read = await Promise.all(
            Array.from({ length: BLOCKS }, (_, n) => disk.read(n * BLOCK, BLOCK)),
          );
          for (const [n, bytes] of read.entries()) assert.equal(bytes, block(n));
        }
      })();
      // It is awaited at the end; what has gone wrong until then must not end the process.
      traffic.catch(() => {});
      let replayed = 0;
      for (let kill = 0; kill < KILLS; kill++) {
        const before = passes;
        await until(() => passes > before, 'traffic');
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 30));
        replayed += server.last('replayed') ?? 0;
        await server.kill();
        server = await MortalServer.start(bus, options);
        assert.is(server.last('takenOver'), true, server.last('refused'));
      }
      const before = passes;
      await until(() => passes > before && server.last('replayed') !== undefined, 'traffic');
      replayed += server.last('replayed')!;
      going = false;
      await within(traffic, 'the last requests');
      assert.is(server.last('error'), undefined);
      // What the engine serves it gives back in order: nothing of it is ever in the log.
      assert.is(replayed > 0, by === 'model', `${replayed} requests were replayed`);
      await disk.close();
      await server.close();
      assert.equal(bus.list(), []);
      assert.throws(() => statSync(options.inFlightLog), /ENOENT/);
    }));

/** What a server says that finds a device left by another one, after `change`. */
async function refused(
  change: (scene: Scene) => MortalOptions | undefined,
  format: Partial<MortalOptions> = {},
): Promise<string | undefined> {
  let code: string | undefined;
  await scene(async (stage) => {
    const first = await MortalServer.start(stage.bus, { ...stage.options, ...format });
    const disk = await openBlock('disk0', { bus: stage.bus });
    await first.kill();
    const changed = change(stage);
    const left = changed?.inFlightLog === undefined && readFileSync(stage.log, { flag: 'a+' });
    const second = await MortalServer.start(stage.bus, changed ?? stage.options);
    code = second.last('refused');
    if (code) {
      assert.ok(stage.bus.list()[0]?.attached, 'it is as it was');
      if (left && left.length > 0) assert.equal(readFileSync(stage.log), left);
    }
    await second.kill();
    // With nobody to answer, it is the bus that lets the driver go.
    await within(stage.bus.close(), 'closing the bus');
    await disk.close().catch(() => {});
  });
  return code;
}

/** Overwrites bytes of the log. */
const patch =
  (at: number) =>
  ({ log }: Scene): undefined => {
    const bytes = readFileSync(log);
    bytes[at]! ^= 1;
    // In place: a file of the same owner and mode.
    writeFileSync(log, bytes);
  };

test('a server takes over what it would have made itself, whatever its size is now', async () => {
  assert.is(await refused(({ image }) => truncateSync(image, 2 * BYTES) as undefined), undefined);
});

test('it refuses a device of another shape', async () => {
  assert.is(await refused(({ options }) => ({ ...options, queues: 2 })), 'ERR_TAKE_OVER');
  assert.is(await refused(({ options }) => ({ ...options, queueSize: 128 })), 'ERR_TAKE_OVER');
  assert.is(
    await refused(({ options }) => ({ ...options, disk: new SharedArrayBuffer(BYTES) })),
    'ERR_TAKE_OVER',
    'a model that has no DISCARD',
  );
  assert.is(
    await refused(({ options }) => ({ ...options, packed: false }), { packed: true }),
    'ERR_TAKE_OVER',
  );
  assert.is(await refused(({ options }) => ({ ...options, packed: true })), undefined, 'it offers more');
});

test('it refuses a driver of memory that is gone', async () => {
  assert.is(await refused(({ options }) => ({ ...options, disk: BYTES })), 'ERR_TAKE_OVER');
});

test('it refuses a log that is not there, not its own, or not of this device', async () => {
  assert.is(await refused(({ log }) => rmSync(log) as undefined), 'ERR_TAKE_OVER');
  assert.is(await refused(({ log }) => truncateSync(log, 100) as undefined), 'ERR_TAKE_OVER');
  assert.is(await refused(({ log }) => truncateSync(log, 200) as undefined), 'ERR_TAKE_OVER');
  assert.is(await refused(({ log }) => chmodSync(log, 0o640) as undefined), 'ERR_TAKE_OVER');
  const link = ({ log }: Scene): undefined => {
    renameSync(log, `${log}.real`);
    symlinkSync(`${log}.real`, log);
  };
  assert.is(await refused(link), 'ERR_TAKE_OVER');
  assert.is(await refused(patch(0)), 'ERR_TAKE_OVER');
  assert.is(await refused(patch(LOG_VERSION)), 'ERR_TAKE_OVER');
  assert.is(await refused(patch(LOG_INSTANCE)), 'ERR_TAKE_OVER');
  assert.is(await refused(patch(LOG_FEATURES + 6)), 'ERR_TAKE_OVER');
});

test('a log is a path, of a device of one group', async () => {
  const model = new BlockDevice({ memory: BYTES });
  const bus = new Bus();
  for (const wrong of ['', 1 as never, true as never])
    await rejects(serve(model, { name: 'disk0', bus, inFlightLog: wrong }), 'ERR_ARGUMENT', /inFlightLog/);
  const groups = { queues: 2, groups: 2, inFlightLog: '/nowhere' };
  await rejects(serve(model, { name: 'disk0', bus, ...groups }), 'ERR_ARGUMENT', /groups/);
  await bus.close();
});

test('what the next server writes is marked in the log that the driver has handed in', () =>
  scene(async ({ bus, options }) => {
    let server = await MortalServer.start(bus, options);
    const disk = await openBlock('disk0', { bus });
    const buffer = disk.alloc(16 * BLOCK);
    await disk.read(0, buffer);
    const log = driverLog();
    await bus.setLog('disk0', log.memory);
    await server.kill();
    server = await MortalServer.start(bus, options);
    assert.is(server.last('takenOver'), true, server.last('refused'));
    await disk.read(0, BLOCK);
    log.fetch();
    await disk.read(0, buffer);
    const marked = log.fetch();
    assert.ok(marked.length >= 16, `${marked.length} pages`);
    await disk.close();
    await server.kill();
    log.close();
  }));

test.run();
