import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_WRITE, VIRTQ_DESC_SIZE } from '../../assembly/virtio.js';
import type { MockDriver } from './mock-driver.js';
import type { MockQueue } from './mock-queue.js';
import { type MockDescriptor, writeIndirect } from './mock-ring.js';
import { MockSplitRing } from './mock-split-ring.js';

/** Bytes of the buffers that are not what is wrong. */
const BUFFER_BYTES = 16;
/** Kicks of a storm. */
const STORM_KICKS = 1000;
/** Chains that are made available and are none, in the jump of an index. */
const JUMP = 1000;
/** An IOVA that no mock driver maps. */
const UNMAPPED_IOVA = 0x1000n;

/** What a driver does wrong, and what becomes of its device. */
export interface MisbehaviourScript {
  /** 'broken': the device needs a reset; 'unharmed': it goes on as if nothing were; 'either': as its model and its speed have it. */
  readonly outcome: 'broken' | 'unharmed' | 'either';
  act(queue: MockQueue, driver: MockDriver): void | Promise<void>;
}

/** What a mock driver can do that no driver may: rings as an enemy, or a mistake, writes them. */
export const MISBEHAVIOURS = {
  /** A head outside the descriptor table; of a packed ring, a buffer id. */
  'head out of range': {
    // A buffer id is the driver's affair: only a head leads anywhere.
    outcome: 'either',
    act: (queue) => {
      queue.ring.publishHead(queue.ring.size + 1);
      queue.kick();
    },
  },
  /** A chain without an end. */
  loop: {
    outcome: 'broken',
    act: (queue, driver) => {
      queue.ring.publishLoop(buffer(driver));
      queue.kick();
    },
  },
  /** A buffer at an IOVA that is not mapped. */
  'bad address': {
    outcome: 'broken',
    act: (queue, driver) =>
      publish(queue, [buffer(driver), { ...buffer(driver, true), addr: UNMAPPED_IOVA }]),
  },
  /** A buffer that begins in what is mapped, and ends outside. */
  'across the end': {
    outcome: 'broken',
    act: (queue, driver) => {
      const addr = driver.memory.iova(driver.memory.bytes.byteLength - BUFFER_BYTES);
      publish(queue, [buffer(driver), { ...buffer(driver, true), addr, len: 2 * BUFFER_BYTES }]);
    },
  },
  /** Buffers whose lengths add up to 4 GiB and more. */
  'too long': {
    outcome: 'broken',
    act: (queue, driver) => {
      const long = { ...buffer(driver), len: 2 ** 32 - 1 };
      publish(queue, [long, long, buffer(driver, true)]);
    },
  },
  /** A buffer of no bytes. */
  'length 0': {
    outcome: 'broken',
    act: (queue, driver) => publish(queue, [{ ...buffer(driver), len: 0 }, buffer(driver, true)]),
  },
  /** What the device may write comes before what it may read. */
  'wrong order': {
    outcome: 'broken',
    act: (queue, driver) => publish(queue, [buffer(driver, true), buffer(driver)]),
  },
  /** An indirect table of no multiple of 16 bytes; where indirect descriptors were not negotiated, any. */
  'odd indirect table': {
    outcome: 'broken',
    act: (queue, driver) =>
      publish(queue, [{ ...buffer(driver), len: VIRTQ_DESC_SIZE + 1, flags: VIRTQ_DESC_F_INDIRECT }]),
  },
  /** An indirect table in an indirect table. */
  'nested indirect table': {
    outcome: 'broken',
    act: (queue, driver) => {
      const { memory } = driver;
      const inner = writeIndirect(memory, memory.take(VIRTQ_DESC_SIZE), [buffer(driver)], queue.packed);
      publish(queue, [writeIndirect(memory, memory.take(VIRTQ_DESC_SIZE), [inner], queue.packed)]);
    },
  },
  /** avail.idx says that there are more chains than the ring has room for; a packed ring has none, and loops. */
  'index too far': {
    outcome: 'broken',
    act: (queue, driver) => {
      if (queue.ring instanceof MockSplitRing) queue.ring.jump(JUMP);
      else queue.ring.publishLoop(buffer(driver));
      queue.kick();
    },
  },
  /** The same chain is made available twice. */
  'published twice': {
    // The device may have given it back in between: then it is another one.
    outcome: 'either',
    act: (queue, driver) => {
      const id = queue.ring.publish([buffer(driver), buffer(driver, true)]);
      queue.ring.publishHead(id);
      queue.kick();
    },
  },
  /** Kicks that mean nothing. */
  'kick storm': {
    outcome: 'unharmed',
    act: (queue) => {
      for (let kick = 0; kick < STORM_KICKS; kick++) queue.kick();
    },
  },
} as const satisfies Record<string, MisbehaviourScript>;

/** What a mock driver can do wrong, by name. */
export type Misbehaviour = keyof typeof MISBEHAVIOURS;

/** A buffer that is sound. It is never given back: a driver that misbehaves is reset. */
function buffer({ memory }: MockDriver, writable = false): MockDescriptor {
  const addr = memory.iova(memory.take(BUFFER_BYTES));
  return { addr, len: BUFFER_BYTES, flags: writable ? VIRTQ_DESC_F_WRITE : 0 };
}

function publish(queue: MockQueue, descriptors: readonly MockDescriptor[]): void {
  queue.ring.publish(descriptors);
  queue.kick();
}
