import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import type { Aperture } from '../../host/aperture/aperture.js';
import type { FlightRecord } from '../../host/flight.js';
import { FlightRecorder } from '../../host/queue/flight-recorder.js';
import { Ring, type RingOptions } from './fixture.js';

const { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTQ_DESC_F_WRITE } = virtio;
/** Chains that a recorder here has room for, and its records. */
const CHAINS = 128;
const RECORDS = 2 * CHAINS;

/** Both sides of a ring, each of them recorded. */
class RecordedRing extends Ring {
  readonly device: FlightRecorder;
  readonly driver: FlightRecorder;

  constructor(options: RingOptions = {}, deviceId = VIRTIO_ID_BLOCK) {
    super({ size: 16, ...options });
    this.device = this.#record(this.vq + layout.VQ_FLIGHT, deviceId);
    this.driver = this.#record(this.dq + layout.DQ_FLIGHT, deviceId);
  }

  /** Submits `count` reads of a sector each: tag i at sector i. */
  submit(count: number): void {
    for (let i = 0; i < count; i++)
      this.submission(i, { type: VIRTIO_BLK_T_IN, sector: i, linear: this.buffers + i * 512, bytes: 512 });
    assert.is(this.engine.blkSubmit(this.dq, this.submissions, count) & layout.COUNT_MASK, count);
  }

  serve(): number {
    return this.engine.blkServe(this.vq, this.disk) & layout.COUNT_MASK;
  }

  reap(): number {
    return this.engine.blkReap(this.dq, this.completions, 64, 0, 0);
  }

  read(recorder: FlightRecorder): FlightRecord[] {
    return recorder.read(this.packed);
  }

  #record(word: number, deviceId: number): FlightRecorder {
    const { memory } = this;
    const aperture = {
      memory,
      u32: new Uint32Array(memory.buffer),
      allocate: (bytes: number) => this.allocate(bytes),
    } as unknown as Aperture;
    const linear = FlightRecorder.allocate(aperture, CHAINS, deviceId);
    this.data.setUint32(word, linear, true);
    return new FlightRecorder(aperture, linear);
  }
}

const kinds = (records: readonly FlightRecord[]) => records.map(({ kind }) => kind);
const heads = (records: readonly FlightRecord[], kind: string) =>
  records.filter((record) => record.kind === kind).map(({ head }) => head);

const RINGS: [string, RingOptions][] = [
  ['split', {}],
  ['split, indirect', { indirect: true }],
  ['packed', { packed: true }],
  ['packed, indirect', { packed: true, indirect: true }],
  ['packed, in order', { packed: true, inOrder: true }],
];

