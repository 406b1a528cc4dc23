import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { DISK_LINEAR, DISK_SECTORS, Ring } from './fixture.js';

const { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_UNSUPP } =
  virtio;
const { NOTIFY_DUE, COUNT_MASK } = layout;
const MIB = 2 ** 20;

/** Submits what stands in the submission table, serves it, and collects the completions. */
function roundTrip(ring: Ring, count: number): { tag: number; status: number; bytes: number }[] {
  assert.is(ring.engine.blkSubmit(ring.dq, ring.submissions, count) & COUNT_MASK, count);
  ring.engine.blkServe(ring.vq, ring.disk);
  return ring.completed(ring.engine.blkReap(ring.dq, ring.completions, 256, 0, 0));
}

for (const indirect of [false, true])
  for (const eventIdx of [false, true]) {
    const kind = `${indirect ? 'indirect' : 'direct'}, ${eventIdx ? 'event index' : 'flags'}`;

    test(`what was written is read back, byte for byte, over many laps of the ring (${kind})`, () => {
      const ring = new Ring({ size: 16, indirect, eventIdx });
      const slots = ring.u32(ring.dq + layout.DQ_SLOTS);
      for (let lap = 0; lap < 40; lap++) {
        for (let i = 0; i < slots; i++) {
          ring.u8.fill(lap * slots + i, ring.buffers + i * 512, ring.buffers + (i + 1) * 512);
          ring.submission(i, {
            type: VIRTIO_BLK_T_OUT,
            sector: i * 3,
            linear: ring.buffers + i * 512,
            bytes: 512,
          });
        }
        for (const done of roundTrip(ring, slots))
          assert.equal([done.status, done.bytes], [VIRTIO_BLK_S_OK, 1]);
        ring.u8.fill(0, ring.buffers, ring.buffers + slots * 512);
        for (let i = 0; i < slots; i++)
          ring.submission(i, {
            type: VIRTIO_BLK_T_IN,
            sector: i * 3,
            linear: ring.buffers + i * 512,
            bytes: 512,
            tag: 1000 + i,
          });
        const reads = roundTrip(ring, slots);
        assert.equal(
          reads.map((r) => r.tag).sort(),
          Array.from({ length: slots }, (_, i) => 1000 + i),
        );
        for (const done of reads) assert.equal([done.status, done.bytes], [VIRTIO_BLK_S_OK, 513]);
        for (let i = 0; i < slots; i++)
          assert.is(ring.u8[ring.buffers + i * 512 + 511], (lap * slots + i) & 255);
      }
      assert.is(ring.verdict(), layout.VERDICT_NONE);
      assert.is(ring.counter(ring.vq, layout.VQ_REQUESTS), 80 * slots);
      assert.is(ring.counter(ring.vq, layout.VQ_BYTES_READ), 40 * slots * 512);
      assert.is(ring.counter(ring.dq, layout.VQ_BYTES_WRITTEN), 40 * slots * 512);
    });
  }

test('a request beyond the end, or of a part of a sector, is answered IOERR and moves nothing', () => {
  const ring = new Ring();
  ring.submission(0, { type: VIRTIO_BLK_T_IN, sector: DISK_SECTORS - 1, linear: ring.buffers, bytes: 1024 });
  ring.submission(1, { type: VIRTIO_BLK_T_IN, sector: DISK_SECTORS, linear: ring.buffers, bytes: 512 });
  ring.u8.fill(7, DISK_LINEAR, DISK_LINEAR + 1024);
  const first = roundTrip(ring, 2);
  ring.submission(0, { type: VIRTIO_BLK_T_IN, sector: 0, linear: ring.buffers, bytes: 511 });
  assert.equal(
    [...first, ...roundTrip(ring, 1)].map((done) => [done.status, done.bytes]),
    Array(3).fill([VIRTIO_BLK_S_IOERR, 1]),
  );
  assert.is(ring.u8[ring.buffers], 0);
});

