import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

/** Runs a program in a mount namespace of its own, with a file system mounted at `directory`. */
async function onFileSystem(mount: string, lines: string): Promise<void> {
  const namespace = ['--map-root-user', '--mount'];
  const works = `mount ${mount} /mnt`;
  if (spawnSync('unshare', [...namespace, 'sh', '-c', works]).status !== 0)
    return console.log(`skipped: no namespace in which to ${works}`);
  const module = (path: string) => JSON.stringify(new URL(`../../host/${path}`, import.meta.url).href);
  const program = `
    import * as assert from 'node:assert/strict';
    import { statSync, truncateSync, writeFileSync } from 'node:fs';
    import { Bus } from ${module('bus/index.js')};
    import { openBlock } from ${module('drivers/blk.js')};
    import { BlockDevice } from ${module('models/blk/block-device.js')};
    import { serve } from ${module('serve.js')};
    const MIB = 2 ** 20;
    const file = '/mnt/disk.img';
    const bus = new Bus();
    const errors = [];
    const start = async (options) => {
      const device = await serve(new BlockDevice({ file, ...options }), { name: 'disk0', bus });
      device.on('error', (error) => errors.push(error.code));
      return { device, disk: await openBlock('disk0', { bus }) };
    };
    const stop = async ({ device, disk }) => { await disk.close(); await device.close(); };
    ${lines}
    console.log('done');
  `;
  const child = spawn('unshare', [
    ...namespace,
    'sh',
    '-c',
    `${works} && exec "$@"`,
    'sh',
    process.execPath,
    '--input-type=module',
    '--eval',
    program,
  ]);
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
  await once(child, 'close');
  clearTimeout(timer);
  assert.is(output, 'done\n');
}

for (const mapped of [true, false])
  test(`a full file system fails the write, and a disk ${mapped ? 'that is mapped' : 'in a file'} goes on`, () =>
    onFileSystem(
      '-t tmpfs -o size=1m none',
      `
      const scene = await start({ create: 4 * MIB, mapped: ${mapped} });
      const { device, disk } = scene;
      let written = 0;
      const block = new Uint8Array(65536).fill(7);
      const full = await (async () => {
        for (; written < 4 * MIB; written += block.length) await disk.write(written, block);
      })().catch((error) => error);
      assert.equal(full.code, 'ERR_IO');
      assert.ok(written >= MIB / 2);
      assert.deepEqual(await disk.read(0, 65536), block);
      // Holes, of which reading must not take any storage either.
      for (let at = 2 * MIB; at < 4 * MIB; at += MIB)
        assert.deepEqual(await disk.read(at, MIB), new Uint8Array(MIB));
      await disk.discard(0, 131072);
      await disk.write(3 * MIB, block);
      assert.deepEqual(await disk.read(3 * MIB, 65536), block);
      assert.deepEqual([...new Set(errors)], ['ERR_IO']);
      await stop(scene);
      `,
    ));

test('a disk that is to be allocated is refused, or does not grow, where the file system is too small', () =>
  onFileSystem(
    '-t tmpfs -o size=1m none',
    `
    await assert.rejects(start({ create: 4 * MIB, allocate: true }), { code: 'ENOSPC' });
    truncateSync(file, MIB / 2);
    const scene = await start({ mapped: true, allocate: true });
    const { device, disk } = scene;
    assert.equal(statSync(file).blocks, MIB / 2 / 512);
    assert.ok(!device.features.includes('VIRTIO_BLK_F_DISCARD'));
    await disk.writeZeroes(0, MIB / 2, { unmap: true });
    assert.equal(statSync(file).blocks, MIB / 2 / 512);
    await assert.rejects(device.resize(4 * MIB), { code: 'ENOSPC' });
    assert.equal(statSync(file).size, MIB / 2);
    writeFileSync('/mnt/rest', new Uint8Array(MIB / 2));
    await disk.write(0, new Uint8Array(MIB / 2).fill(5));
    assert.deepEqual(await disk.read(0, MIB / 2), new Uint8Array(MIB / 2).fill(5));
    assert.deepEqual(errors, []);
    await stop(scene);
    `,
  ));

test('a file system without holes discards nothing and zeroes by writing', () =>
  onFileSystem(
    '-t ramfs none',
    `
    writeFileSync(file, new Uint8Array(MIB).fill(9));
    const scene = await start({});
    await scene.disk.discard(0, MIB / 2);
    await scene.disk.writeZeroes(MIB / 2, MIB / 4, { unmap: true });
    assert.deepEqual(await scene.disk.read(MIB / 2, MIB / 2), new Uint8Array(MIB / 2).fill(9, MIB / 4));
    assert.deepEqual(errors, []);
    await stop(scene);
    `,
  ));

test.run();