for (const [name, options] of RINGS) {
  for (const count of [1, 3])
    test(`${count} at a time, both sides record what both have done, ${name}`, () => {
      const ring = new RecordedRing(options);
      for (let round = 0; round < 4; round++) {
        ring.device.stamp();
        ring.driver.stamp();
        ring.submit(count);
        assert.is(ring.serve(), count);
        assert.is(ring.reap(), count);
      }
      const device = ring.read(ring.device);
      const driver = ring.read(ring.driver);
      const round = (taken: string, given: string) => [
        ...new Array(count).fill(taken),
        ...new Array(count).fill(given),
      ];
      assert.equal(kinds(device), new Array(4).fill(round('popped', 'pushed')).flat());
      assert.equal(kinds(driver), new Array(4).fill(round('published', 'reaped')).flat());
      assert.equal(
        device.map(({ number }) => number),
        [...device.keys()],
      );
      assert.equal(heads(device, 'popped'), heads(driver, 'published'));
      assert.equal(heads(device, 'pushed'), heads(driver, 'reaped'));
      const header = Buffer.alloc(16);
      header.writeBigUInt64LE(BigInt(count - 1), 8);
      const [popped, published] = [device[count - 1]!, driver[count - 1]!];
      assert.equal(popped.segments, { readable: 1, writable: 2 });
      assert.equal([popped.readable, popped.writable, popped.header], [16, 513, header.toString('hex')]);
      assert.equal(
        [published.readable, published.writable, published.header],
        [0, 513, header.toString('hex')],
      );
      for (const { written } of [device[count]!, driver[count]!]) assert.is(written, 513);
      // What is taken and what is given back has the same places; both sides are in step.
      const places = (records: FlightRecord[], kind: string) =>
        records.filter((record) => record.kind === kind).map(({ position }) => position);
      assert.equal(places(device, 'popped'), places(device, 'pushed'));
      assert.equal(places(driver, 'published'), places(device, 'popped'));
      assert.equal(places(driver, 'reaped'), places(device, 'pushed'));
      if (!options.packed) assert.equal(places(device, 'popped'), [...new Array(4 * count).keys()]);
      assert.ok(device.every(({ time }) => Math.abs(time - Date.now()) < 600_000));
    });

  test(`of a recorder that is full the oldest records go, ${name}`, () => {
    const ring = new RecordedRing(options);
    for (let round = 0; round < RECORDS; round++) {
      ring.submit(3);
      ring.serve();
      ring.reap();
    }
    for (const recorder of [ring.device, ring.driver]) {
      const records = ring.read(recorder);
      assert.is(records.length, RECORDS);
      assert.is(recorder.recorded, 6 * RECORDS);
      assert.is(records[0]!.number, 5 * RECORDS);
      assert.is(records.at(-1)!.number, 6 * RECORDS - 1);
      assert.ok(['pushed', 'reaped'].includes(records.at(-1)!.kind));
    }
  });

  test(`a chain that breaks the queue is the last of what was taken, ${name}`, () => {
    const ring = new RecordedRing(options);
    ring.submit(3);
    // The third has no bytes for its status, wherever its descriptors are.
    const slots = ring.u32(ring.dq + layout.DQ_SLOT_MEMORY);
    for (let at = ring.desc; at < slots + 16 * layout.SLOT_SIZE; at += 16)
      if (ring.u32(at + 8) === 512 && ring.data.getBigUint64(at, true) === ring.iova(ring.buffers + 1024))
        ring.data.setUint32(at + 8, 0, true);
    assert.is(ring.serve(), 2);
    assert.is(ring.verdict(), layout.VERDICT_ZERO_LENGTH);
    assert.is(ring.serve(), 0);
    const records = ring.read(ring.device);
    assert.equal(kinds(records), ['popped', 'popped', 'broken', 'pushed', 'pushed']);
    const broken = records[2]!;
    assert.is(broken.code, 'ERR_RING_ZERO_LENGTH');
    assert.is(broken.head, ring.u32(ring.vq + layout.VQ_VERDICT_HEAD));
    assert.equal(
      records.map(({ number }) => number),
      [0, 1, 2, 3, 4],
    );
  });

  test(`what a device has used that is not in flight is the last that its driver has, ${name}`, () => {
    const ring = new RecordedRing(options);
    ring.submit(3);
    ring.serve();
    // The second one is answered under an id that there is not.
    if (options.packed) {
      const used = ring.read(ring.device).find(({ kind, number }) => kind === 'pushed' && number > 3)!;
      // In order one used descriptor answers all three, at the place of the first.
      const index = options.inOrder ? 0 : used.position! & 0x7fff;
      ring.data.setUint16(ring.desc + index * virtio.VIRTQ_DESC_SIZE + virtio.PVIRTQ_DESC_ID, 9, true);
    } else ring.data.setUint32(ring.used + virtio.VIRTQ_USED_RING + virtio.VIRTQ_USED_ENTRY_SIZE, 9999, true);
    const reaped = options.inOrder ? 0 : 1;
    assert.is(ring.reap(), reaped);
    const records = ring.read(ring.driver).slice(3);
    assert.equal(kinds(records), [...new Array(reaped).fill('reaped'), 'broken']);
    assert.is(records.at(-1)!.code, 'ERR_RING_USED_ID');
    assert.is(records.at(-1)!.head, options.packed ? 9 : 9999);
  });

  test(`a request that a model holds is recorded when it is taken and when it is given back, ${name}`, () => {
    const ring = new RecordedRing(options);
    ring.submit(2);
    const table = ring.allocate(layout.TAKE_SIZE + layout.GIVE_SIZE);
    const request = ring.allocate(2048);
    ring.set(table, { 0: request });
    assert.is(ring.engine.requestTakeBurst(ring.vq, table, 1, 2048), 1);
    assert.is(ring.engine.requestTake(ring.vq, ring.request), 1);
    ring.set(table, { 4: request, 8: 512, 12: 1 });
    assert.is(ring.engine.requestGiveBurst(ring.vq, table + 4, 1) & layout.COUNT_MASK, 1);
    ring.engine.requestFinish(ring.vq, ring.request, 1);
    const records = ring.read(ring.device);
    assert.equal(kinds(records), ['popped', 'popped', 'pushed', 'pushed']);
    assert.equal(heads(records, 'popped'), heads(records, 'pushed'));
    assert.equal(
      records.map(({ written }) => written),
      [undefined, undefined, 513, 1],
    );
    assert.equal(
      records.map(({ position }) => position),
      [0, 1, 0, 1].map((index) => records[index]!.position),
    );
    assert.is(records[0]!.header, Buffer.alloc(16).toString('hex'));
    assert.equal([records[0]!.readable, records[0]!.writable], [16, 513]);
    // A chain that is fetched piece by piece is not touched for its header.
    assert.is(records[1]!.header, undefined);
  });

  test(`chains that are put back unseen are recorded as that, ${name}`, () => {
    const ring = new RecordedRing(options);
    ring.submit(3);
    assert.is(ring.pop(), 3);
    ring.engine.deviceReturn(ring.vq, 1, 3);
    assert.is(ring.pop(), 2);
    const records = ring.read(ring.device);
    assert.equal(kinds(records), ['popped', 'popped', 'popped', 'returned', 'popped', 'popped']);
    const [, second, third, returned, again, last] = records;
    assert.equal([returned!.head, returned!.position, returned!.chains], [second!.head, second!.position, 2]);
    assert.equal([again!.head, again!.position], [second!.head, second!.position]);
    assert.equal([last!.head, last!.position], [third!.head, third!.position]);
  });

  test(`a queue without a recorder is as it was, ${name}`, () => {
    const [recorded, plain] = [new RecordedRing(options), new Ring({ size: 16, ...options })];
    for (const ring of [recorded, plain]) {
      for (let i = 0; i < 3; i++)
        ring.submission(i, { type: VIRTIO_BLK_T_OUT, sector: i, linear: ring.buffers, bytes: 512 });
      ring.engine.blkSubmit(ring.dq, ring.submissions, 3);
      assert.is(ring.engine.blkServe(ring.vq, ring.disk) & layout.COUNT_MASK, 3);
      assert.is(ring.engine.blkReap(ring.dq, ring.completions, 64, 0, 0), 3);
    }
    const shared = ({ u8 }: Ring) => Buffer.from(u8.subarray(0x100000, 0x200000));
    assert.ok(shared(recorded).equals(shared(plain)), 'the same bytes in the memory of both sides');
  });
}

