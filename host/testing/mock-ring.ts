import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_SIZE } from '../../assembly/virtio.js';
import { vringAreas } from '../uapi/vring-areas.js';
import type { MockMemory } from './mock-memory.js';

/** A descriptor as it is written; NEXT is set by whoever chains it. */
export interface MockDescriptor {
  /** IOVA. */
  readonly addr: bigint;
  /** Bytes. */
  readonly len: number;
  /** VIRTQ_DESC_F_WRITE, VIRTQ_DESC_F_INDIRECT. */
  readonly flags: number;
}

/** A used element: which chain the device has given back, and what it says that it wrote. */
export interface UsedElement {
  /** Head of a split ring, buffer id of a packed one. */
  readonly id: number;
  /** Bytes. */
  readonly len: number;
}

/** One ring of a driver, written by hand, against the specification and not against the engine. */
export abstract class MockRing {
  readonly memory: MockMemory;
  /** Entries. */
  readonly size: number;
  /** VIRTIO_F_IN_ORDER was negotiated. */
  readonly inOrder: boolean;
  /** Offsets of descriptor area, driver area and device area. */
  readonly areas: { readonly desc: number; readonly driver: number; readonly device: number };
  readonly #bytes: { readonly desc: number; readonly driver: number; readonly device: number };

  constructor(memory: MockMemory, size: number, packed: boolean, inOrder: boolean) {
    this.memory = memory;
    this.size = size;
    this.inOrder = inOrder;
    const { desc, driver, device } = vringAreas(size, packed);
    this.#bytes = { desc: desc.bytes, driver: driver.bytes, device: device.bytes };
    this.areas = {
      desc: memory.take(desc.bytes),
      driver: memory.take(driver.bytes),
      device: memory.take(device.bytes),
    };
  }

  /** Where a device starts, as vhost has it for this format. */
  abstract readonly startBase: number;

  /** Descriptors that nothing is in. */
  abstract get free(): number;

  /** Makes a chain of `descriptors` available: its head, or buffer id. It must fit. */
  abstract publish(descriptors: readonly MockDescriptor[]): number;

  /** The next used element, if there is one. Afterwards the device is asked to interrupt for the one behind it. */
  abstract reap(): UsedElement | undefined;

  /** The chain with `id` is the driver's again: its descriptors are free. */
  abstract retire(id: number): void;

  /** Makes a chain available that there is not: a head, or an id, of `id`. */
  abstract publishHead(id: number): void;

  /** Makes a chain available that never ends. */
  abstract publishLoop(descriptor: MockDescriptor): void;

  /** Gives the memory back. The device must not see it any more. */
  close(): void {
    for (const area of ['desc', 'driver', 'device'] as const)
      this.memory.give(this.areas[area], this.#bytes[area]);
  }
}

/** Writes an indirect table at `offset`: the descriptor that refers to it. */
export function writeIndirect(
  memory: MockMemory,
  offset: number,
  descriptors: readonly MockDescriptor[],
  packed: boolean,
): MockDescriptor {
  for (const [index, { addr, len, flags }] of descriptors.entries()) {
    const at = offset + index * VIRTQ_DESC_SIZE;
    writeDescriptor(memory, at, addr, len);
    // Of a packed table only WRITE counts: it ends where it is full, and the buffer id is the ring's.
    const next = !packed && index < descriptors.length - 1 ? VIRTQ_DESC_F_NEXT : 0;
    memory.view.setUint16(at + 12, packed ? 0 : flags | next, true);
    memory.view.setUint16(at + 14, packed ? flags : index + 1, true);
  }
  return {
    addr: memory.iova(offset),
    len: descriptors.length * VIRTQ_DESC_SIZE,
    flags: VIRTQ_DESC_F_INDIRECT,
  };
}

/** The two fields that descriptors of both formats begin with. */
export function writeDescriptor(memory: MockMemory, offset: number, addr: bigint, len: number): void {
  memory.view.setBigUint64(offset, addr, true);
  memory.view.setUint32(offset + 8, len, true);
}
