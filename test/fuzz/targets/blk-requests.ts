import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import * as virtio from '../../../assembly/virtio.js';
import { DISK_LINEAR, DRIVER_BYTES, DRIVER_IOVA, DRIVER_LINEAR, Ring } from '../../engine/fixture.js';
import { SplitDevice, type SplitQueue } from '../../virtqueue/split-device.js';
import type { Choices } from '../choices.js';
import { Reached, type Stage, type Target } from '../target.js';
import { DiskModel } from './disk-model.js';

const { VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } = virtio;
const SIZE = 16;
const SECTOR = virtio.VIRTIO_BLK_SECTOR_SIZE;
/** Sectors of the disk; what lies behind must stay as it is. */
const CAPACITY = 8;
const DISK_BYTES = (CAPACITY + 2) * SECTOR;
/** Bytes of buffers that the requests of a case are made of. */
const BUFFER_BYTES = 0x4000;
const FLAGS = [layout.DISK_F_RO, layout.DISK_F_FLUSH, layout.DISK_F_DISCARD, layout.DISK_F_WRITE_ZEROES];
const TYPES = [
  virtio.VIRTIO_BLK_T_IN,
  virtio.VIRTIO_BLK_T_OUT,
  virtio.VIRTIO_BLK_T_IN,
  virtio.VIRTIO_BLK_T_OUT,
  virtio.VIRTIO_BLK_T_FLUSH,
  virtio.VIRTIO_BLK_T_GET_ID,
  virtio.VIRTIO_BLK_T_DISCARD,
  virtio.VIRTIO_BLK_T_WRITE_ZEROES,
];
/** What memory and disk hold before each case: every byte tells where it is from. */
const MEMORY = Uint8Array.from({ length: BUFFER_BYTES }, (_, i) => 1 + (i % 125));
const DISK = Uint8Array.from({ length: DISK_BYTES }, (_, i) => 128 + (i % 127));

/** The requests of one case, written into descriptors. */
class Requests {
  readonly #ring: Ring;
  readonly #choices: Choices;
  #descriptor = 0;
  #buffer = 0;

  constructor(ring: Ring, choices: Choices) {
    this.#ring = ring;
    this.#choices = choices;
  }

