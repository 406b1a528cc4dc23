import { CACHE_LINE, GIVE_SIZE, REQUEST_DESCRIPTORS, TAKE_SIZE } from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import { VIRTQ_DESC_SIZE } from '../uapi/virtio.js';
import type { DeviceShape, Limits } from './manifest.js';

/** Chains taken or given back in one burst, which a pause has to wait for. */
export const BURST = 64;
/** Bytes of the buffer through which the bytes of long chains pass, piece by piece. */
export const PIECE_BYTES = 65536;
/** Bytes of the aperture's private part that the blocks of all queues share: those of chains that go in bursts, and the others. */
const BLOCKS_BYTES = 2 ** 25;
const LONG_BLOCKS_BYTES = 2 ** 24;
/** Descriptors that a block has room for besides the bytes of its chain; more of them leave less room for bytes. */
const BLOCK_DESCRIPTORS = 8;

/** Private memory of one queue of a model in TypeScript, as linear addresses: can be posted to a worker. */
export interface QueueMemory {
  /** Tables of requestTakeBurst and requestGiveBurst, BURST entries each. */
  takeTable: number;
  giveTable: number;
  /** PIECE_BYTES. */
  piece: number;
  /** Request blocks with room for their chain's bytes. */
  blocks: { linear: number; bytes: number; count: number };
  /** Request blocks with room for the longest chain's descriptors, and no bytes. */
  longBlocks: { linear: number; bytes: number; count: number };
}

/** Allocates the memory of one queue of a device: only what is touched costs any. */
export function allocateQueueMemory(
  aperture: Aperture,
  { queues, queueSize }: DeviceShape,
  { inHand, bounceBytes }: Limits,
): QueueMemory {
  const most = Math.min(queueSize, inHand);
  const share = (bytes: number, budget: number) => {
    const count = Math.min(most, Math.max(Math.floor(budget / queues / bytes), 1));
    return { linear: aperture.allocate(count * bytes), bytes, count };
  };
  const align = (bytes: number) => Math.ceil(bytes / CACHE_LINE) * CACHE_LINE;
  return {
    takeTable: aperture.allocate(BURST * TAKE_SIZE),
    giveTable: aperture.allocate(BURST * GIVE_SIZE),
    piece: aperture.allocate(PIECE_BYTES),
    blocks: share(
      align(REQUEST_DESCRIPTORS + BLOCK_DESCRIPTORS * VIRTQ_DESC_SIZE + bounceBytes),
      BLOCKS_BYTES,
    ),
    longBlocks: share(align(REQUEST_DESCRIPTORS + (queueSize + 1) * VIRTQ_DESC_SIZE), LONG_BLOCKS_BYTES),
  };
}
