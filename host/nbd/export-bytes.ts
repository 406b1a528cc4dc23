import { RangeLock } from '../range-lock.js';
import type { NbdClient } from './client.js';

/** Pieces of one call that are on their way at once, at most: a server can ask for very small ones. */
const PIECES_AT_ONCE = 16;

/**
 * The bytes of an export, wherever they begin and end: calls are cut into pieces that the server takes, and blocks that are
 * changed in part are read first. What changes the same bytes is done in the order of the calls.
 */
export class ExportBytes {
  readonly #client: NbdClient;
  /** Whether what is changed is durable when a call ends. */
  readonly #fua: boolean;
  /** Bytes of the server's minimum block. */
  readonly #block: number;
  readonly #pieceBytes: number;
  readonly #changes = new RangeLock();

  constructor(client: NbdClient, fua: boolean) {
    this.#client = client;
    this.#fua = fua;
    this.#block = client.export.minimumBlock;
    this.#pieceBytes = client.export.maximumPayload;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    const start = this.#down(offset);
    const end = this.#up(offset + into.length);
    if (end - start === into.length) return this.#readBlocks(start, into);
    const blocks = new Uint8Array(end - start);
    await this.#readBlocks(start, blocks);
    into.set(blocks.subarray(offset - start, offset - start + into.length));
  }

  write(offset: number, from: Uint8Array): Promise<void> {
    const end = offset + from.length;
    return this.#changes.run(this.#down(offset), this.#up(end), () => this.#write(offset, from));
  }

  /** What of it is no whole block keeps its storage, which the protocol leaves to us. */
  trim(offset: number, length: number): Promise<void> {
    const start = this.#up(offset);
    const end = this.#down(offset + length);
    return this.#changes.run(start, end, () =>
      this.#inPieces(start, end, (at, bytes) => this.#client.trim(at, bytes, this.#fua)),
    );
  }

  /** `hole`: the server may give the storage back. */
  writeZeroes(offset: number, length: number, hole: boolean): Promise<void> {
    const end = offset + length;
    return this.#changes.run(this.#down(offset), this.#up(end), async () => {
      const middle = Math.min(this.#up(offset), end);
      const tail = Math.max(this.#down(end), middle);
      if (offset < middle) await this.#write(offset, new Uint8Array(middle - offset));
      await this.#inPieces(middle, tail, (at, bytes) => this.#client.writeZeroes(at, bytes, hole, this.#fua));
      if (tail < end) await this.#write(tail, new Uint8Array(end - tail));
    });
  }

  /** Whoever calls it has the blocks to himself. */
  async #write(offset: number, from: Uint8Array): Promise<void> {
    const start = this.#down(offset);
    const end = this.#up(offset + from.length);
    if (end - start === from.length) return this.#writeBlocks(start, from);
    const blocks = new Uint8Array(end - start);
    const last = end - this.#block;
    if (start < offset) await this.#readBlocks(start, blocks.subarray(0, this.#block));
    if (offset + from.length < end && (last > start || start === offset))
      await this.#readBlocks(last, blocks.subarray(last - start));
    blocks.set(from, offset - start);
    return this.#writeBlocks(start, blocks);
  }

  #readBlocks(start: number, into: Uint8Array): Promise<void> {
    return this.#inPieces(start, start + into.length, (at, bytes) =>
      this.#client.read(at, into.subarray(at - start, at - start + bytes)),
    );
  }

  #writeBlocks(start: number, from: Uint8Array): Promise<void> {
    return this.#inPieces(start, start + from.length, (at, bytes) =>
      this.#client.write(at, from.subarray(at - start, at - start + bytes), this.#fua),
    );
  }

  /** Rejects when no piece is on its way any more: none arrives later than what the caller does then. */
  async #inPieces(
    start: number,
    end: number,
    request: (at: number, bytes: number) => Promise<void>,
  ): Promise<void> {
    if (end - start <= this.#pieceBytes) return end > start ? request(start, end - start) : undefined;
    let next = start;
    let failure: { error: unknown } | undefined;
    const work = async () => {
      while (next < end && !failure) {
        const at = next;
        next = Math.min(at + this.#pieceBytes, end);
        await request(at, next - at).catch((error) => {
          failure ??= { error };
        });
      }
    };
    await Promise.all(Array.from({ length: PIECES_AT_ONCE }, work));
    if (failure) throw failure.error;
  }

  #down(offset: number): number {
    return offset - (offset % this.#block);
  }

  #up(offset: number): number {
    return this.#down(offset + this.#block - 1);
  }
}
