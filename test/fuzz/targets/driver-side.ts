import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import * as virtio from '../../../assembly/virtio.js';
import { Ring } from '../../engine/fixture.js';
import { type BlockRequest, completion, type Offered, offered } from '../../virtqueue/block-request.js';
import { DriverModel } from '../../virtqueue/driver-model.js';
import type { Choices } from '../choices.js';
import { Reached, type Stage, type Target } from '../target.js';
import type { HostileDevice } from './hostile-device.js';
import { HostilePackedDevice } from './hostile-packed-device.js';
import { HostileSplitDevice } from './hostile-split-device.js';

const SPLIT_SIZES = [8, 4, 16, 32];
const PACKED_SIZES = [8, 4, 16, 5, 31];
const TYPES = [
  virtio.VIRTIO_BLK_T_IN,
  virtio.VIRTIO_BLK_T_OUT,
  virtio.VIRTIO_BLK_T_FLUSH,
  virtio.VIRTIO_BLK_T_GET_ID,
  virtio.VIRTIO_BLK_T_DISCARD,
  virtio.VIRTIO_BLK_T_WRITE_ZEROES,
];
/** What the doorbell's word holds while nobody has rung. */
const SILENT = 0xffff;
/** Queue index that a ring of the doorbell says. */
const QUEUE_INDEX = 3;

interface Setting {
  packed: boolean;
  size: number;
  indirect: boolean;
  eventIdx: boolean;
  inOrder: boolean;
}

/** Rings by setting, with a word of private memory in place of a doorbell page. */
class Rings {
  readonly #rings = new Map<string, { ring: Ring; doorbell: number }>();

  at(setting: Setting): { ring: Ring; doorbell: number } {
    const key = Object.values(setting).join();
    let made = this.#rings.get(key);
    if (!made) {
      const ring = new Ring({ ...setting, fence: true });
      made = { ring, doorbell: ring.allocate(4) };
      this.#rings.set(key, made);
    }
    return made;
  }
}

/** One case: the engine drives, the case is its device. */
class Case {
  readonly #ring: Ring;
  readonly #doorbell: number;
  readonly #rings: boolean;
  readonly #choices: Choices;
  readonly #reached: Reached;
  readonly #model: DriverModel<Offered>;
  /** Requests in flight, by id. */
  readonly #requests = new Map<number, BlockRequest>();
  readonly #device: HostileDevice;
  /** Linear addresses of the status bytes of what is in flight, by id. */
  readonly #statuses = new Map<number, number>();
  #tag = 1;
  #operations = 0;

  constructor(rings: Rings, setting: Setting, choices: Choices, reached: Reached) {
    const { ring, doorbell } = rings.at(setting);
    this.#ring = ring;
    this.#doorbell = doorbell;
    this.#choices = choices;
    this.#reached = reached;
    this.#rings = choices.once(2);
    ring.set(ring.dq, {
      [layout.DQ_DOORBELL]: this.#rings ? doorbell : 0,
      [layout.DQ_INDEX]: QUEUE_INDEX,
    });
    ring.engine.driverStart(ring.dq);
    this.#model = new DriverModel(ring.u32(ring.dq + layout.DQ_SLOTS));
    const Device = setting.packed ? HostilePackedDevice : HostileSplitDevice;
    this.#device = new Device(ring, setting, this.#model, choices);
  }

