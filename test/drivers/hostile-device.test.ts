import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
} from '../../assembly/virtio.js';
import type { ErrorCode, RingbellError } from '../../host/errors.js';
import { diskScene, rejects, type TestDisk } from './block-fixture.js';

/** Answers the request in flight on queue 0 with a used entry that no honest device writes. */
function answer(device: TestDisk, entry: { id: number; len: number; idx?: number }): void {
  const ring = device.ring(0);
  ring.setUint32(VIRTQ_USED_RING, entry.id, true);
  ring.setUint32(VIRTQ_USED_RING + VIRTQ_USED_ENTRY_SIZE / 2, entry.len, true);
  ring.setUint16(VIRTQ_USED_IDX, entry.idx ?? 1, true);
  device.interrupt(0);
}

const cases: [string, ErrorCode, { id: number; len: number; idx?: number }][] = [
  ['a used index ahead of what is in flight', 'ERR_RING_USED_INDEX', { id: 0, len: 513, idx: 2 }],
  ['a used index that went back', 'ERR_RING_USED_INDEX', { id: 0, len: 513, idx: 65535 }],
  ['a used id outside the table', 'ERR_RING_USED_ID', { id: 65536, len: 513 }],
  ['a used id that wraps 32 bits', 'ERR_RING_USED_ID', { id: 0xffff_ffff, len: 513 }],
  ['a used id that is not in flight', 'ERR_RING_USED_ID', { id: 5, len: 513 }],
  ['a used length beyond the buffer', 'ERR_RING_USED_LENGTH', { id: 0, len: 514 }],
];

for (const mode of ['notify', 'poll'] as const)
  for (const [name, code, entry] of cases)
    test(`${name} breaks the disk, mode ${mode}`, () =>
      diskScene(
        async ({ bus, device, disk }) => {
          const events: RingbellError[] = [];
          disk.on('error', (error) => events.push(error));
          const call = disk.read(0, 512);
          await new Promise(setImmediate);
          answer(device, entry);
          const error = await rejects(call, 'ERR_DEVICE_BROKEN', /the device is broken: queue 0/);
          assert.is((error.cause as RingbellError).code, code);
          await rejects(disk.write(0, new Uint8Array(512)), 'ERR_DEVICE_BROKEN');
          await rejects(disk.batch().wait(), 'ERR_DEVICE_BROKEN');
          assert.equal(
            events.map((event) => event.code),
            [code],
          );
          // The scene's time limit bounds this wait.
          while (!((bus.list()[0]?.status ?? 0) & VIRTIO_CONFIG_S_FAILED)) await new Promise(setImmediate);
        },
        { hold: true },
        { mode },
      ));

test('the same entry twice breaks the disk', () =>
  diskScene(async ({ device, disk }) => {
    await disk.read(0, 512);
    const ring = device.ring(0);
    ring.setBigUint64(
      VIRTQ_USED_RING + VIRTQ_USED_ENTRY_SIZE,
      ring.getBigUint64(VIRTQ_USED_RING, true),
      true,
    );
    const reported = new Promise<RingbellError>((resolve) => disk.on('error', resolve));
    device.held = true;
    // Two in flight, so that the index alone tells nothing: of slots 255 and 254, the ring answers one twice.
    const calls = [disk.read(0, 512), disk.read(512, 512)];
    await new Promise(setImmediate);
    ring.setBigUint64(
      VIRTQ_USED_RING + 2 * VIRTQ_USED_ENTRY_SIZE,
      ring.getBigUint64(VIRTQ_USED_RING, true),
      true,
    );
    ring.setUint16(VIRTQ_USED_IDX, 3, true);
    device.interrupt(0);
    const outcomes = await Promise.allSettled(calls);
    assert.ok(outcomes.some(({ status }) => status === 'rejected'));
    assert.is((await reported).code, 'ERR_RING_USED_ID');
  }));

