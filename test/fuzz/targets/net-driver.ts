import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import { ETH_HLEN, VIRTIO_NET_HDR_SIZE } from '../../../assembly/virtio.js';
import { DRIVER_LINEAR, Ring } from '../../engine/fixture.js';
import { DriverModel, type Offer } from '../../virtqueue/driver-model.js';
import type { Choices } from '../choices.js';
import { Reached, type Target } from '../target.js';
import type { HostileDevice } from './hostile-device.js';
import { HostilePackedDevice } from './hostile-packed-device.js';
import { HostileSplitDevice } from './hostile-split-device.js';

const SPLIT_SIZES = [8, 4, 16, 2];
const PACKED_SIZES = [8, 4, 16, 5, 1];
/** Bytes of a slot: header and longest frame. */
const SLOT_BYTES = VIRTIO_NET_HDR_SIZE + 116;
/** Where bounce pages lie, in the driver's memory. */
const BOUNCE = DRIVER_LINEAR + 0x80000;
const BOUNCE_PAGES = 16;
/** What the device has overwritten. */
const SCRIBBLE = 0xee;

interface Setting {
  packed: boolean;
  size: number;
  eventIdx: boolean;
  inOrder: boolean;
}

/** A frame on its way: the device reads it, or writes it. */
interface FrameOffer extends Offer {
  /** Bytes of the frame; 0 of one to come. */
  readonly bytes: number;
  /** Linear address at which the device has the header. */
  readonly shown: number;
}

/** A ring of one of a network device's two queues. */
class NetRing extends Ring {
  readonly slots: number;
  readonly domain: number;
  readonly #bitmap: number;

  constructor(setting: Setting) {
    super({ ...setting, fence: true });
    this.slots = this.size;
    this.#bitmap = this.allocate(8);
    this.domain = this.allocate(layout.DOMAIN_BLOCK_SIZE);
    this.set(this.domain, {
      [layout.DOMAIN_BOUNCE]: BOUNCE,
      [layout.DOMAIN_PAGES]: BOUNCE_PAGES,
      [layout.DOMAIN_BITMAP]: this.#bitmap,
      [layout.DOMAIN_MAPS]: this.allocate(BOUNCE_PAGES * layout.BOUNCE_MAP_SIZE),
    });
    this.set(this.dq, {
      [layout.DQ_SLOTS]: this.slots,
      [layout.DQ_SLOT_MEMORY]: this.buffers,
      [layout.DQ_SLOT_BYTES]: SLOT_BYTES,
      [layout.DQ_HEADER_BYTES]: VIRTIO_NET_HDR_SIZE,
      [layout.DQ_LEAST_BYTES]: ETH_HLEN,
      [layout.DQ_SLOT_DESCRIPTORS]: 1,
      [layout.DQ_SLOT_STATE]: this.allocate(this.slots * layout.SLOT_STATE_SIZE),
      [layout.DQ_FREE_STACK]: this.allocate(this.slots * 2),
      [layout.DQ_ORDER]: this.allocate(this.slots * 2),
    });
  }

  /** Starts the driver anew, with its own memory before the device, or bounce pages. */
  begin(bounce: boolean): void {
    this.u8.fill(0, this.#bitmap, this.#bitmap + 8);
    this.set(this.domain, { [layout.DOMAIN_FREE_FROM]: 0 });
    this.set(this.dq, { [layout.DQ_DOMAIN]: bounce ? this.domain : 0 });
    this.engine.driverStart(this.dq);
  }

  slotMemory(slot: number): number {
    return this.buffers + slot * SLOT_BYTES;
  }

  /** Writes entry `index` of the table of frames. */
  frame(index: number, slot: number, bytes: number): void {
    const at = this.completions + index * layout.FRAME_SIZE;
    this.set(at, { [layout.FRAME_SLOT]: slot, [layout.FRAME_BYTES]: bytes });
  }

  /** Entries [0, count) of that table. */
  frames(count: number): { slot: number; bytes: number }[] {
    return Array.from({ length: count }, (_, i) => {
      const at = this.completions + i * layout.FRAME_SIZE;
      return { slot: this.u32(at + layout.FRAME_SLOT), bytes: this.u32(at + layout.FRAME_BYTES) };
    });
  }
}

/** One case: the engine drives one queue of a network device, the case is that device. */
class Case {
  readonly #ring: NetRing;
  readonly #choices: Choices;
  readonly #reached: Reached;
  readonly #receives: boolean;
  readonly #bounce: boolean;
  readonly #model: DriverModel<FrameOffer>;
  readonly #device: HostileDevice;
  #seed = 1;
  #operations = 0;

