/** The kernel's simulated disk, driven by us and, in turn, by the kernel. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type BlockDisk, type OpenBlockOptions, openBlock, type RingbellError } from '../../../host/index.js';
import {
  addSimulator,
  bindDriver,
  hasModule,
  modprobe,
  removeDevice,
  shell,
  skip,
  unbindDriver,
} from '../fixture.js';

const NAME = 'simulator0';
/** Bytes of a request of ours, which is split by what the device takes. */
const CHUNK = 2 ** 18;
/** Requests that are on their way at a time. */
const DEPTH = 8;
/** Milliseconds for reading the whole disk under emulation. */
const WHOLE_LIMIT_MS = 60_000;
/** Bytes; smaller than what a driver shows its device. */
const SMALL_MEMLOCK = 65_536;

/** Bytes that tell each sector of each pass from every other. */
function pattern(offset: number, bytes: number, pass: number): Buffer {
  const data = Buffer.alloc(bytes, pass);
  for (let at = 0; at < bytes; at += 512) data.writeDoubleLE(offset + at + 1, at);
  return data;
}

/** Goes through a disk from `start`, some requests at a time, in order of their starting. */
async function sweep(
  bytes: number,
  start: number,
  request: (offset: number, length: number) => Promise<unknown>,
): Promise<void> {
  let next = start;
  const worker = async () => {
    while (next < start + bytes) {
      const offset = next;
      next += CHUNK;
      await request(offset, Math.min(CHUNK, start + bytes - offset));
    }
  };
  await Promise.all(Array.from({ length: DEPTH }, worker));
}

async function hashOf(disk: BlockDisk, bytes = disk.capacity): Promise<string> {
  const hash = createHash('sha256');
  // In order: a hash has one.
  for (let at = 0; at < bytes; at += DEPTH * CHUNK) {
    const part = Buffer.alloc(Math.min(DEPTH * CHUNK, bytes - at));
    await sweep(part.length, at, async (offset, length) => {
      part.set(await disk.read(offset, length), offset - at);
    });
    hash.update(part);
  }
  return hash.digest('hex');
}