test('a sector number that would wrap 2^64 is answered IOERR', () => {
  const ring = new Ring();
  ring.submission(0, { type: VIRTIO_BLK_T_OUT, linear: ring.buffers, bytes: 512 });
  ring.data.setBigUint64(ring.submissions + layout.SUBMISSION_SECTOR, 2n ** 64n - 1n, true);
  assert.is(roundTrip(ring, 1)[0]?.status, VIRTIO_BLK_S_IOERR);
});

test('an unknown request type is answered UNSUPP', () => {
  const ring = new Ring();
  ring.submission(0, { type: 77, linear: ring.buffers, bytes: 512 });
  assert.is(roundTrip(ring, 1)[0]?.status, VIRTIO_BLK_S_UNSUPP);
});

test('a read-only disk answers writes, discards and zeroing with IOERR', () => {
  const ring = new Ring({ size: 16 });
  ring.set(ring.disk, {
    [layout.DISK_FLAGS]: layout.DISK_F_RO | layout.DISK_F_DISCARD | layout.DISK_F_WRITE_ZEROES,
  });
  ring.submission(0, { type: VIRTIO_BLK_T_OUT, linear: ring.buffers, bytes: 512 });
  ring.submission(1, { type: virtio.VIRTIO_BLK_T_DISCARD, bytes: 1 });
  ring.submission(2, { type: virtio.VIRTIO_BLK_T_WRITE_ZEROES, bytes: 1 });
  assert.equal(
    roundTrip(ring, 3).map((done) => done.status),
    Array(3).fill(VIRTIO_BLK_S_IOERR),
  );
});

test('zeroing and discarding clear exactly the range', () => {
  const ring = new Ring();
  for (const type of [virtio.VIRTIO_BLK_T_WRITE_ZEROES, virtio.VIRTIO_BLK_T_DISCARD]) {
    ring.u8.fill(9, DISK_LINEAR, DISK_LINEAR + 4096);
    ring.submission(0, { type, sector: 2, bytes: 3 });
    assert.is(roundTrip(ring, 1)[0]?.status, VIRTIO_BLK_S_OK);
    const disk = ring.u8.subarray(DISK_LINEAR, DISK_LINEAR + 4096);
    assert.ok(disk.every((byte, i) => byte === (i >= 1024 && i < 2560 ? 0 : 9)));
  }
});

test('unmap on a discard, and unknown flags, are UNSUPP; more sectors than allowed are IOERR', () => {
  const ring = new Ring({ size: 16 });
  ring.submission(0, { type: virtio.VIRTIO_BLK_T_DISCARD, bytes: 1, flags: 1 });
  ring.submission(1, { type: virtio.VIRTIO_BLK_T_WRITE_ZEROES, bytes: 1, flags: 2 });
  ring.submission(2, { type: virtio.VIRTIO_BLK_T_DISCARD, bytes: 1025 });
  assert.equal(
    roundTrip(ring, 3).map((done) => done.status),
    [VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_S_IOERR],
  );
});

test('flush succeeds where it is offered and is UNSUPP where not', () => {
  const ring = new Ring();
  ring.submission(0, { type: virtio.VIRTIO_BLK_T_FLUSH });
  assert.is(roundTrip(ring, 1)[0]?.status, VIRTIO_BLK_S_OK);
  ring.set(ring.disk, { [layout.DISK_FLAGS]: 0 });
  assert.is(roundTrip(ring, 1)[0]?.status, VIRTIO_BLK_S_UNSUPP);
});

test('GET_ID writes the 20 bytes of the id', () => {
  const ring = new Ring();
  ring.submission(0, { type: virtio.VIRTIO_BLK_T_GET_ID, linear: ring.buffers, bytes: 20 });
  const [done] = roundTrip(ring, 1);
  assert.equal([done?.status, done?.bytes], [VIRTIO_BLK_S_OK, 21]);
  assert.is(new TextDecoder().decode(ring.u8.slice(ring.buffers, ring.buffers + 20)), 'serial-0123456789abc');
});

