import { BlockModel } from '../../host/models/blk/block-model.js';

/** A disk of squares, whose requests end in any order: every queue thread can have one. */
export default class Squares extends BlockModel {
  override readonly capacity = 2 ** 20;
  override readonly id = 'squares';

  /** The first bytes of the disk. */
  static bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, at) => (at * at) & 0xff);
  }

  override async read(offset: number, into: Uint8Array): Promise<void> {
    if (offset % 1024) await new Promise((resolve) => setImmediate(resolve));
    for (let at = 0; at < into.length; at++) into[at] = ((offset + at) * (offset + at)) & 0xff;
  }

  override async write(offset: number): Promise<void> {
    if (offset % 1024 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
