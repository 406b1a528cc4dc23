import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  writeSync,
} from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { ERRNO } from '../../host/errors.js';
import { accessTo, addon, inWorker, newMemory, thrown, withFile } from './fixture.js';

const { PAGE_SIZE, IO_OP_READ, IO_OP_WRITE, IO_OP_SYNC, IO_OP_PUNCH, IO_OP_ZERO } = layout;

/** Where tables, segments and data lie in these memories. */
const TABLE = 4096;
const SEGMENTS = 65536;
const DATA = 2 ** 18;
/** Illegal seek; no errno of the vDPA interfaces. */
const ESPIPE = 29;

interface Entry {
  op: number;
  offset?: number | bigint;
  bytes?: number | bigint;
  /** [linear, bytes] each. */
  segments?: readonly (readonly [number, number])[];
}

/** A memory with an I/O table. */
class Table {
  readonly view: Uint8Array;
  readonly memory: ReturnType<typeof newMemory>['memory'];
  readonly data: DataView;
  #segments = SEGMENTS;

  constructor(bytes: number = 2 ** 22) {
    const { memory, view } = newMemory(bytes);
    this.view = view;
    this.memory = memory;
    this.data = new DataView(view.buffer);
  }

  /** Carries out the entries: their results. */
  run(fd: number, ...entries: Entry[]): number[] {
    entries.forEach(({ op, offset = 0, bytes = 0, segments = [] }, index) => {
      const entry = TABLE + index * layout.IO_SIZE;
      this.data.setUint32(entry + layout.IO_OP, op, true);
      this.data.setUint32(entry + layout.IO_COUNT, segments.length, true);
      this.data.setBigUint64(entry + layout.IO_OFFSET, BigInt(offset), true);
      this.data.setUint32(entry + layout.IO_SEGMENTS, this.#segments, true);
      this.data.setBigUint64(entry + layout.IO_BYTES, BigInt(bytes), true);
      this.data.setBigInt64(entry + layout.IO_RESULT, 99n, true);
      for (const [linear, length] of segments) {
        this.data.setUint32(this.#segments + layout.SEGMENT_LINEAR, linear, true);
        this.data.setUint32(this.#segments + layout.SEGMENT_BYTES, length, true);
        this.#segments += layout.SEGMENT_SIZE;
      }
    });
    this.#segments = SEGMENTS;
    const failed = addon.prepareFileIo(this.view, fd, TABLE)(entries.length);
    const results = entries.map((_, index) =>
      Number(this.data.getBigInt64(TABLE + index * layout.IO_SIZE + layout.IO_RESULT, true)),
    );
    assert.is(failed, results.filter((result) => result < 0).length);
    return results;
  }
}

/** Bytes that differ from place to place. */
function pattern(bytes: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, index) => (index * 31 + (index >> 8) * 7 + seed) & 255);
}

test('a batch reads, writes and synchronises, each request with a result of its own; NONE keeps what it has', () =>
  withFile((fd, path) => {
    const table = new Table();
    table.view.set(pattern(8192), DATA);
    const results = table.run(
      fd,
      { op: IO_OP_WRITE, offset: 512, segments: [[DATA, 8192]] },
      { op: IO_OP_SYNC },
      { op: IO_OP_READ, offset: 512, segments: [[DATA + 8192, 4096]] },
      { op: IO_OP_READ, offset: 1 << 20, segments: [[DATA, 512]] },
      { op: layout.IO_OP_NONE },
      { op: 77 },
      { op: layout.IO_OP_WRITE_THROUGH, offset: 1 << 16, segments: [[DATA, 512]] },
    );
    assert.equal(results, [8192, 0, 4096, -ERRNO.EIO, 99, -ERRNO.EINVAL, 512]);
    const file = readFileSync(path);
    assert.equal(file.subarray(512, 512 + 8192), Buffer.from(pattern(8192)));
    assert.equal(file.subarray(1 << 16), Buffer.from(pattern(512)));
    assert.equal(table.view.slice(DATA + 8192, DATA + 8192 + 4096), pattern(4096));
  }));

test('segments are filled and taken in order, however many there are', () =>
  withFile((fd, path) => {
    const table = new Table();
    const count = 5000;
    table.view.set(pattern(3 * count), DATA);
    // Backwards, and in pieces of 3 bytes: far more than one preadv takes.
    const segments = Array.from(
      { length: count },
      (_, index) => [DATA + 3 * (count - 1 - index), 3] as const,
    );
    assert.equal(table.run(fd, { op: IO_OP_WRITE, offset: 7, segments }), [3 * count]);
    const file = readFileSync(path);
    assert.is(file.length, 7 + 3 * count);
    assert.equal(file.subarray(7, 10), Buffer.from(pattern(3 * count).subarray(3 * (count - 1))));
    table.view.fill(0, DATA, DATA + 3 * count);
    assert.equal(table.run(fd, { op: IO_OP_READ, offset: 7, segments }), [3 * count]);
    assert.equal(table.view.slice(DATA, DATA + 3 * count), pattern(3 * count));
  }));

test('empty segments, and no segments at all, move nothing', () =>
  withFile((fd) => {
    const table = new Table();
    writeSync(fd, pattern(6), 0, 6, 0);
    const results = table.run(
      fd,
      { op: IO_OP_READ },
      { op: IO_OP_READ, segments: [[DATA, 0]] },
      {
        op: IO_OP_READ,
        segments: [
          [DATA, 0],
          [DATA, 2],
          [DATA + 50, 0],
          [DATA + 2, 4],
          [DATA, 0],
        ],
      },
    );
    assert.equal(results, [0, 0, 6]);
    assert.equal(table.view.slice(DATA, DATA + 6), pattern(6));
  }));

test('a read that the end of the file cuts short is EIO, never zeroes', () =>
  withFile((fd) => {
    const table = new Table();
    writeSync(fd, pattern(1000), 0, 1000, 0);
    assert.equal(
      table.run(
        fd,
        { op: IO_OP_READ, offset: 512, segments: [[DATA, 512]] },
        { op: IO_OP_READ, offset: 488, segments: [[DATA, 512]] },
        { op: IO_OP_READ, offset: 1000, segments: [[DATA, 1]] },
      ),
      [-ERRNO.EIO, 512, -ERRNO.EIO],
    );
  }));

test('a file that cannot be read at an offset gives its errno as the result', () => {
  const eventfd = addon.eventfd();
  assert.equal(new Table().run(eventfd, { op: IO_OP_READ, segments: [[DATA, 8]] }), [-ESPIPE]);
  addon.close(eventfd);
});

test('a disk that is full is ENOSPC', () => {
  if (!existsSync('/dev/full')) return console.log('skipped: no /dev/full to write to');
  const fd = openSync('/dev/full', 'r+');
  assert.equal(new Table().run(fd, { op: IO_OP_WRITE, segments: [[DATA, 512]] }), [-ERRNO.ENOSPC]);
  closeSync(fd);
});

test('a descriptor that is closed or read-only is EBADF', () =>
  withFile((fd, path) => {
    const table = new Table();
    const entries = [IO_OP_READ, IO_OP_WRITE, IO_OP_SYNC, IO_OP_PUNCH, IO_OP_ZERO].map((op) => ({
      op,
      bytes: 512,
      segments: [[DATA, 512]] as const,
    }));
    assert.equal(table.run(-1, ...entries), new Array(5).fill(-ERRNO.EBADF));
    writeSync(fd, pattern(512));
    const readOnly = openSync(path, 'r');
    assert.equal(table.run(readOnly, ...entries), [512, -ERRNO.EBADF, 0, -ERRNO.EBADF, -ERRNO.EBADF]);
    closeSync(readOnly);
  }));

test('an offset or a length that no file has is EINVAL', () =>
  withFile((fd) => {
    const table = new Table();
    const offset = 2n ** 63n;
    const segments = [[DATA, 512]] as const;
    assert.equal(
      table.run(
        fd,
        { op: IO_OP_READ, offset, segments },
        { op: IO_OP_WRITE, offset, segments },
        { op: IO_OP_PUNCH, offset, bytes: 512 },
        { op: IO_OP_ZERO, offset, bytes: 512 },
        { op: IO_OP_ZERO, bytes: 2n ** 64n - 1n },
        { op: IO_OP_PUNCH, bytes: 2n ** 63n },
      ),
      new Array(6).fill(-ERRNO.EINVAL),
    );
  }));

test('a hole is punched: its bytes read as zeroes and its blocks are free', () =>
  withFile((fd) => {
    const table = new Table();
    writeSync(fd, pattern(2 ** 20), 0, 2 ** 20, 0);
    const { blocks } = fstatSync(fd);
    const results = table.run(
      fd,
      { op: IO_OP_SYNC },
      { op: IO_OP_PUNCH, offset: 65536, bytes: 2 ** 19 },
      { op: IO_OP_READ, offset: 65536 - 512, segments: [[DATA, 1024]] },
      { op: IO_OP_PUNCH },
    );
    if (results[1] === -ERRNO.EOPNOTSUPP) return console.log('skipped: no holes on this file system');
    assert.equal(results, [0, 2 ** 19, 1024, 0]);
    assert.equal(table.view.slice(DATA, DATA + 512), pattern(2 ** 20).slice(65536 - 512, 65536));
    assert.ok(table.view.slice(DATA + 512, DATA + 1024).every((byte) => byte === 0));
    assert.is(fstatSync(fd).size, 2 ** 20);
    assert.ok(fstatSync(fd).blocks < blocks);
  }));

/** Zeroes a range of `fd` and looks at every byte. */
function checkZero(fd: number): void {
  const table = new Table();
  const bytes = 2 ** 18;
  writeSync(fd, pattern(bytes), 0, bytes, 0);
  assert.equal(
    table.run(fd, { op: IO_OP_ZERO, offset: 1024, bytes: 150_016 }, { op: IO_OP_ZERO }),
    [150_016, 0],
  );
  const expected = pattern(bytes).fill(0, 1024, 1024 + 150_016);
  const file = new Uint8Array(bytes);
  readSync(fd, file, 0, bytes, 0);
  assert.ok(Buffer.compare(file, expected) === 0);
  assert.is(fstatSync(fd).size, bytes);
}

test('a range is zeroed where the file system knows how', () => withFile(checkZero));

test('a range is zeroed by writing where the file system has no ZERO_RANGE', () => {
  // tmpfs, on which a memfd lives, has none.
  const fd = addon.memfd('zero-test', 0, false);
  checkZero(fd);
  addon.close(fd);
});

test('a file is given storage for all of its bytes, or the reason why not', () =>
  withFile((fd) => {
    addon.allocate(fd, 2 ** 20);
    assert.is(fstatSync(fd).size, 2 ** 20);
    assert.ok(fstatSync(fd).blocks * 512 >= 2 ** 20);
    assert.is(thrown(() => addon.allocate(-1, 4096)).code, 'EBADF');
    assert.is(thrown(() => addon.allocate(fd, 0)).name, 'RangeError');
  }));

test('a hole is written with zeroes where the file system makes none', () => {
  // procfs has no fallocate at all. Nor does this file take a write at an offset, whose error shows that one was tried.
  const fd = openSync('/proc/self/comm', 'r+');
  try {
    assert.equal(new Table().run(fd, { op: IO_OP_PUNCH, bytes: 8 }), [-ESPIPE]);
  } finally {
    closeSync(fd);
  }
});

test('segments or tables outside of the view are refused', () =>
  withFile((fd) => {
    const table = new Table(2 ** 20);
    writeSync(fd, pattern(4096));
    const read = (linear: number, bytes: number) =>
      table.run(fd, { op: IO_OP_READ, segments: [[linear, bytes]] })[0];
    assert.is(read(2 ** 20 - 512, 512), 512);
    assert.is(read(2 ** 20 - 512, 513), -ERRNO.EFAULT);
    assert.is(read(2 ** 20, 1), -ERRNO.EFAULT);
    assert.is(read(2 ** 32 - 1, 2 ** 32 - 1), -ERRNO.EFAULT);
    table.data.setUint32(TABLE + layout.IO_COUNT, 2 ** 32 - 1, true);
    assert.is(addon.prepareFileIo(table.view, fd, TABLE)(1), 1);
    assert.is(table.data.getBigInt64(TABLE + layout.IO_RESULT, true), BigInt(-ERRNO.EFAULT));
    for (const [at, count] of [
      [2 ** 20 - layout.IO_SIZE + 8, 1],
      [TABLE, 2 ** 20],
      [TABLE + 4, 1],
      [-8, 1],
      [TABLE, -1],
      [TABLE, 0.5],
    ] as const)
      assert.is(thrown(() => addon.prepareFileIo(table.view, fd, at)(count)).name, 'RangeError');
    assert.is(addon.prepareFileIo(table.view, fd, TABLE)(0), 0);
  }));

test('segments in memory that is not accessible are EFAULT, and the process goes on', () =>
  withFile((fd) => {
    const table = new Table();
    writeSync(fd, pattern(2 * PAGE_SIZE));
    const windows = 2 ** 20;
    addon.reserve(table.view, windows, 2 ** 20);
    const memfd = addon.memfd('read-only', PAGE_SIZE, false);
    addon.map(table.view, windows, PAGE_SIZE, { fd: memfd, offset: 0n }, 'r');
    assert.equal(
      table.run(
        fd,
        { op: IO_OP_READ, segments: [[windows + PAGE_SIZE, 512]] },
        { op: IO_OP_WRITE, segments: [[windows + PAGE_SIZE, 512]] },
        { op: IO_OP_READ, segments: [[windows, 512]] },
        { op: IO_OP_WRITE, segments: [[windows, 512]] },
      ),
      [-ERRNO.EFAULT, -ERRNO.EFAULT, -ERRNO.EFAULT, 512],
    );
    addon.release(table.view);
    addon.close(memfd);
  }));

test('file I/O goes straight to and from a window', () =>
  withFile((fd) => {
    const table = new Table();
    const windows = 2 ** 20;
    addon.reserve(table.view, windows, 2 ** 20);
    const memfd = addon.memfd('guest', PAGE_SIZE, false);
    addon.map(table.view, windows, PAGE_SIZE, { fd: memfd, offset: 0n }, 'rw');
    writeSync(fd, pattern(512));
    assert.equal(table.run(fd, { op: IO_OP_READ, segments: [[windows + 8, 512]] }), [512]);
    assert.is(accessTo(table.memory).load(windows + 8 + 511), pattern(512)[511]);
    addon.release(table.view);
    addon.close(memfd);
  }));

/** Opens a file with O_DIRECT for `body`, where the file system has that. */
function withDirectFile(body: (fd: number, path: string) => unknown): Promise<void> {
  return withFile(body, { flags: constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT }).catch(
    (error) => {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
      console.log('skipped: no O_DIRECT on this file system');
    },
  );
}

test('O_DIRECT takes buffers of any alignment', () =>
  withDirectFile((fd, path) => {
    const table = new Table(2 ** 23);
    // More than one bounce buffer, in segments that no block boundary meets.
    const bytes = 2 ** 21 + 4096;
    table.view.set(pattern(bytes), DATA + 1);
    const segments = [
      [DATA + 1, 1000],
      [DATA + 1001, bytes - 1003],
      [DATA + 1 + bytes - 3, 3],
    ] as const;
    assert.equal(table.run(fd, { op: IO_OP_WRITE, offset: 4096, segments }), [bytes]);
    const file = readFileSync(path);
    assert.is(file.length, 4096 + bytes);
    assert.ok(file.subarray(4096).equals(pattern(bytes)));
    table.view.fill(0, DATA, DATA + bytes + 1);
    assert.equal(table.run(fd, { op: IO_OP_READ, offset: 4096, segments }), [bytes]);
    assert.ok(Buffer.from(table.view.slice(DATA + 1, DATA + 1 + bytes)).equals(pattern(bytes)));
  }));

test('O_DIRECT at a place that no block begins at is EINVAL, and past the end EIO', () =>
  withDirectFile((fd) => {
    const table = new Table();
    assert.equal(
      table.run(
        fd,
        // Real blocks: a hole is read whatever the alignment.
        { op: IO_OP_WRITE, segments: [[DATA, 8192]] },
        { op: IO_OP_READ, offset: 1, segments: [[DATA + 1, 4096]] },
        { op: IO_OP_READ, offset: 4096, segments: [[DATA + 1, 8192]] },
        { op: IO_OP_READ, offset: 8192, segments: [[DATA + 1, 4096]] },
      ),
      [8192, -ERRNO.EINVAL, -ERRNO.EIO, -ERRNO.EIO],
    );
  }));

test('O_DIRECT through the bounce buffer answers EFAULT for memory that is not accessible', () =>
  withDirectFile((fd) => {
    const table = new Table();
    table.run(fd, { op: IO_OP_WRITE, segments: [[DATA, 8192]] });
    const windows = 2 ** 20;
    addon.reserve(table.view, windows, 2 ** 20);
    const segments = [
      [DATA + 1, 4095],
      [windows, 4097],
    ] as const;
    assert.equal(table.run(fd, { op: IO_OP_READ, segments }, { op: IO_OP_WRITE, segments }), [
      -ERRNO.EFAULT,
      -ERRNO.EFAULT,
    ]);
    addon.release(table.view);
  }));

test('file I/O works in a worker', () =>
  withFile(async (fd) => {
    const table = new Table();
    writeSync(fd, pattern(4096));
    table.run(-1, { op: IO_OP_READ, segments: [[DATA, 4096]] });
    const failed = await inWorker(
      ({ addon }, { memory, fd, table }: { memory: Table['memory']; fd: number; table: number }, post) =>
        post(addon.prepareFileIo(new Uint8Array(memory.buffer), fd, table)(1)),
      { memory: table.memory, fd, table: TABLE },
    );
    assert.is(failed, 0);
    assert.equal(table.view.slice(DATA, DATA + 4096), pattern(4096));
  }));

test.run();