  /** Writes and offers one request, mostly sound: whether there was room for it. */
  write(): boolean {
    const choices = this.#choices;
    const { data, buffers } = this.#ring;
    const type = choices.once(24) ? choices.below(32) : choices.pick(TYPES);
    const sector = choices.once(8)
      ? choices.pick([BigInt(CAPACITY), 2n ** 64n - 1n, 2n ** 55n, 2n ** 32n])
      : BigInt(choices.below(CAPACITY));
    const bytes = choices.below(4) * SECTOR + (choices.once(16) ? choices.below(64) : 0);
    const ranged = type === virtio.VIRTIO_BLK_T_DISCARD || type === virtio.VIRTIO_BLK_T_WRITE_ZEROES;
    let readable = virtio.VIRTIO_BLK_HEADER_SIZE;
    let writable = 1;
    if (type === virtio.VIRTIO_BLK_T_IN) writable += bytes;
    else if (type === virtio.VIRTIO_BLK_T_OUT) readable += bytes;
    else if (type === virtio.VIRTIO_BLK_T_GET_ID)
      writable += choices.pick([20, 21, 19, 0, choices.below(64)]);
    else if (ranged) readable += virtio.VIRTIO_BLK_RANGE_SIZE;
    if (choices.once(20)) readable = choices.pick([readable - 1, readable + 1, 0, readable + SECTOR, 8]);
    if (choices.once(20)) writable = choices.pick([0, writable + 1, writable + SECTOR]);
    if (this.#buffer + readable + writable > BUFFER_BYTES) return false;
    const header = buffers + this.#buffer;
    data.setUint32(header, type, true);
    data.setBigUint64(header + virtio.VIRTIO_BLK_HEADER_SECTOR, sector, true);
    if (ranged) {
      const range = header + virtio.VIRTIO_BLK_HEADER_SIZE;
      data.setBigUint64(range, sector, true);
      const sectors = choices.pick([1, 0, CAPACITY, 3, 0xffffffff]);
      data.setUint32(range + virtio.VIRTIO_BLK_RANGE_NUM_SECTORS, sectors, true);
      data.setUint32(range + virtio.VIRTIO_BLK_RANGE_FLAGS, choices.pick([0, 1, 2, 0x80000000]), true);
    }
    return this.#cut(readable, writable);
  }

  /** Cuts a request into descriptors and offers it. */
  #cut(readable: number, writable: number): boolean {
    const ring = this.#ring;
    const choices = this.#choices;
    const cuts: [bytes: number, flags: number][] = [];
    for (const [bytes, flags] of [
      [readable, 0],
      [writable, VIRTQ_DESC_F_WRITE],
    ] as const) {
      let left = bytes;
      // As drivers cut: header, data and status apart; or anywhere.
      if (flags === 0 && left > virtio.VIRTIO_BLK_HEADER_SIZE && !choices.once(3)) {
        cuts.push([virtio.VIRTIO_BLK_HEADER_SIZE, flags]);
        left -= virtio.VIRTIO_BLK_HEADER_SIZE;
      } else if (flags && left > 1 && !choices.once(3)) {
        cuts.push([left - 1, flags]);
        left = 1;
      }
      while (left > 0) {
        const piece = choices.once(4) ? 1 + choices.below(left) : left;
        cuts.push([piece, flags]);
        left -= piece;
      }
    }
    if (cuts.length === 0 || this.#descriptor + cuts.length > SIZE) return false;
    const head = this.#descriptor;
    for (const [i, [bytes, flags]] of cuts.entries()) {
      const more = i + 1 < cuts.length ? VIRTQ_DESC_F_NEXT : 0;
      const iova = ring.iova(ring.buffers + this.#buffer);
      ring.descriptor(this.#descriptor, iova, bytes, flags | more, this.#descriptor + 1);
      this.#descriptor++;
      this.#buffer += bytes;
    }
    ring.offer(head);
    return true;
  }
}

/** The rings of a disk: the same for every case, but for what was negotiated. */
class Disks {
  readonly reached = new Reached();
  readonly #rings = [false, true].map((eventIdx) => new Ring({ size: SIZE, eventIdx, fence: true }));

  play(choices: Choices): number {
    const eventIdx = choices.once(2);
    const ring = this.#rings[eventIdx ? 1 : 0]!;
    const { engine, vq, disk, data, u8, buffers, desc, avail, used } = ring;
    u8.fill(0, desc, used);
    ring.start();
    u8.set(MEMORY, buffers);
    u8.set(DISK, DISK_LINEAR);
    const flags = FLAGS.reduce((set, flag, i) => set | (choices.once(i === 0 ? 8 : 2) ? flag : 0), 0);
    const maxRange = choices.pick([CAPACITY, 2]);
    ring.set(disk, { [layout.DISK_FLAGS]: flags, [layout.DISK_MAX_RANGE_SECTORS]: maxRange });
    data.setBigUint64(disk + layout.DISK_CAPACITY, BigInt(CAPACITY), true);
    const requests = new Requests(ring, choices);
    let count = 0;
    for (let wanted = 1 + choices.below(5); wanted > 0; wanted--) if (requests.write()) count++;

    const regions = [{ iova: DRIVER_IOVA, bytes: DRIVER_BYTES, linear: DRIVER_LINEAR, access: 3 }];
    const queue: SplitQueue = {
      data,
      size: SIZE,
      desc,
      avail,
      used,
      regions,
      indirect: false,
      eventIdx,
      burst: 64,
      segments: 1024,
    };
    const model = new SplitDevice(queue, 0);
    const rings = u8.slice(desc, buffers);
    const memory = u8.slice(buffers, buffers + BUFFER_BYTES);
    const image = u8.slice(DISK_LINEAR, DISK_LINEAR + DISK_BYTES);
    const id = u8.slice(disk + layout.DISK_ID, disk + layout.DISK_ID + virtio.VIRTIO_BLK_ID_BYTES);
    const diskModel = new DiskModel({ capacity: CAPACITY, flags, maxRange, id }, memory, buffers, image);
    const done = [];
    for (const chain of model.pop(64)) {
      const bytes = diskModel.serve(chain);
      if (bytes === undefined) {
        model.verdict = layout.VERDICT_REQUEST;
        break;
      }
      done.push({ head: chain.head, bytes });
      const [last, length] = chain.writable.at(-1)!;
      const status = memory[last + length - 1 - buffers];
      this.reached.count(`status ${status}`);
    }
    const due = model.push(done);
    const expected = done.length | (due ? layout.NOTIFY_DUE : 0);

    if (choices.once(3)) {
      const entries = engine.blkPrepare(vq, disk, ring.io, 64);
      assert.is(engine.blkComplete(vq, disk, ring.io, entries), expected, 'result of blkComplete');
    } else assert.is(engine.blkServe(vq, disk), expected, 'result of blkServe');
    assert.is(ring.verdict(), model.verdict, 'verdict');
    if (model.verdict) this.reached.count(`verdict ${model.verdict}`);
    model.writes.apply(new DataView(rings.buffer), desc);
    same(u8.subarray(desc, buffers), rings, 'rings');
    same(u8.subarray(buffers, buffers + BUFFER_BYTES), memory, 'buffers');
    same(u8.subarray(DISK_LINEAR, DISK_LINEAR + DISK_BYTES), image, 'disk');
    return Math.max(1, count);
  }
}

function same(actual: Uint8Array, expected: Uint8Array, what: string): void {
  const at = Buffer.compare(actual, expected) ? actual.findIndex((byte, i) => byte !== expected[i]) : -1;
  if (at >= 0) assert.is(actual[at], expected[at], `byte ${at} of the ${what}`);
}

/** Requests cut into descriptors in every way, sound and unsound, on a disk in memory. */
export const blkRequests: Target = {
  name: 'blk-requests',
  about: 'block requests however cut, on a disk in memory, against a model of the disk',
  operations: 'requests',
  tested: 20000,
  start: async (): Promise<Stage> => {
    const disks = new Disks();
    return { play: (choices) => disks.play(choices), reached: disks.reached, close: async () => {} };
  },
};
