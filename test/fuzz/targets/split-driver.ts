import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import * as virtio from '../../../assembly/virtio.js';
import { DRIVER_BYTES, DRIVER_IOVA, DRIVER_LINEAR, Ring } from '../../engine/fixture.js';
import type { Region } from '../../virtqueue/regions.js';
import { referenceChain } from '../../virtqueue/split-chain.js';
import { type BlockRequest, type Completion, DriverModel, offered } from '../../virtqueue/split-driver.js';
import type { Choices } from '../choices.js';
import { Reached, type Target } from '../target.js';

const SIZES = [8, 4, 16, 32];
const TYPES = [
  virtio.VIRTIO_BLK_T_IN,
  virtio.VIRTIO_BLK_T_OUT,
  virtio.VIRTIO_BLK_T_FLUSH,
  virtio.VIRTIO_BLK_T_GET_ID,
  virtio.VIRTIO_BLK_T_DISCARD,
  virtio.VIRTIO_BLK_T_WRITE_ZEROES,
];
const REGIONS: Region[] = [{ iova: DRIVER_IOVA, bytes: DRIVER_BYTES, linear: DRIVER_LINEAR, access: 3 }];
const { VIRTQ_USED_RING, VIRTQ_USED_ENTRY_SIZE, VIRTQ_USED_IDX, VIRTQ_AVAIL_RING } = virtio;
/** What the doorbell's word holds while nobody has rung. */
const SILENT = 0xffff;

/** Rings by configuration, with a word of private memory in place of a doorbell page. */
class Rings {
  readonly reached = new Reached();
  readonly #rings = new Map<number, { ring: Ring; doorbell: number }>();

  play(choices: Choices): number {
    const size = choices.pick(SIZES);
    const indirect = choices.once(2);
    const eventIdx = choices.once(2);
    const key = size * 4 + (indirect ? 2 : 0) + (eventIdx ? 1 : 0);
    let made = this.#rings.get(key);
    if (!made) {
      const ring = new Ring({ size, indirect, eventIdx, fence: true });
      made = { ring, doorbell: ring.allocate(4) };
      this.#rings.set(key, made);
    }
    return new Case(made.ring, made.doorbell, choices, indirect, eventIdx, this.reached).play();
  }
}

/** One case: the engine drives, the case is its device. */
class Case {
  readonly #ring: Ring;
  readonly #doorbell: number;
  readonly #rings: boolean;
  readonly #choices: Choices;
  readonly #indirect: boolean;
  readonly #eventIdx: boolean;
  readonly #reached: Reached;
  readonly #model: DriverModel;
  /** Linear addresses of the status bytes of what is in flight, by id. */
  readonly #statuses = new Map<number, number>();
  #tag = 1;
  #operations = 0;