test('a header that shares a descriptor with data, or is spread over several, is the same request', () => {
  const ring = new Ring({ size: 16 });
  const header = ring.buffers;
  const status = ring.buffers + 2048;
  ring.data.setUint32(header, VIRTIO_BLK_T_OUT, true);
  ring.data.setBigUint64(header + 8, 5n, true);
  ring.u8.fill(3, header + 16, header + 16 + 512);
  // One descriptor with header and data.
  ring.descriptor(0, ring.iova(header), 16 + 512, 1, 1);
  ring.descriptor(1, ring.iova(status), 1, 2);
  // Three pieces: 5 bytes, 11 bytes and 300 of data, 212 of data.
  ring.descriptor(2, ring.iova(header), 5, 1, 3);
  ring.descriptor(3, ring.iova(header + 5), 311, 1, 4);
  ring.descriptor(4, ring.iova(header + 316), 212, 1, 5);
  ring.descriptor(5, ring.iova(status + 1), 1, 2);
  for (const head of [0, 2]) {
    ring.u8.fill(0, DISK_LINEAR, DISK_LINEAR + 8192);
    ring.u8.fill(255, status, status + 2);
    ring.offer(head);
    assert.is(ring.engine.blkServe(ring.vq, ring.disk) & COUNT_MASK, 1);
    assert.is(ring.u8[status + (head ? 1 : 0)], VIRTIO_BLK_S_OK);
    assert.ok(
      ring.u8.slice(DISK_LINEAR, DISK_LINEAR + 8192).every((b, i) => b === (i >= 2560 && i < 3072 ? 3 : 0)),
    );
  }
});

test('a status byte in the same descriptor as the data is its last byte', () => {
  const ring = new Ring();
  ring.data.setUint32(ring.buffers, VIRTIO_BLK_T_IN, true);
  ring.u8.fill(4, DISK_LINEAR, DISK_LINEAR + 512);
  ring.descriptor(0, ring.iova(ring.buffers), 16, 1, 1);
  ring.descriptor(1, ring.iova(ring.buffers + 64), 513, 2);
  ring.u8[ring.buffers + 64 + 512] = 255;
  ring.offer(0);
  ring.engine.blkServe(ring.vq, ring.disk);
  assert.equal(ring.usedEntries(), [{ id: 0, bytes: 513 }]);
  assert.ok(ring.u8.slice(ring.buffers + 64, ring.buffers + 64 + 512).every((b) => b === 4));
  assert.is(ring.u8[ring.buffers + 64 + 512], VIRTIO_BLK_S_OK);
});

test('a chain without a header, or without a status byte, breaks the queue after those before it were served', () => {
  for (const bad of ['header', 'status']) {
    const ring = new Ring();
    ring.descriptor(0, ring.iova(ring.buffers), 16, 1, 1);
    ring.descriptor(1, ring.iova(ring.buffers + 64), 1, 2);
    ring.data.setUint32(ring.buffers, virtio.VIRTIO_BLK_T_FLUSH, true);
    if (bad === 'header') {
      ring.descriptor(2, ring.iova(ring.buffers), 15, 1, 3);
      ring.descriptor(3, ring.iova(ring.buffers + 64), 1, 2);
    } else ring.descriptor(2, ring.iova(ring.buffers), 528);
    ring.offer(0, 2);
    assert.is(ring.engine.blkServe(ring.vq, ring.disk) & COUNT_MASK, 1);
    assert.is(ring.verdict(), layout.VERDICT_REQUEST);
    assert.is(ring.usedEntries().length, 1);
    assert.is(ring.engine.blkServe(ring.vq, ring.disk), 0);
  }
});