test('of a device that is no disk no byte of a chain is recorded', () => {
  const ring = new RecordedRing({}, VIRTIO_ID_NET);
  const slot = ring.buffers;
  ring.u8.fill(0x5a, slot, slot + 64);
  ring.descriptor(0, ring.iova(slot), 64, 0);
  ring.descriptor(1, ring.iova(slot), 64, VIRTQ_DESC_F_WRITE);
  ring.offer(0, 1);
  assert.is(ring.pop(), 2);
  const [first, second] = ring.read(ring.device);
  assert.equal([first!.header, first!.readable, first!.writable], [undefined, 64, 0]);
  assert.equal([second!.header, second!.readable, second!.writable], [undefined, 0, 64]);
});

test('an address that nothing permits is told with what broke the queue', () => {
  const ring = new RecordedRing({ access: layout.IOTLB_ACCESS_READ });
  ring.descriptor(3, ring.iova(ring.buffers) + 5n, 64, VIRTQ_DESC_F_WRITE);
  ring.offer(3);
  assert.is(ring.pop(), 0);
  const [broken, ...rest] = ring.read(ring.device);
  assert.equal(rest, []);
  assert.equal([broken!.kind, broken!.code, broken!.head], ['broken', 'ERR_RING_PERMISSION', 3]);
  assert.is(broken!.iova, `0x${(ring.iova(ring.buffers) + 5n).toString(16)}`);
});

test.run();
