import { PAGE_SIZE } from '../../assembly/layout.js';
import type { Aperture, Window } from '../aperture/aperture.js';
import { RangeAllocator } from '../aperture/range-allocator.js';
import { RingbellError, systemError } from '../errors.js';
import { loadAddon } from '../native/addon.js';

/** Which way the bytes of a mapping go: the kernel's enum dma_data_direction. */
export type DmaDirection = 'DMA_TO_DEVICE' | 'DMA_FROM_DEVICE' | 'DMA_BIDIRECTIONAL';

export interface IovaDomainOptions {
  /** IOVA of the domain's first byte, page-aligned; 0 if left out. */
  iova?: bigint;
  /** Bytes of bounce buffers; 64 MiB if left out, as VDUSE has. */
  bounceBytes?: number;
  /** Bytes that coherent memory may take; 16 MiB if left out. */
  coherentBytes?: number;
}

/** Memory that driver and device share for as long as it is allocated: rings. */
export interface CoherentMemory {
  readonly linear: number;
  readonly iova: bigint;
  /** Bytes. */
  readonly bytes: number;
}

interface Mapping {
  /** Linear address of the driver's own memory. */
  readonly linear: number;
  readonly bytes: number;
  readonly direction: DmaDirection;
}

const BOUNCE_BYTES = 64 * 2 ** 20;
const COHERENT_BYTES = 16 * 2 ** 20;

const pages = (bytes: number) => Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;

/**
 * A driver's IOVA domain with bounce buffers, as VDUSE's iova_domain.c has it. The device is given one region, `window` at
 * `iova`, and nothing of the driver's memory: what a request needs is copied in when it is mapped and out when it is
 * unmapped, by direction, by the engine. Every page is zeroed before it is used again, so the device sees the bytes that
 * it was given and no others, neither the rest of a page nor what an earlier request left there.
 */
export class IovaDomain {
  readonly iova: bigint;
  /** The memory to map for the device: bounce buffers, then coherent memory. */
  readonly window: Window;
  readonly #aperture: Aperture;
  readonly #fd: number;
  #closed = false;
  readonly #view: Uint8Array;
  readonly #bounce: RangeAllocator;
  readonly #coherent: RangeAllocator;
  readonly #mappings = new Map<bigint, Mapping>();
  readonly #allocations = new Map<bigint, CoherentMemory>();