test('the I/O table says what a file-backed disk has to do, and results become statuses', () => {
  const ring = new Ring({ size: 32 });
  ring.set(ring.disk, { [layout.DISK_LINEAR]: 0 });
  ring.submission(0, { type: VIRTIO_BLK_T_IN, sector: 8, linear: ring.buffers, bytes: 1024 });
  ring.submission(1, { type: VIRTIO_BLK_T_OUT, sector: 16, linear: ring.buffers + 1024, bytes: 512 });
  ring.submission(2, { type: virtio.VIRTIO_BLK_T_FLUSH });
  ring.submission(3, { type: virtio.VIRTIO_BLK_T_WRITE_ZEROES, sector: 4, bytes: 2 });
  ring.submission(4, { type: virtio.VIRTIO_BLK_T_WRITE_ZEROES, sector: 4, bytes: 2, flags: 1 });
  ring.submission(5, { type: VIRTIO_BLK_T_IN, sector: 0, linear: ring.buffers, bytes: 512 });
  ring.submission(6, { type: 99, linear: ring.buffers, bytes: 512 });
  ring.engine.blkSubmit(ring.dq, ring.submissions, 7);
  assert.is(ring.engine.blkPrepare(ring.vq, ring.disk, ring.io, 64), 7);
  const entry = (i: number) => {
    const at = ring.io + i * layout.IO_SIZE;
    return [
      ring.u32(at + layout.IO_OP),
      Number(ring.data.getBigUint64(at + layout.IO_OFFSET, true)),
      Number(ring.data.getBigUint64(at + layout.IO_BYTES, true)),
    ];
  };
  assert.equal(entry(0), [layout.IO_OP_READ, 4096, 1024]);
  assert.equal(entry(1), [layout.IO_OP_WRITE, 8192, 512]);
  assert.equal(entry(2)[0], layout.IO_OP_SYNC);
  assert.equal(entry(3), [layout.IO_OP_ZERO, 2048, 1024]);
  assert.equal(entry(4), [layout.IO_OP_PUNCH, 2048, 1024]);
  assert.equal(entry(6)[0], layout.IO_OP_NONE);
  const result = (i: number, value: bigint) =>
    ring.data.setBigInt64(ring.io + i * layout.IO_SIZE + layout.IO_RESULT, value, true);
  result(0, 1024n);
  result(1, -28n);
  result(5, 100n);
  assert.is(ring.engine.blkComplete(ring.vq, ring.disk, ring.io, 7) & COUNT_MASK, 7);
  const done = ring
    .completed(ring.engine.blkReap(ring.dq, ring.completions, 64, 7, 0))
    .sort((a, b) => a.tag - b.tag);
  const { VIRTIO_BLK_S_OK: ok, VIRTIO_BLK_S_IOERR: ioerr } = virtio;
  assert.equal(
    done.map((d) => d.status),
    [ok, ioerr, ok, ok, ok, ioerr, VIRTIO_BLK_S_UNSUPP],
  );
  assert.is(done[0]?.bytes, 1025);
  assert.is(ring.counter(ring.vq, layout.VQ_IO_ERRORS), 2);
});

/** A ring over enough memory for large requests, and an IOVA under which the driver has 40 MiB. */
function largeRing(): { ring: Ring; iova: bigint } {
  const ring = new Ring({ size: 16, bytes: 0x5000000 });
  const iova = 0x1000_0000_0000n;
  ring.map(iova, 0x2000000, 40 * MIB);
  ring.data.setBigUint64(ring.disk + layout.DISK_CAPACITY, 2n ** 24n, true);
  return { ring, iova };
}

/** Describes a read of `bytes` bytes at `iova`, from head `head` on. */
function describeRead(ring: Ring, head: number, iova: bigint, bytes: number): void {
  const { VIRTQ_DESC_F_NEXT: next, VIRTQ_DESC_F_WRITE: write } = virtio;
  ring.descriptor(head, ring.iova(ring.buffers), 16, next, head + 1);
  ring.descriptor(head + 1, iova, bytes, next | write, head + 2);
  ring.descriptor(head + 2, ring.iova(ring.buffers + 64 + head), 1, write);
}

