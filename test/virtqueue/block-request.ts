import * as virtio from '../../assembly/virtio.js';

/** A request as the driver's caller makes it. */
export interface BlockRequest {
  readonly type: number;
  readonly tag: number;
  readonly sector: bigint;
  /** Linear address of the data. */
  readonly linear: number;
  /** Bytes of data; sectors of a range. */
  readonly bytes: number;
  readonly rangeFlags: number;
}

/** What a caller learns of a request. */
export interface Completion {
  readonly tag: number;
  readonly status: number;
  readonly bytes: number;
}

/** What a request is on the ring: bytes that the device reads, then room that it writes. */
export interface Offered {
  /** Bytes of the header, and of a range behind it. */
  readonly header: Uint8Array;
  /** The caller's buffer, if there is one. */
  readonly data: { linear: number; bytes: number; writable: boolean } | undefined;
  /** Bytes that the device may write, the status byte included. */
  readonly writable: number;
}

/** What the specification makes of a request ("Block Device", Device Operation). */
export function offered({ type, sector, linear, bytes, rangeFlags }: BlockRequest): Offered {
  const ranged = type === virtio.VIRTIO_BLK_T_DISCARD || type === virtio.VIRTIO_BLK_T_WRITE_ZEROES;
  const header = new Uint8Array(virtio.VIRTIO_BLK_HEADER_SIZE + (ranged ? virtio.VIRTIO_BLK_RANGE_SIZE : 0));
  const view = new DataView(header.buffer);
  view.setUint32(virtio.VIRTIO_BLK_HEADER_TYPE, type, true);
  if (ranged) {
    const range = virtio.VIRTIO_BLK_HEADER_SIZE;
    view.setBigUint64(range + virtio.VIRTIO_BLK_RANGE_SECTOR, sector, true);
    view.setUint32(range + virtio.VIRTIO_BLK_RANGE_NUM_SECTORS, bytes, true);
    view.setUint32(range + virtio.VIRTIO_BLK_RANGE_FLAGS, rangeFlags, true);
  } else view.setBigUint64(virtio.VIRTIO_BLK_HEADER_SECTOR, sector, true);
  const writable = type === virtio.VIRTIO_BLK_T_IN || type === virtio.VIRTIO_BLK_T_GET_ID;
  const hasData = !ranged && type !== virtio.VIRTIO_BLK_T_FLUSH && bytes > 0;
  return {
    header,
    data: hasData ? { linear, bytes, writable } : undefined,
    writable: (hasData && writable ? bytes : 0) + 1,
  };
}

/** What a caller learns of a request that the device has used with `bytes` bytes written, and this status byte. */
export function completion(request: BlockRequest, bytes: number, status: number): Completion {
  const { writable, data } = offered(request);
  // A read that was not written to the end is no success.
  const short = status === virtio.VIRTIO_BLK_S_OK && data?.writable && bytes < writable;
  return { tag: request.tag, status: short ? virtio.VIRTIO_BLK_S_IOERR : status, bytes };
}
