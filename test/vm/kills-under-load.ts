/** Servers that are killed at random moments while the kernel reads and writes their disk at full depth. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTIO_F_RING_PACKED } from '../../assembly/virtio.js';
import { acceptedFeature, imageFile, run } from './disk-fixture.js';
import type { ServerOptions } from './disk-server.js';
import { bindDriver, kernelIsSince, modprobe, scratch, shell, until } from './fixture.js';
import { ServerProcess, takeOver } from './server-process.js';

const BYTES = 16 * 2 ** 20;
const KILLS = 10;
/** The format of the ring, which is another one on each series: a second run would take minutes. Drivers use in order since 7.0. */
const packed = kernelIsSince('7.0');
/** Milliseconds that a server lives at most before it is killed. */
const LIFE_MS = 300;
/** Milliseconds for the next sign of life; and for all of the traffic, with the starts of all servers: less than a file has. */
const LIMIT_MS = 120_000;
const TRAFFIC_LIMIT_MS = 560_000;

/**
 * Registers the test for one kind of server. A file has one: starting eleven servers takes a minute or more where a CPU is
 * emulated.
 */
export function testKillsUnderLoad(by: ServerOptions['by']): void {
  modprobe('vduse', 'virtio_vdpa', 'virtio_blk');
  test(`ten kills at random moments under fio with verification, served by the ${by}, over ${packed ? 'packed' : 'split'} rings`, async () => {
    const options = { name: `disk-${by}`, file: imageFile(BYTES), by, packed, inOrder: packed };
    let server = await ServerProcess.start(options);
    const path = await bindDriver(options.name, 'virtio_vdpa');
    assert.is(acceptedFeature(path, VIRTIO_F_RING_PACKED), packed);
    const stop = join(scratch(), 'stop');
    // Random writes and reads at depth 32, each block with a checksum that is verified at the end of a pass.
    const pass = `timeout ${TRAFFIC_LIMIT_MS / 1000} fio --name=pass --filename=${path} --rw=randrw --bs=4k --size=2m --direct=1 --iodepth=32 \
      --ioengine=io_uring --verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=0 --verify_state_save=0`;
    const traffic = run(`while [ ! -e ${stop} ]; do ${pass} || exit 1; done`, TRAFFIC_LIMIT_MS);
    // It is awaited at the end; what has gone wrong until then must not end the process.
    traffic.catch(() => {});
    let replayed = 0;
    try {
      for (let kill = 0; kill < KILLS; kill++) {
        // Every other one in full swing, the rest at any moment, perhaps in the middle of taking over.
        if (kill % 2) await until('traffic', () => server.last('progress')?.requests, LIMIT_MS);
        await delay(Math.random() * LIFE_MS);
        replayed += server.last('progress')?.replayed ?? 0;
        await server.kill();
        server = await takeOver(options);
      }
      await until('requests after the last kill', () => server.last('progress')?.requests, LIMIT_MS);
      replayed += server.last('progress')!.replayed;
      writeFileSync(stop, '');
      await traffic;
      shell(`sync; echo 3 > /proc/sys/vm/drop_caches; cmp ${path} ${options.file}`);
      assert.is(server.last('error'), undefined);
      // What the engine serves it gives back in order: nothing of it is ever in the log.
      assert.is(replayed > 0, by === 'model', `${replayed} requests were replayed`);
      await server.close();
      assert.not.ok(existsSync(`/dev/vduse/${options.name}`));
      assert.not.ok(existsSync(`/run/ringbell/${options.name}`));
    } finally {
      // Also after a failure: requests that nobody answers would hold up the whole guest.
      writeFileSync(stop, '');
      await server.close().catch(() => {});
    }
  });
}