if (!hasModule('vdpa_sim_blk')) {
  skip('simulated disk', 'this kernel comes without vdpa_sim_blk, and nobody built it');
} else {
  modprobe('vhost_vdpa', 'virtio_vdpa', 'virtio_blk');
  addSimulator('blk', NAME);
  let path = await bindDriver(NAME, 'vhost_vdpa');

  test('one driver at a time; the next finds the device as new', async () => {
    for (let round = 0; round < 3; round++) {
      await using disk = await openBlock(path);
      const refusal = await openBlock(path).then(
        () => undefined,
        (error: RingbellError) => error.code,
      );
      assert.is(refusal, 'ERR_DEVICE_BUSY');
      await disk.write(0, pattern(0, 4096, round));
      assert.equal(Buffer.from(await disk.read(0, 4096)), pattern(0, 4096, round));
    }
  });

  for (const options of [
    { mode: 'poll' },
    { indirect: false, eventIdx: false },
    { queueSize: 4 },
    { slotBytes: 4096 },
  ] as OpenBlockOptions[])
    test(`what is written is read, with ${JSON.stringify(options)}`, async () => {
      await using disk = await openBlock(path, options);
      const bytes = 2 ** 20;
      await sweep(bytes, 0, (offset, length) => disk.write(offset, pattern(offset, length, 7)));
      await disk.flush();
      await sweep(bytes, 0, async (offset, length) => {
        assert.ok(pattern(offset, length, 7).equals(await disk.read(offset, length)), `at ${offset}`);
      });
    });

  test('requests in one turn go out together, and the kernel’s simulator has no doorbell', async () => {
    await using disk = await openBlock(path);
    await Promise.all(Array.from({ length: 32 }, (_, index) => disk.read(index * 4096, 4096)));
    const stats = disk.stats();
    assert.is(stats.queues[0]?.doorbell, false);
    assert.is(stats.queues[0]?.doorbellRefused, 'ENOTSUPP');
  });

  test('discarding and writing zeroes leave zeroes', async () => {
    await using disk = await openBlock(path);
    await disk.write(0, pattern(0, 16384, 3));
    await disk.writeZeroes(4096, 4096);
    await disk.discard(8192, 4096);
    const read = Buffer.from(await disk.read(0, 16384));
    assert.ok(read.subarray(4096, 8192).equals(Buffer.alloc(4096)));
    assert.ok(read.subarray(0, 4096).equals(pattern(0, 16384, 3).subarray(0, 4096)));
    assert.ok(read.subarray(12288).equals(pattern(0, 16384, 3).subarray(12288)));
  });

  test('the whole disk, written by us, is the same to us and to the kernel', async () => {
    const disk = await openBlock(path);
    const { capacity } = disk;
    assert.is(capacity, 128 * 2 ** 20);
    await sweep(capacity, 0, (offset, length) => disk.write(offset, pattern(offset, length, 1)));
    await disk.flush();
    const written = createHash('sha256');
    for (let at = 0; at < capacity; at += CHUNK) written.update(pattern(at, CHUNK, 1));
    const expected = written.digest('hex');
    assert.is(await hashOf(disk), expected, 'to us');
    await disk.close();
    await unbindDriver(NAME);
    const node = await bindDriver(NAME, 'virtio_vdpa');
    const output = shell(`sha256sum ${node}`, { limitMs: WHOLE_LIMIT_MS });
    assert.is(output.split(' ')[0], expected, 'to the kernel');
    await unbindDriver(NAME);
    path = await bindDriver(NAME, 'vhost_vdpa');
  });

  for (const parameters of [['batch_mapping=0'], ['use_va=0'], ['batch_mapping=0', 'use_va=0']])
    test(`a simulator with ${parameters.join(' and ')} is driven as well`, async () => {
      await reload(parameters);
      await using disk = await openBlock(path);
      await sweep(2 ** 20, 0, (offset, length) => disk.write(offset, pattern(offset, length, 9)));
      assert.is(
        await hashOf(disk, 2 ** 20),
        createHash('sha256')
          .update(Buffer.concat([0, 1, 2, 3].map((index) => pattern(index * CHUNK, CHUNK, 9))))
          .digest('hex'),
      );
    });

  test('where memory is pinned, too small a limit on locked memory is named', async () => {
    await reload(['use_va=0']);
    const limit = (bytes: string) => shell(`prlimit --pid ${process.pid} --memlock=${bytes}`);
    limit(`${SMALL_MEMLOCK}:unlimited`);
    const refusal = await openBlock(path).then(
      async (disk) => {
        await disk.close();
        return undefined;
      },
      (error: RingbellError) => error,
    );
    limit('unlimited:unlimited');
    assert.is(refusal?.code, 'ERR_CONTROL_PLANE');
    assert.match(refusal!.message, /RLIMIT_MEMLOCK/);
    await using disk = await openBlock(path);
    await disk.read(0, 4096);
  });

  /** Loads the simulator anew, with parameters of its own. */
  const reload = async (parameters: readonly string[]): Promise<void> => {
    const modprobe = `modprobe -d ${process.env.RINGBELL_VM_MODULES ?? '/'}`;
    shell(`vdpa dev del ${NAME} && ${modprobe} -r vdpa_sim_blk`);
    shell(`${modprobe} vdpa_sim ${parameters.join(' ')}`);
    for (const parameter of parameters) {
      const [name, value] = parameter.split('=');
      const set = readFileSync(`/sys/module/vdpa_sim/parameters/${name}`, 'latin1').trim();
      // A flag, or a number.
      assert.ok(set === value || set === (value === '0' ? 'N' : 'Y'), name);
    }
    addSimulator('blk', NAME);
    path = await bindDriver(NAME, 'vhost_vdpa');
  };

  test.after(() => removeDevice(NAME));
}

test.run();