  play(): number {
    for (let steps = 2 + this.#choices.below(10); steps > 0; steps--) {
      this.#submit();
      if (this.#choices.once(5)) this.#device.disturb();
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
    const { engine, dq, data, submissions } = this.#ring;
    const requests = Array.from({ length: this.#choices.below(5) }, () => this.#request());
    for (const [i, request] of requests.entries())
      this.#ring.submission(i, {
        ...request,
        sector: Number(request.sector),
        flags: request.rangeFlags,
      });
    const taken = this.#model.room(requests.length);
    data.setUint16(this.#doorbell, SILENT, true);
    const result = engine.blkSubmit(dq, submissions, requests.length);
    for (const request of requests.slice(0, taken)) {
      const id = this.#shown(request);
      this.#model.submitted(id, offered(request));
      this.#requests.set(id, request);
    }
    this.#operations += taken;
    const due = this.#device.wantsKick(taken);
    assert.is(result, taken | (due && !this.#rings ? layout.NOTIFY_DUE : 0), 'result of blkSubmit');
    assert.is(this.#ring.u16(this.#doorbell), due && this.#rings ? QUEUE_INDEX : SILENT, 'doorbell');
  }

  #request(): BlockRequest {
    const choices = this.#choices;
    const type = choices.pick(TYPES);
    const bytes = type === virtio.VIRTIO_BLK_T_GET_ID ? 20 : 512 * (1 + choices.below(4));
    const linear = this.#ring.buffers + choices.below(16) * 2048;
    const sector = BigInt(choices.below(1000));
    return { type, tag: this.#tag++, sector, linear, bytes, rangeFlags: choices.below(2) };
  }

  /** The next chain that the ring shows, which must be `request`: its id. */
  #shown(request: BlockRequest): number {
    const { u8 } = this.#ring;
    const { id, readable, writable: toWrite } = this.#device.look();
    const { header, data: buffer, writable } = offered(request);
    if (buffer && !buffer.writable)
      assert.equal(readable.pop(), [buffer.linear, buffer.bytes], 'data to write');
    const shown = readable.flatMap(([linear, bytes]) => [...u8.subarray(linear, linear + bytes)]);
    if (Buffer.compare(Uint8Array.from(shown), header)) assert.equal(shown, [...header], 'header');
    const [status, length] = toWrite.pop()!;
    assert.is(length, 1, 'bytes of the status');
    assert.is(u8[status], 0xff, 'status before the device has written it');
    if (buffer?.writable) assert.equal(toWrite, [[buffer.linear, buffer.bytes]], 'data to read');
    else assert.is(toWrite.length, 0, 'nothing else to write');
    const room = toWrite.reduce((sum, [, bytes]) => sum + bytes, 1);
    assert.is(room, writable, 'writable bytes');
    for (const [other, at] of this.#statuses)
      if (at === status && this.#model.inFlight.has(other))
        throw new Error(`requests ${id} and ${other} share a status byte`);
    this.#statuses.set(id, status);
    return id;
  }

  /** Uses buffers as a device does, or as it should not. */
  #use(): void {
    const choices = this.#choices;
    const ids = [...this.#model.inFlight.keys()].filter((id) => !this.#device.hasUsed(id));
    for (let count = choices.below(4); count > 0 && ids.length; count--) {
      const at = this.#device.anyOrder ? choices.below(ids.length) : 0;
      let [id] = ids.splice(at, 1) as [number];
      const { writable } = this.#model.inFlight.get(id)!;
      let bytes = choices.pick([writable, writable, 1, 0]);
      this.#ring.u8[this.#statuses.get(id)!] = choices.pick([0, 0, 0, 1, 2, 255, 77]);
      if (choices.once(60)) id = choices.pick([id + 1, this.#ring.size, 65535, choices.below(64)]);
      if (choices.once(60)) bytes = choices.pick([writable + 1, 0xffffffff]);
      this.#device.use(id, bytes);
    }
    this.#device.publish();
  }

  #reap(): void {
    const { engine, dq, completions, u8 } = this.#ring;
    const max = this.#choices.pick([64, 1, 2]);
    const expected = this.#device
      .reap(max)
      .map(({ id, bytes }) => completion(this.#requests.get(id)!, bytes, u8[this.#statuses.get(id)!]!));
    const count = engine.blkReap(dq, completions, max, 0, this.#choices.below(3));
    assert.equal(this.#ring.completed(count), expected, 'completions');
    for (const { status } of expected) this.#reached.count(status <= 2 ? `status ${status}` : 'no status');
    this.#operations += count;
  }

  #compareNotifications(): void {
    const { engine, dq } = this.#ring;
    if (this.#choices.once(2)) {
      engine.driverDisarm(dq);
      assert.equal(this.#device.wish(), this.#device.wishOf('disarmed'), 'wish when disarmed');
      return;
    }
    assert.is(engine.driverArm(dq), this.#device.waiting(), 'completions that wait');
    assert.equal(this.#device.wish(), this.#device.wishOf('armed'), 'wish when armed');
  }
}

function stage(packed: boolean): Stage {
  const rings = new Rings();
  const reached = new Reached();
  const play = (choices: Choices) => {
    const setting = {
      packed,
      size: choices.pick(packed ? PACKED_SIZES : SPLIT_SIZES),
      indirect: choices.once(2),
      eventIdx: choices.once(2),
      inOrder: packed && choices.once(3),
    };
    return new Case(rings, setting, choices, reached).play();
  };
  return { play, reached, close: async () => {} };
}

/** A device that uses buffers in any order, twice, never, with any length, and scribbles. */
export const splitDriver: Target = {
  name: 'split-driver',
  about: 'the block driver on a split ring against a hostile device, and what it shows that device',
  operations: 'submissions and completions',
  tested: 10000,
  start: async () => stage(false),
};

/** The same on packed rings of any size. */
export const packedDriver: Target = {
  name: 'packed-driver',
  about: 'the block driver on a packed ring, in order too, against a hostile device',
  operations: 'submissions and completions',
  tested: 10000,
  start: async () => stage(true),
};
