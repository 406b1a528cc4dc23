/** Bytes of the header of a capture file, and of the header of each frame in it. */
const FILE_HEADER = 24;
const FRAME_HEADER = 16;
const MAGIC = 0xa1b2c3d4;
/** Offset of the captured length in a frame's header. */
const CAPTURED = 8;

/** The frames of a capture file as QEMU's filter-dump writes it, in order. */
export function readPcap(file: Uint8Array): Uint8Array[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(0, true) !== MAGIC) throw new Error('no capture file of this byte order');
  const frames: Uint8Array[] = [];
  for (let at = FILE_HEADER; at < file.length; ) {
    const bytes = view.getUint32(at + CAPTURED, true);
    frames.push(file.subarray(at + FRAME_HEADER, at + FRAME_HEADER + bytes));
    at += FRAME_HEADER + bytes;
  }
  return frames;
}
