import { fstatSync } from 'node:fs';
import type { MapSource } from '../native/addon.js';

/** A piece of process address space that is a shared mapping of a file. */
export interface FileRange {
  /** Process address of the first byte. */
  address: bigint;
  /** Bytes. */
  bytes: bigint;
  fd: number;
  /** Bytes into the file. */
  offset: bigint;
}

interface Mapping extends FileRange {
  /** Device and inode of the file, to tell it from another that has come by the same descriptor. */
  readonly dev: bigint;
  readonly ino: bigint;
}

/**
 * Which file lies behind which process address: what the kernel learns from its own VMAs, the in-process bus learns
 * here. Like vhost-vdpa's `use_va` path it knows shared file mappings only; anonymous memory is not found.
 */
class AddressSpace {
  /** Ascending by address, never overlapping. */
  #ranges: Mapping[] = [];

  /** Notes a mapping. It is found for as long as `source.fd` stays open. */
  add(address: bigint, bytes: number, source: MapSource): void {
    // What was there before is gone, noticed or not: an aperture may be collected without having been closed.
    this.remove(address, bytes);
    if (source.shared === false) return;
    const { fd, offset } = source;
    const { dev, ino } = fstatSync(fd, { bigint: true });
    this.#ranges.push({ address, bytes: BigInt(bytes), fd, offset, dev, ino });
    this.#ranges.sort((a, b) => (a.address < b.address ? -1 : 1));
  }

  /** Forgets [address, address + bytes), cutting ranges that reach into it. */
  remove(address: bigint, bytes: number): void {
    const end = address + BigInt(bytes);
    this.#ranges = this.#ranges.flatMap((range) => {
      const rangeEnd = range.address + range.bytes;
      if (rangeEnd <= address || range.address >= end) return [range];
      const kept: Mapping[] = [];
      if (range.address < address) kept.push({ ...range, bytes: address - range.address });
      if (rangeEnd > end)
        kept.push({
          ...range,
          address: end,
          bytes: rangeEnd - end,
          offset: range.offset + (end - range.address),
        });
      return kept;
    });
  }

  /** The file ranges inside [address, address + bytes), ascending; what is not listed is not mapped from a file. */
  resolve(address: bigint, bytes: bigint): FileRange[] {
    const end = address + bytes;
    return this.#ranges.flatMap((range) => {
      const start = range.address > address ? range.address : address;
      const rangeEnd = range.address + range.bytes;
      const last = rangeEnd < end ? rangeEnd : end;
      if (start >= last || !isSameFile(range)) return [];
      return [
        { address: start, bytes: last - start, fd: range.fd, offset: range.offset + (start - range.address) },
      ];
    });
  }
}

/** Whether the descriptor of a mapping is still that file's. */
function isSameFile({ fd, dev, ino }: Mapping): boolean {
  try {
    const now = fstatSync(fd, { bigint: true });
    return now.dev === dev && now.ino === ino;
  } catch {
    return false;
  }
}

/** The one of this thread. */
export const addressSpace = new AddressSpace();