test('a burst that would move more than BLK_BURST_BYTES ends before, and the next one goes on', () => {
  const { ring, iova } = largeRing();
  for (const head of [0, 3, 6]) describeRead(ring, head, iova, 3 * MIB);
  ring.offer(0, 3, 6);
  assert.is(ring.engine.blkServe(ring.vq, ring.disk) & COUNT_MASK, 2);
  assert.is(ring.engine.blkServe(ring.vq, ring.disk) & COUNT_MASK, 1);
  ring.set(ring.disk, { [layout.DISK_LINEAR]: 0 });
  ring.offer(0, 3, 6);
  for (const count of [2, 1]) {
    assert.is(ring.engine.blkPrepare(ring.vq, ring.disk, ring.io, 64), count);
    ring.engine.blkComplete(ring.vq, ring.disk, ring.io, count);
  }
  assert.equal(
    ring.usedEntries().map(({ id }) => id),
    [0, 3, 6, 0, 3, 6],
  );
});

test('a request of more than BLK_REQUEST_BYTES is an I/O error, one of as many is served, alone', () => {
  const { ring, iova } = largeRing();
  ring.set(ring.disk, { [layout.DISK_LINEAR]: 0 });
  // Nothing is moved: no memory has to be there.
  ring.map(2n * iova, 0x2000000, 2 ** 29);
  describeRead(ring, 0, 2n * iova, layout.BLK_REQUEST_BYTES);
  describeRead(ring, 3, 2n * iova, layout.BLK_REQUEST_BYTES + 512);
  describeRead(ring, 6, 2n * iova, layout.BLK_REQUEST_BYTES);
  ring.offer(0, 3, 6);
  for (const expected of [
    [layout.IO_OP_READ, layout.IO_STATUS_OPEN],
    [layout.IO_OP_NONE, VIRTIO_BLK_S_IOERR],
    [layout.IO_OP_READ, layout.IO_STATUS_OPEN],
  ]) {
    assert.is(ring.engine.blkPrepare(ring.vq, ring.disk, ring.io, 64), 1);
    assert.equal([ring.u32(ring.io + layout.IO_OP), ring.u32(ring.io + layout.IO_STATUS)], expected);
    ring.engine.blkComplete(ring.vq, ring.disk, ring.io, 1);
  }
});

test('blkPoll ends when the gate is asked to close, and serves nothing meanwhile', () => {
  const ring = new Ring();
  ring.submission(0, { type: virtio.VIRTIO_BLK_T_FLUSH });
  ring.engine.blkSubmit(ring.dq, ring.submissions, 1);
  ring.set(ring.vq, { [layout.VQ_GATE_CLOSED]: 1 });
  assert.is(ring.engine.blkPoll(ring.vq, ring.disk, 1000, 10), 0);
  ring.set(ring.vq, { [layout.VQ_GATE_CLOSED]: 0 });
  assert.is(ring.engine.blkPoll(ring.vq, ring.disk, 1000, 10) & COUNT_MASK, 1);
});

test('a burst ends where the gate is asked to close: what is left stays in the ring', () => {
  const ring = new Ring({ size: 16 });
  for (let i = 0; i < 4; i++) ring.submission(i, { type: virtio.VIRTIO_BLK_T_FLUSH });
  ring.engine.blkSubmit(ring.dq, ring.submissions, 4);
  ring.set(ring.vq, { [layout.VQ_GATE_CLOSED]: 1 });
  assert.is(ring.engine.blkServe(ring.vq, ring.disk), 0);
  assert.equal([ring.u32(ring.vq + layout.VQ_LAST_AVAIL), ring.u32(ring.vq + layout.VQ_IN_FLIGHT)], [0, 0]);
  ring.set(ring.vq, { [layout.VQ_GATE_CLOSED]: 0 });
  assert.is(ring.engine.blkServe(ring.vq, ring.disk) & COUNT_MASK, 4);
});