  constructor(ring: NetRing, setting: Setting, choices: Choices, reached: Reached) {
    this.#ring = ring;
    this.#choices = choices;
    this.#reached = reached;
    this.#receives = choices.once(2);
    this.#bounce = choices.once(2);
    ring.begin(this.#bounce);
    this.#model = new DriverModel(ring.slots);
    const Device = setting.packed ? HostilePackedDevice : HostileSplitDevice;
    this.#device = new Device(ring, { ...setting, indirect: false }, this.#model, choices);
  }

  play(): number {
    for (let steps = 2 + this.#choices.below(10); steps > 0; steps--) {
      this.#offer();
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

  /** Puts free slots on the ring: a device must be shown exactly those, and what lies in them. */
  #offer(): void {
    const { engine, dq, completions } = this.#ring;
    const slots = this.#freeSlots(this.#choices.below(4));
    const lengths = slots.map(() => (this.#receives ? 0 : ETH_HLEN + this.#choices.below(100)));
    const frames = slots.map((slot, i) => this.#fill(slot, lengths[i]!));
    const room = SLOT_BYTES - VIRTIO_NET_HDR_SIZE;
    for (const [i, slot] of slots.entries()) this.#ring.frame(i, slot, lengths[i] || room);
    const taken = this.#model.room(slots.length);
    const call = this.#receives ? engine.bufferReceive : engine.bufferTransmit;
    const result = call(dq, completions, slots.length);
    for (const [i, slot] of slots.slice(0, taken).entries()) this.#compareShown(slot, frames[i]!);
    const due = this.#device.wantsKick(taken);
    assert.is(result, due ? layout.NOTIFY_DUE : 0, 'result of bufferTransmit or bufferReceive');
    this.#operations += taken;
  }

  #freeSlots(count: number): number[] {
    const first = this.#choices.below(this.#ring.slots);
    return Array.from({ length: this.#ring.slots }, (_, i) => (first + i) % this.#ring.slots)
      .filter((slot) => !this.#model.inFlight.has(slot))
      .slice(0, count);
  }

  /** Writes a frame into its slot, behind a header that still holds whatever the device last left there. */
  #fill(slot: number, bytes: number): Uint8Array {
    const at = this.#ring.slotMemory(slot);
    this.#ring.u8.fill(SCRIBBLE, at, at + VIRTIO_NET_HDR_SIZE);
    const frame = Uint8Array.from({ length: bytes }, (_, i) => this.#seed + i);
    this.#seed++;
    this.#ring.u8.set(frame, at + VIRTIO_NET_HDR_SIZE);
    return frame;
  }

  #compareShown(slot: number, frame: Uint8Array): void {
    const { u8 } = this.#ring;
    const { id, readable, writable } = this.#device.look();
    assert.is(id, slot, 'id of a slot');
    const room = this.#receives ? SLOT_BYTES : VIRTIO_NET_HDR_SIZE + frame.length;
    const [shown, bytes] = [...readable, ...writable][0]!;
    assert.equal([readable.length, writable.length], this.#receives ? [0, 1] : [1, 0], 'one buffer');
    assert.is(bytes, room, 'bytes of a slot');
    const own = this.#ring.slotMemory(slot);
    if (!this.#bounce) assert.is(shown, own, 'the slot itself');
    else
      assert.ok(shown >= BOUNCE && shown + bytes <= BOUNCE + BOUNCE_PAGES * layout.PAGE_SIZE, 'bounce pages');
    if (!this.#receives) {
      const expected = [...new Uint8Array(VIRTIO_NET_HDR_SIZE), ...frame];
      assert.equal([...u8.subarray(shown, shown + bytes)], expected, 'header and frame');
    }
    for (const [other, offer] of this.#model.inFlight)
      if (offer.shown === shown) throw new Error(`slots ${id} and ${other} are at one place`);
    const writes = this.#receives ? SLOT_BYTES : 0;
    this.#model.submitted(id, { writable: writes, bytes: frame.length, shown });
  }

  /** Uses slots as a device does, or as it should not. */
  #use(): void {
    const choices = this.#choices;
    const ids = [...this.#model.inFlight.keys()].filter((id) => !this.#device.hasUsed(id));
    for (let count = choices.below(4); count > 0 && ids.length; count--) {
      const at = this.#device.anyOrder ? choices.below(ids.length) : 0;
      let [id] = ids.splice(at, 1) as [number];
      const { writable, shown } = this.#model.inFlight.get(id)!;
      let bytes = writable && choices.pick([VIRTIO_NET_HDR_SIZE + ETH_HLEN + choices.below(100), writable]);
      if (writable && choices.once(6)) bytes = choices.below(VIRTIO_NET_HDR_SIZE + ETH_HLEN + 1);
      // A header may say anything, num_buffers too: nothing of it was negotiated.
      for (let i = 0; i < writable; i++) this.#ring.u8[shown + i] = this.#seed * 7 + i;
      this.#seed++;
      if (choices.once(60)) id = choices.pick([id + 1, this.#ring.size, 65535, choices.below(64)]);
      if (choices.once(60)) bytes = choices.pick([writable + 1, 0xffffffff]);
      this.#device.use(id, bytes);
    }
    this.#device.publish();
  }

  #reap(): void {
    const { engine, dq, completions, u8 } = this.#ring;
    const max = this.#choices.pick([this.#ring.slots, 1, 2]);
    const offers = new Map(this.#model.inFlight);
    const used = this.#device.reap(max);
    const frames = used.map(({ id, bytes }) => ({
      slot: id,
      bytes: this.#frameBytes(offers.get(id)!, bytes),
    }));
    const before = used.map(({ id }) => u8.slice(offers.get(id)!.shown, offers.get(id)!.shown + SLOT_BYTES));
    const count = engine.bufferReap(dq, completions, max);
    assert.equal(this.#ring.frames(count), frames, 'frames');
    for (const [i, { slot, bytes }] of frames.entries()) this.#compareReceived(slot, bytes, before[i]!);
    this.#operations += count;
  }

  /** Bytes of the frame of a used slot: none where there is no room for its headers. */
  #frameBytes(offer: FrameOffer, written: number): number {
    if (offer.writable === 0) return offer.bytes;
    const bytes = written < VIRTIO_NET_HDR_SIZE + ETH_HLEN ? 0 : written - VIRTIO_NET_HDR_SIZE;
    this.#reached.count(bytes ? 'a frame' : 'no frame');
    return bytes;
  }

  /** What the device has written is where the application looks for it, to the last byte that counts. */
  #compareReceived(slot: number, bytes: number, written: Uint8Array): void {
    if (!this.#receives || bytes === 0) return;
    const at = this.#ring.slotMemory(slot) + VIRTIO_NET_HDR_SIZE;
    const frame = written.subarray(VIRTIO_NET_HDR_SIZE, VIRTIO_NET_HDR_SIZE + bytes);
    if (Buffer.compare(this.#ring.u8.subarray(at, at + bytes), frame))
      assert.equal([...this.#ring.u8.subarray(at, at + bytes)], [...frame], 'a received frame');
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

/** Both queues of the network driver, on rings of both formats, with and without bounce buffers. */
export const netDriver: Target = {
  name: 'net-driver',
  about: 'frames and receive buffers of the network driver, against a hostile device and a model',
  operations: 'frames',
  tested: 10000,
  start: async () => {
    const rings = new Map<string, NetRing>();
    const reached = new Reached();
    const play = (choices: Choices) => {
      const packed = choices.once(2);
      const size = choices.pick(packed ? PACKED_SIZES : SPLIT_SIZES);
      const setting = { packed, size, eventIdx: choices.once(2), inOrder: packed && choices.once(3) };
      const key = Object.values(setting).join();
      const ring = rings.get(key) ?? new NetRing(setting);
      rings.set(key, ring);
      return new Case(ring, setting, choices, reached).play();
    };
    return { play, reached, close: async () => {} };
  },
};
