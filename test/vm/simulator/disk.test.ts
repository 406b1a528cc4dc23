import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type OpenBlockOptions, openBlock, type RingbellError } from '../../../host/index.js';
import {
  addSimulator,
  bindDriver,
  hasModule,
  kernelIsSince,
  modprobe,
  removeDevice,
  shell,
  skip,
} from '../fixture.js';
import { pattern, sweep } from './sweep.js';

const NAME = 'simulator0';
/** A driver with little memory: it is pinned page by page where a device takes no process addresses. */
const SMALL: OpenBlockOptions = { slotBytes: 4096, allocBytes: 2 ** 20 };
/** Bytes; less than the memory of the smallest driver. */
const SMALL_MEMLOCK = 65_536;

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

  for (const parameters of [['batch_mapping=0'], ['use_va=0'], ['batch_mapping=0', 'use_va=0']])
    test(`a simulator with ${parameters.join(' and ')} is driven as well`, async () => {
      await reload(parameters);
      await using disk = await openBlock(path, SMALL);
      await sweep(2 ** 20, 0, (offset, length) => disk.write(offset, pattern(offset, length, 9)));
      await sweep(2 ** 20, 0, async (offset, length) => {
        assert.ok(pattern(offset, length, 9).equals(await disk.read(offset, length)), `at ${offset}`);
      });
    });

  /** Asserts that opening is refused, with a message that names both limits. */
  const refused = async (options: OpenBlockOptions) => {
    const refusal = await openBlock(path, options).then(
      async (disk) => {
        await disk.close();
        return undefined;
      },
      (error: RingbellError) => error,
    );
    assert.is(refusal?.code, 'ERR_CONTROL_PLANE');
    assert.match(refusal!.message, /RLIMIT_MEMLOCK and max_iotlb_entries/);
  };

  test('where memory is pinned, locked memory has a limit, and so has the number of its pieces', async () => {
    await reload(['use_va=0']);
    const limit = (bytes: string) => shell(`prlimit --pid ${process.pid} --memlock=${bytes}`);
    limit(`${SMALL_MEMLOCK}:unlimited`);
    await refused(SMALL);
    limit('unlimited:unlimited');
    // Newer kernels back a memory file with large folios, each of which is one piece: too few to run into the limit.
    if (!kernelIsSince('7.0')) await refused({ allocBytes: 2 ** 26 });
    await using disk = await openBlock(path, SMALL);
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

  test.after(() => {
    removeDevice(NAME);
    // The next test file finds it with the parameters that it has by itself.
    shell(`modprobe -d ${process.env.RINGBELL_VM_MODULES ?? '/'} -r vdpa_sim_blk`);
  });
}

test.run();