  constructor(
    ring: Ring,
    doorbell: number,
    choices: Choices,
    indirect: boolean,
    eventIdx: boolean,
    reached: Reached,
  ) {
    this.#ring = ring;
    this.#doorbell = doorbell;
    this.#choices = choices;
    this.#indirect = indirect;
    this.#eventIdx = eventIdx;
    this.#reached = reached;
    this.#rings = choices.once(2);
    ring.set(ring.dq, { [layout.DQ_DOORBELL]: this.#rings ? doorbell : 0, [layout.DQ_INDEX]: 3 });
    ring.engine.driverStart(ring.dq);
    this.#model = new DriverModel(ring.u32(ring.dq + layout.DQ_SLOTS));
  }

  play(): number {
    for (let steps = 2 + this.#choices.below(10); steps > 0; steps--) {
      this.#submit();
      if (this.#choices.once(5)) this.#disturb();
      this.#use();
      if (this.#choices.once(4)) this.#compareNotifications();
      this.#reap();
      const verdict = this.#ring.u32(this.#ring.dq + layout.DQ_VERDICT);
      assert.is(verdict, this.#model.verdict, 'verdict');
      if (verdict) this.#reached.count(`verdict ${verdict}`);
    }
    return this.#operations;
  }

  /** Submits requests: the ring must show a device exactly those. */
  #submit(): void {
    const { engine, dq, data, submissions, avail, size } = this.#ring;
    const choices = this.#choices;
    const requests = Array.from({ length: choices.below(5) }, () => this.#request());
    for (const [i, request] of requests.entries())
      this.#ring.submission(i, {
        ...request,
        sector: Number(request.sector),
        flags: request.rangeFlags,
      });
    const taken = this.#model.room(requests.length);
    const first = this.#model.avail;
    data.setUint16(this.#doorbell, SILENT, true);
    const result = engine.blkSubmit(dq, submissions, requests.length);
    const { used } = this.#ring;
    const ids = Array.from({ length: taken }, (_, i) => this.#offer((first + i) % size, requests[i]!));
    this.#model.submitted(ids, requests);
    this.#operations += taken;
    const due = this.#model.notifies(
      this.#eventIdx
        ? { event: this.#ring.u16(used + VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE) }
        : { flags: this.#ring.u16(used) },
      taken,
    );
    assert.is(result, taken | (due && !this.#rings ? layout.NOTIFY_DUE : 0), 'result of blkSubmit');
    assert.is(this.#ring.u16(this.#doorbell), due && this.#rings ? 3 : SILENT, 'doorbell');
    if (taken) assert.is(this.#ring.u16(avail + virtio.VIRTQ_AVAIL_IDX), this.#model.avail, 'avail.idx');
  }

  #request(): BlockRequest {
    const choices = this.#choices;
    const type = choices.pick(TYPES);
    const bytes = type === virtio.VIRTIO_BLK_T_GET_ID ? 20 : 512 * (1 + choices.below(4));
    const linear = this.#ring.buffers + choices.below(16) * 2048;
    const sector = BigInt(choices.below(1000));
    return { type, tag: this.#tag++, sector, linear, bytes, rangeFlags: choices.below(2) };
  }

  /** The chain that the ring shows at an entry of the available ring, which must be `request`: its id. */
  #offer(entry: number, request: BlockRequest): number {
    const { data, desc, avail, size, u8 } = this.#ring;
    const id = data.getUint16(avail + VIRTQ_AVAIL_RING + entry * 2, true);
    const chain = referenceChain({ data, size, desc, indirect: this.#indirect, regions: REGIONS }, id);
    if (!('readable' in chain))
      throw new Error(`the driver offers a chain that is none: ${JSON.stringify(chain)}`);
    const { header, data: buffer, writable } = offered(request);
    const readable = chain.readable.map(([linear, bytes]) => [linear, bytes]);
    if (buffer && !buffer.writable)
      assert.equal(readable.pop(), [buffer.linear, buffer.bytes], 'data to write');
    const shown = readable.flatMap(([linear, bytes]) => [...u8.subarray(linear!, linear! + bytes!)]);
    if (Buffer.compare(Uint8Array.from(shown), header)) assert.equal(shown, [...header], 'header');
    const [status, length] = chain.writable.at(-1)!;
    assert.is(length, 1, 'bytes of the status');
    assert.is(u8[status], 0xff, 'status before the device has written it');
    const room = chain.writable.slice(0, -1);
    if (buffer?.writable) assert.equal(room, [[buffer.linear, buffer.bytes]], 'data to read');
    else assert.is(room.length, 0, 'nothing else to write');
    assert.is(
      room.reduce((sum, [, bytes]) => sum + bytes, 1),
      writable,
      'writable bytes',
    );
    for (const [other, at] of this.#statuses)
      if (at === status && this.#model.inFlight.has(other))
        throw new Error(`requests ${id} and ${other} share a status byte`);
    this.#statuses.set(id, status);
    return id;
  }

  /** Uses buffers as a device does, or as it should not. */
  #use(): void {
    const { data, used, size, u8 } = this.#ring;
    const choices = this.#choices;
    let index = this.#ring.u16(used + VIRTQ_USED_IDX);
    const ids = [...this.#model.inFlight.keys()];
    for (let count = choices.below(4); count > 0 && ids.length; count--) {
      let [id] = ids.splice(choices.below(ids.length), 1) as [number];
      const request = this.#model.inFlight.get(id)!;
      const { writable } = offered(request);
      let bytes = choices.pick([writable, writable, 1, 0]);
      u8[this.#statuses.get(id)!] = choices.pick([0, 0, 0, 1, 2, 255, 77]);
      if (choices.once(60)) id = choices.pick([id + 1, size, 0xffffffff, choices.below(size), id + 65536]);
      if (choices.once(60)) bytes = choices.pick([writable + 1, 0xffffffff]);
      const at = used + VIRTQ_USED_RING + (index % size) * VIRTQ_USED_ENTRY_SIZE;
      data.setUint32(at, id, true);
      data.setUint32(at + 4, bytes, true);
      index = (index + 1) & 0xffff;
    }
    if (choices.once(60)) index = choices.pick([index + 1, index - 1, choices.below(65536), index + size]);
    data.setUint16(used + VIRTQ_USED_IDX, index, true);
  }

  /** Whatever else a device can do to memory that it can write: all of it but the used ring's entries. */
  #disturb(): void {
    const { data, u8, used, size, desc } = this.#ring;
    const choices = this.#choices;
    const event = used + VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE;
    switch (choices.below(4)) {
      case 0:
        data.setUint16(used, choices.pick([0, 1, 2, 0xffff]), true);
        break;
      case 1:
        data.setUint16(event, this.#model.avail + choices.pick([0, 1, 2, -1, choices.below(65536)]), true);
        break;
      case 2:
        u8.fill(choices.below(256), desc, used);
        break;
      case 3:
        u8.fill(choices.below(256), event + 2, this.#ring.buffers);
        break;
    }
  }

  #reap(): void {
    const { engine, dq, completions, used, u8, size } = this.#ring;
    const choices = this.#choices;
    const max = choices.pick([64, 1, 2]);
    const index = this.#ring.u16(used + VIRTQ_USED_IDX);
    const expected: Completion[] = [];
    // Before it sleeps or gives up the engine looks again: what the first look has left is still within bounds.
    const waiting = Math.min(this.#model.waiting(index), max);
    for (let i = 0; i < waiting; i++) {
      const at = used + VIRTQ_USED_RING + (this.#model.lastUsed % size) * VIRTQ_USED_ENTRY_SIZE;
      const statusOf = (id: number) => u8[this.#statuses.get(id)!]!;
      const done = this.#model.complete(this.#ring.u32(at), this.#ring.u32(at + 4), statusOf);
      if (!done) break;
      expected.push(done);
    }
    const count = engine.blkReap(dq, completions, max, 0, choices.below(3));
    assert.equal(this.#ring.completed(count), expected, 'completions');
    for (const { status } of expected) this.#reached.count(status <= 2 ? `status ${status}` : 'no status');
    this.#operations += count;
  }

  #compareNotifications(): void {
    const { engine, dq, used, avail, size } = this.#ring;
    if (this.#choices.once(2)) {
      engine.driverDisarm(dq);
      if (!this.#eventIdx) assert.is(this.#ring.u16(avail), virtio.VIRTQ_AVAIL_F_NO_INTERRUPT, 'avail.flags');
      return;
    }
    const expected = this.#model.waiting(this.#ring.u16(used + VIRTQ_USED_IDX));
    assert.is(engine.driverArm(dq), expected, 'completions that wait');
    if (this.#eventIdx)
      assert.is(this.#ring.u16(avail + VIRTQ_AVAIL_RING + size * 2), this.#model.lastUsed, 'used_event');
    else assert.is(this.#ring.u16(avail), 0, 'avail.flags');
  }
}

/** A device that uses buffers in any order, twice, never, with any length, and scribbles. */
export const splitDriver: Target = {
  name: 'split-driver',
  about: 'the block driver on a split ring against a hostile device, and what it shows that device',
  operations: 'submissions and completions',
  start: async () => {
    const rings = new Rings();
    return { play: (choices) => rings.play(choices), reached: rings.reached, close: async () => {} };
  },
};
