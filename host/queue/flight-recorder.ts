import {
  FLIGHT_BROKEN,
  FLIGHT_CLAIMED,
  FLIGHT_F_FAULT,
  FLIGHT_F_HEADER,
  FLIGHT_HEADER_BYTES,
  FLIGHT_HEADERS,
  FLIGHT_MASK,
  FLIGHT_NEXT,
  FLIGHT_POPPED,
  FLIGHT_PUBLISHED,
  FLIGHT_PUSHED,
  FLIGHT_REAPED,
  FLIGHT_RECORD_COUNTS,
  FLIGHT_RECORD_HEAD,
  FLIGHT_RECORD_HEADER,
  FLIGHT_RECORD_KIND,
  FLIGHT_RECORD_POSITION,
  FLIGHT_RECORD_READABLE,
  FLIGHT_RECORD_SIZE,
  FLIGHT_RECORD_TIME,
  FLIGHT_RECORD_VERDICT,
  FLIGHT_RECORD_WRITABLE,
  FLIGHT_RECORDS,
  FLIGHT_RETURNED,
  FLIGHT_TIME,
} from '../../assembly/layout.js';
import { VIRTIO_ID_BLOCK } from '../../assembly/virtio.js';
import type { Aperture } from '../aperture/aperture.js';
import { VERDICT_CODES } from '../errors.js';
import type { FlightKind, FlightRecord } from '../flight.js';

/** Of a chain: taken, given back. */
const RECORDS_PER_CHAIN = 2;
/** Bits of FLIGHT_RECORD_KIND without those that say what the header is. */
const KIND_MASK = 255;

/** Milliseconds since 1970. A constant, because to ask for it takes as long as to ask for the time. */
const TIME_ORIGIN = performance.timeOrigin;

const KINDS: Readonly<Record<number, FlightKind>> = {
  [FLIGHT_POPPED]: 'popped',
  [FLIGHT_PUSHED]: 'pushed',
  [FLIGHT_RETURNED]: 'returned',
  [FLIGHT_PUBLISHED]: 'published',
  [FLIGHT_REAPED]: 'reaped',
  [FLIGHT_BROKEN]: 'broken',
};

/** The flight recorder of a queue, of either side: a FLIGHT block of assembly/layout.ts, which the engine fills. */
export class FlightRecorder {
  readonly #time: Float64Array;
  readonly #u64: BigUint64Array;
  readonly #bytes: Uint8Array;
  readonly #mask: number;

  /** Bytes of private memory that one with room for `chains` chains takes. */
  static bytes(chains: number): number {
    return FLIGHT_RECORDS + chains * RECORDS_PER_CHAIN * FLIGHT_RECORD_SIZE;
  }

  /** Makes one for a queue of a device of type `deviceId`: its linear address. `chains` is a power of two, from 128 on. */
  static allocate(aperture: Aperture, chains: number, deviceId: number): number {
    const linear = aperture.allocate(FlightRecorder.bytes(chains));
    aperture.u32[(linear + FLIGHT_MASK) / 4] = chains * RECORDS_PER_CHAIN - 1;
    // Of a disk alone it is known that these bytes are no payload.
    aperture.u32[(linear + FLIGHT_HEADERS) / 4] = deviceId === VIRTIO_ID_BLOCK ? 1 : 0;
    return linear;
  }

  /** The one at `linear`, of whichever thread. */
  constructor(aperture: Aperture, linear: number) {
    const { buffer } = aperture.memory;
    this.#mask = aperture.u32[(linear + FLIGHT_MASK) / 4]!;
    this.#time = new Float64Array(buffer, linear + FLIGHT_TIME, 1);
    this.#u64 = new BigUint64Array(buffer, linear, FLIGHT_RECORDS / 8);
    this.#bytes = new Uint8Array(buffer, linear + FLIGHT_RECORDS, (this.#mask + 1) * FLIGHT_RECORD_SIZE);
  }

  /** What is recorded from now on happens now. By the thread that runs the queue, when it enters it. */
  stamp(): void {
    this.#time[0] = TIME_ORIGIN + performance.now();
  }

  /** Records that were ever written. */
  get recorded(): number {
    return Number(Atomics.load(this.#u64, FLIGHT_NEXT / 8));
  }

  /** The records that there are, oldest first. Stops nothing: what was written over meanwhile is left out. */
  read(packed: boolean): FlightRecord[] {
    const end = this.recorded;
    const view = new DataView(this.#bytes.slice().buffer);
    const claimed = Number(Atomics.load(this.#u64, FLIGHT_CLAIMED / 8));
    const records: FlightRecord[] = [];
    for (let number = Math.max(0, claimed - this.#mask - 1); number < end; number++) {
      const record = decode(view, (number % (this.#mask + 1)) * FLIGHT_RECORD_SIZE, number, packed);
      if (record) records.push(record);
    }
    return records;
  }
}

/** Undefined for one that is half written over. */
function decode(view: DataView, at: number, number: number, packed: boolean): FlightRecord | undefined {
  const u32 = (offset: number) => view.getUint32(at + offset, true);
  const flags = view.getUint16(at + FLIGHT_RECORD_KIND, true);
  const kind = KINDS[flags & KIND_MASK];
  if (!kind) return undefined;
  const time = view.getFloat64(at + FLIGHT_RECORD_TIME, true);
  const word = u32(FLIGHT_RECORD_HEAD);
  const counts = u32(FLIGHT_RECORD_COUNTS);
  if (kind === 'broken') {
    const code = VERDICT_CODES[view.getUint16(at + FLIGHT_RECORD_VERDICT, true)];
    const fault = view.getBigUint64(at + FLIGHT_RECORD_HEADER, true);
    const iova = flags & FLIGHT_F_FAULT ? { iova: `0x${fault.toString(16)}` } : {};
    return { number, time, kind, head: word, ...(code && { code }), ...iova };
  }
  const position = u32(FLIGHT_RECORD_POSITION);
  const chain = packed ? { head: word & 0xffff, descriptors: word >>> 16 } : { head: word };
  const common = { number, time, kind, ...chain, position };
  if (kind === 'returned') return { ...common, chains: counts };
  if (kind === 'pushed' || kind === 'reaped') return { ...common, written: counts };
  const header = Buffer.from(view.buffer, at + FLIGHT_RECORD_HEADER, FLIGHT_HEADER_BYTES).toString('hex');
  return {
    ...common,
    ...(kind === 'popped' && {
      segments: { readable: counts & 0xffff, writable: (counts >>> 16) - (counts & 0xffff) },
    }),
    readable: u32(FLIGHT_RECORD_READABLE),
    writable: u32(FLIGHT_RECORD_WRITABLE),
    ...(flags & FLIGHT_F_HEADER && { header }),
  };
}
