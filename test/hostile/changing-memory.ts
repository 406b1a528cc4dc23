import { Worker } from 'node:worker_threads';
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_WRITE } from '../../assembly/virtio.js';
import { DRIVER_BYTES, DRIVER_LINEAR } from '../engine/fixture.js';
import { DeviceBench, type Element } from './device-bench.js';
import { both, type HostileCase, type Side } from './hostile-case.js';

/** Looks at a ring that changes; and how many looks at most until both of its states were seen. */
const LOOKS = 20_000;
const MOST_LOOKS = 2_000_000;

/** The other thread: flips one field of memory between two values until it is told to end. */
const FLIPPER = `
const { workerData: { buffer, at, bytes, values, end } } = require('node:worker_threads');
const [one, other] = values;
const data = new DataView(buffer);
const stop = new Int32Array(buffer, end, 1);
const put = (value) => {
  if (bytes === 8) data.setBigUint64(at, value, true);
  else if (bytes === 4) data.setUint32(at, value, true);
  else data.setUint16(at, value, true);
};
while (Atomics.load(stop, 0) === 0) { put(one); put(other); }
`;

interface Field {
  /** Byte of the descriptor, by format where they differ. */
  offset: (side: Side) => number;
  bytes: 2 | 4 | 8;
  values: (bench: DeviceBench, side: Side) => [unknown, unknown];
}

/** The fields of a descriptor, each with a value that is sound and one that is not. */
const FIELDS: Field[] = [
  { offset: () => 0, bytes: 8, values: (bench) => [bench.buffer(), 2n ** 64n - 4n] },
  { offset: () => 8, bytes: 4, values: () => [16, 0xffff_ffff] },
  {
    offset: (side) => (side === 'packed device' ? 14 : 12),
    bytes: 2,
    values: (_, side) => {
      const owner = side === 'packed device' ? 128 : 0;
      return [VIRTQ_DESC_F_WRITE | owner, VIRTQ_DESC_F_INDIRECT | owner];
    },
  },
];

/**
 * Takes a chain again and again while another thread flips a field of one of its descriptors: each time it is the one chain
 * or the other, or refused; never a mixture, never memory that nothing maps.
 */
async function flip(side: Side, field: Field, inTable: boolean): Promise<void> {
  const bench = DeviceBench.make(side, { size: 8, indirect: inTable });
  const { ring } = bench;
  const end = ring.allocate(4);
  const first = inTable ? ring.buffers + 0x2000 : ring.desc;
  const elements: Element[] = [{}, { flags: VIRTQ_DESC_F_WRITE }];
  const offer = () => {
    ring.start();
    bench.offer(...(inTable ? [bench.table(elements)] : elements));
  };
  offer();
  const worker = new Worker(FLIPPER, {
    eval: true,
    workerData: {
      buffer: ring.memory.buffer,
      at: first + 16 + field.offset(side),
      bytes: field.bytes,
      values: field.values(bench, side),
      end,
    },
  });
  let taken = 0;
  let refused = 0;
  try {
    for (let looks = 0; looks < LOOKS || (looks < MOST_LOOKS && !(taken && refused)); looks++) {
      ring.engine.deviceStart(ring.vq, side === 'packed device' ? 0x8000_8000 : 0);
      if (ring.pop(1) === 0) refused++;
      else {
        taken++;
        const { readable, writable } = ring.chain(0);
        for (const [linear, bytes] of [...readable, ...writable]) {
          const inside =
            linear >= DRIVER_LINEAR && linear + bytes <= DRIVER_LINEAR + DRIVER_BYTES && bytes > 0;
          if (!inside) throw new Error(`a segment of ${bytes} bytes at ${linear}`);
        }
      }
      // The other thread may be slow to begin.
      if (looks % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    if (!taken || !refused)
      throw new Error(`${taken} taken, ${refused} refused: nothing has changed under the engine`);
  } finally {
    Atomics.store(new Int32Array(ring.memory.buffer, end, 1), 0, 1);
    await worker.terminate();
  }
}

function play(inTable: boolean): (side: Side) => Promise<string> {
  return async (side) => {
    for (const field of FIELDS) await flip(side, field, inTable);
    return 'what was judged is what is used';
  };
}

/** Memory that another thread changes while the engine reads it. */
export const changingMemoryCases: readonly HostileCase[] = [
  {
    name: 'rewrites address, length and flags of a descriptor while it is read',
    rule: 'policy: each field is read once',
    play: play(false),
    outcomes: both('device', 'what was judged is what is used'),
  },
  {
    name: 'rewrites an indirect table while it is read',
    rule: 'policy: each field is read once',
    play: play(true),
    outcomes: both('device', 'what was judged is what is used'),
  },
];