  /** Makes a domain with memory of its own. It stays in the aperture for as long as the aperture does. */
  constructor(aperture: Aperture, options: IovaDomainOptions = {}) {
    const { iova = 0n, bounceBytes = BOUNCE_BYTES, coherentBytes = COHERENT_BYTES } = options;
    for (const [name, value] of Object.entries({ bounceBytes, coherentBytes }))
      if (!(Number.isSafeInteger(value) && value >= 2 * PAGE_SIZE && value % PAGE_SIZE === 0))
        throw new RingbellError('ERR_ARGUMENT', `${name} is whole pages, at least two, not ${value}`);
    if (iova % BigInt(PAGE_SIZE) || iova < 0n || iova + BigInt(bounceBytes + coherentBytes) > 2n ** 64n)
      throw new RingbellError(
        'ERR_ARGUMENT',
        `iova is page-aligned and the domain ends below 2^64, not ${iova}`,
      );
    this.iova = iova;
    this.#aperture = aperture;
    const bytes = bounceBytes + coherentBytes;
    this.#fd = loadAddon().memfd('iova-domain', bytes, true);
    try {
      this.window = aperture.map({ fd: this.#fd, offset: 0n }, bytes, 'rw');
    } catch (error) {
      loadAddon().close(this.#fd);
      throw error;
    }
    this.#view = aperture.viewOwn(this.window);
    // IOVA 0 stays unused, so that it is never a mapping's (IOVA_START_PFN).
    this.#bounce = new RangeAllocator(PAGE_SIZE, bounceBytes, PAGE_SIZE);
    this.#coherent = new RangeAllocator(bounceBytes, bytes, PAGE_SIZE);
  }

  /**
   * Maps `bytes` bytes of the driver's memory for one request: the IOVA for the device. What goes to the device is copied
   * now. ENOMEM when the bounce buffers are full.
   */
  mapPage(linear: number, bytes: number, direction: DmaDirection): bigint {
    if (!(Number.isSafeInteger(bytes) && bytes > 0 && linear > 0 && linear + bytes <= this.#aperture.bytes))
      throw new RingbellError('ERR_ARGUMENT', `${bytes} bytes at ${linear} are not inside the aperture`);
    const start = this.#allocate(this.#bounce, bytes);
    const iova = this.iova + BigInt(start);
    this.#mappings.set(iova, { linear, bytes, direction });
    if (direction === 'DMA_FROM_DEVICE') this.#view.fill(0, start, start + pages(bytes));
    else {
      this.#view.fill(0, start + bytes, start + pages(bytes));
      this.syncSingleForDevice(iova, 0, bytes);
    }
    return iova;
  }

  /** Copies `bytes` bytes from `offset` of a mapping to the device again; none where the direction forbids it. */
  syncSingleForDevice(iova: bigint, offset: number, bytes: number): void {
    const { linear, direction } = this.#find(iova, offset, bytes);
    if (direction === 'DMA_FROM_DEVICE') return;
    this.#aperture.engine.copy(this.#bounceLinear(iova) + offset, linear + offset, bytes);
  }

  /** Copies `bytes` bytes from `offset` of a mapping back from the device; none where the direction forbids it. */
  syncSingleForCpu(iova: bigint, offset: number, bytes: number): void {
    const { linear, direction } = this.#find(iova, offset, bytes);
    if (direction === 'DMA_TO_DEVICE') return;
    this.#aperture.engine.copy(linear + offset, this.#bounceLinear(iova) + offset, bytes);
  }

  /** Ends a mapping. What came from the device is copied now. */
  unmapPage(iova: bigint): void {
    const { bytes } = this.#find(iova, 0, 0);
    this.syncSingleForCpu(iova, 0, bytes);
    this.#mappings.delete(iova);
    this.#bounce.free(Number(iova - this.iova), pages(bytes));
  }

  /** Zeroed memory that both sides use in place. ENOMEM when there is none left. */
  allocCoherent(bytes: number): CoherentMemory {
    const start = this.#allocate(this.#coherent, bytes);
    this.#view.fill(0, start, start + pages(bytes));
    const iova = this.iova + BigInt(start);
    const memory = { linear: this.window.linear + start, iova, bytes };
    this.#allocations.set(iova, memory);
    return memory;
  }

  /** Gives coherent memory back. */
  freeCoherent(memory: CoherentMemory): void {
    if (!this.#allocations.delete(memory.iova))
      throw new RingbellError('ERR_ARGUMENT', `nothing is allocated at IOVA 0x${memory.iova.toString(16)}`);
    this.#coherent.free(Number(memory.iova - this.iova), pages(memory.bytes));
  }

  /** Takes it from every device to come. The memory stays mapped for as long as the aperture does. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    loadAddon().close(this.#fd);
  }

  #allocate(allocator: RangeAllocator, bytes: number): number {
    try {
      return allocator.allocate(pages(bytes));
    } catch (cause) {
      if (!(cause instanceof RingbellError && cause.code === 'ERR_APERTURE_FULL')) throw cause;
      throw Object.assign(systemError('ENOMEM', 'map', 'the IOVA domain is full'), { cause });
    }
  }

  /** The mapping that mapPage put at `iova`, if it has `bytes` bytes from `offset`. */
  #find(iova: bigint, offset: number, bytes: number): Mapping {
    const mapping = this.#mappings.get(iova);
    if (!mapping || offset < 0 || bytes < 0 || offset + bytes > mapping.bytes)
      throw new RingbellError(
        'ERR_ARGUMENT',
        `${bytes} bytes from ${offset} at IOVA 0x${iova.toString(16)} are not mapped`,
      );
    return mapping;
  }

  #bounceLinear(iova: bigint): number {
    return this.window.linear + Number(iova - this.iova);
  }
}
