import * as assert from 'node:assert/strict';
import type { ContractRequest } from '../../host/testing/index.js';
import {
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from '../../host/uapi/virtio.js';

/** Bytes that requests of these contracts move. */
const BLOCK_BYTES = 4096;
/** Sector that is written, and never read. */
const WRITTEN_SECTOR = 64;

function header(type: number, sector = 0): Uint8Array {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setUint32(0, type, true);
  new DataView(bytes.buffer).setUint32(8, sector, true);
  return bytes;
}

/** What a disk of a contract is expected to know. */
interface DiskKnowledge {
  /** What its first 4 KiB are; zeroes if left out. */
  content?: Uint8Array;
  /** What GET_ID answers; if left out, it does not know FLUSH and GET_ID, and counts what is beyond its end as an error. */
  id?: string;
}

/** Requests of a disk. */
export function blockRequests({
  content = new Uint8Array(BLOCK_BYTES),
  id,
}: DiskKnowledge): ContractRequest[] {
  const status = (expected: number) => (answer: { writable: Uint8Array }) =>
    assert.equal(answer.writable.at(-1), expected);
  const known: ContractRequest[] = [
    // Beyond the end: answered, and no error of the device's.
    { readable: header(VIRTIO_BLK_T_IN, 2 ** 30), writable: [512, 1], check: status(VIRTIO_BLK_S_IOERR) },
    { readable: header(VIRTIO_BLK_T_FLUSH), writable: 1, check: status(VIRTIO_BLK_S_OK) },
    {
      readable: header(VIRTIO_BLK_T_GET_ID),
      writable: [VIRTIO_BLK_ID_BYTES, 1],
      check: ({ writable }) => {
        assert.equal(Buffer.from(writable.subarray(0, id?.length)).toString(), id);
        assert.equal(writable.at(-1), VIRTIO_BLK_S_OK);
      },
    },
  ];
  return [
    {
      readable: [header(VIRTIO_BLK_T_IN)],
      writable: [BLOCK_BYTES, 1],
      check: ({ writable, written }) => {
        assert.equal(written, BLOCK_BYTES + 1);
        assert.equal(Buffer.compare(writable.subarray(0, BLOCK_BYTES), content.subarray(0, BLOCK_BYTES)), 0);
        assert.equal(writable.at(-1), VIRTIO_BLK_S_OK);
      },
    },
    {
      readable: [header(VIRTIO_BLK_T_OUT, WRITTEN_SECTOR), new Uint8Array(BLOCK_BYTES).fill(7)],
      writable: 1,
      check: status(VIRTIO_BLK_S_OK),
    },
    ...(id === undefined ? [] : known),
    // Unknown.
    { readable: header(0x7777), writable: [512, 1], check: status(VIRTIO_BLK_S_UNSUPP) },
  ];
}