test('once memory is lost no request is carried out', () => {
  const ring = new Ring();
  const lost = ring.allocate(4);
  ring.set(ring.disk, { [layout.DISK_LOST]: lost });
  ring.set(lost, { 0: 1 });
  ring.u8.fill(7, ring.buffers, ring.buffers + 512);
  ring.submission(0, { type: VIRTIO_BLK_T_OUT, linear: ring.buffers, bytes: 512 });
  ring.engine.blkSubmit(ring.dq, ring.submissions, 1);
  assert.is(ring.engine.blkServe(ring.vq, ring.disk), 0);
  assert.is(ring.verdict(), layout.VERDICT_MEMORY_LOST);
  assert.is(ring.u8[DISK_LINEAR], 0);
});

test('a driver that did not accept FLUSH has its writes to a file written through', () => {
  for (const mapped of [false, true]) {
    const ring = new Ring();
    ring.set(ring.vq, { [layout.VQ_FEATURES]: 0 });
    const ops = (1 << layout.IO_OP_SYNC) | (1 << layout.IO_OP_WRITE_THROUGH);
    if (mapped) ring.set(ring.disk, { [layout.DISK_FILE_OPS]: ops });
    else ring.set(ring.disk, { [layout.DISK_LINEAR]: 0 });
    ring.submission(0, { type: VIRTIO_BLK_T_OUT, linear: ring.buffers, bytes: 512 });
    ring.engine.blkSubmit(ring.dq, ring.submissions, 1);
    if (mapped) assert.is(ring.engine.blkServe(ring.vq, ring.disk), layout.FILE_DUE);
    assert.is(ring.engine.blkPrepare(ring.vq, ring.disk, ring.io, 64), 1);
    assert.is(ring.u32(ring.io + layout.IO_OP), layout.IO_OP_WRITE_THROUGH);
    ring.data.setBigInt64(ring.io + layout.IO_RESULT, mapped ? 512n : 100n, true);
    ring.engine.blkComplete(ring.vq, ring.disk, ring.io, 1);
    ring.engine.blkReap(ring.dq, ring.completions, 1, 1, 0);
    assert.is(ring.completed(1)[0]!.status, mapped ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
    assert.is(ring.counter(ring.vq, layout.VQ_BYTES_WRITTEN), mapped ? 512 : 0);
  }
});

test('an I/O table ends with the request that makes it long: a pause waits for one, not for a burst of them', () => {
  const ring = new Ring({ size: 64 });
  const sectors = layout.BLK_BURST_BYTES / 2 / 512;
  ring.set(ring.disk, { [layout.DISK_LINEAR]: 0, [layout.DISK_MAX_RANGE_SECTORS]: sectors });
  ring.data.setBigUint64(ring.disk + layout.DISK_CAPACITY, BigInt(sectors), true);
  for (let i = 0; i < 8; i++) ring.submission(i, { type: virtio.VIRTIO_BLK_T_WRITE_ZEROES, bytes: sectors });
  ring.engine.blkSubmit(ring.dq, ring.submissions, 8);
  const tables: number[] = [];
  for (let left = 8; left > 0; ) {
    const count = ring.engine.blkPrepare(ring.vq, ring.disk, ring.io, 64);
    assert.ok(count > 0);
    tables.push(count);
    for (let i = 0; i < count; i++)
      ring.data.setBigInt64(ring.io + i * layout.IO_SIZE + layout.IO_RESULT, BigInt(sectors * 512), true);
    left -= ring.engine.blkComplete(ring.vq, ring.disk, ring.io, count) & COUNT_MASK;
  }
  assert.equal(tables, [2, 2, 2, 2]);
  const done = ring.completed(ring.engine.blkReap(ring.dq, ring.completions, 64, 8, 0));
  assert.equal(
    done.map((d) => d.status),
    Array(8).fill(VIRTIO_BLK_S_OK),
  );
});

test('blkPoll returns at once when an interrupt is due', () => {
  const ring = new Ring();
  ring.engine.driverArm(ring.dq);
  ring.submission(0, { type: virtio.VIRTIO_BLK_T_FLUSH });
  ring.engine.blkSubmit(ring.dq, ring.submissions, 1);
  assert.is(ring.engine.blkPoll(ring.vq, ring.disk, 0xffffffff, 10), 1 | NOTIFY_DUE);
});

test.run();