test('a read whose used length says that bytes are missing is an I/O error', () =>
  diskScene(
    async ({ device, disk }) => {
      const target = new Uint8Array(512);
      const call = disk.read(0, target);
      await new Promise(setImmediate);
      device.bytes.fill(1);
      device.serveNow();
      device.ring(0).setUint32(VIRTQ_USED_RING + VIRTQ_USED_ENTRY_SIZE / 2, 512, true);
      device.interrupt(0);
      await rejects(call, 'ERR_IO', /read of 512 bytes at 0: I\/O error, bytes missing: 1/);
      assert.ok(target.every((byte) => byte === 0));
    },
    { hold: true },
  ));

test('a read whose used length says that bytes are missing is an I/O error in a batch too', () =>
  diskScene(
    async ({ device, disk }) => {
      const batch = disk.batch();
      const memory = disk.alloc(1024);
      batch.read(0, memory.subarray(0, 512), 1);
      batch.read(512, memory.subarray(512), 2);
      batch.submit();
      device.serveNow();
      device.ring(0).setUint32(VIRTQ_USED_RING + VIRTQ_USED_ENTRY_SIZE / 2, 512, true);
      assert.is(batch.reap(2), 2);
      const statuses = [0, 1].map((index) => [batch.tag(index), batch.status(index)]);
      assert.equal(statuses, [
        [1, VIRTIO_BLK_S_IOERR],
        [2, VIRTIO_BLK_S_OK],
      ]);
      assert.is(disk.stats().requests, 2);
      assert.is(disk.stats().bytesRead, 512);
    },
    { hold: true },
  ));

test('a status that there is not is an I/O error', () =>
  diskScene(
    async ({ device, disk }) => {
      const first = disk.read(0, 512);
      await new Promise(setImmediate);
      // The status byte is still what the driver put there.
      answer(device, { id: 0, len: 0 });
      await rejects(first, 'ERR_IO', /status 255, which there is not/);
    },
    { hold: true },
  ));

test('an error nobody listens to breaks nothing but its disk, and shows on the diagnostics channel', () =>
  diskScene(
    async ({ device, disk }) => {
      const published: unknown[] = [];
      const listener = (message: unknown) => published.push(message);
      subscribe('ringbell:disk:error', listener);
      const call = disk.read(0, 512);
      await new Promise(setImmediate);
      answer(device, { id: 7, len: 1 });
      await rejects(call, 'ERR_DEVICE_BROKEN');
      unsubscribe('ringbell:disk:error', listener);
      assert.is(published.length, 1);
      assert.is((published[0] as { error: RingbellError }).error.code, 'ERR_RING_USED_ID');
      assert.match(`${(await import('node:util')).inspect(disk)}`, /broken/);
    },
    { hold: true },
  ));

test('one queue that breaks takes the others with it', () =>
  diskScene(
    async ({ device, disk }) => {
      const calls = [disk.read(0, 512), disk.read(512, 512)];
      await new Promise(setImmediate);
      answer(device, { id: 9, len: 1 });
      for (const call of calls) await rejects(call, 'ERR_DEVICE_BROKEN');
    },
    { hold: true, queues: 2 },
    { queues: 2 },
  ));

test('a device that asks for a reset is broken', () =>
  diskScene(
    async ({ disk, file }) => {
      const call = disk.read(0, 512);
      const reported = new Promise<RingbellError>((resolve) => disk.on('error', resolve));
      await file.needsReset();
      await rejects(call, 'ERR_DEVICE_BROKEN', /disk0 needs a reset/);
      assert.is((await reported).code, 'ERR_DEVICE_BROKEN');
    },
    { hold: true },
  ));

test('a device that leaves the bus is broken', () =>
  diskScene(
    async ({ bus, disk }) => {
      const call = disk.read(0, 512);
      const reported = new Promise<RingbellError>((resolve) => disk.on('error', resolve));
      await bus.detach('disk0');
      await rejects(call, 'ERR_DEVICE_BROKEN');
      assert.is((await reported).code, 'ERR_DEVICE_BROKEN');
    },
    { hold: true },
  ));

test.run();
