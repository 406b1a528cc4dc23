import {
  VIRTIO_NET_CTRL_MQ,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from '../../uapi/virtio.js';
import type { Chain } from '../chain.js';

/** Bytes of a command's class and command, and of the number of pairs that follows. */
const COMMAND_BYTES = 2;
const VQ_PAIRS_BYTES = 2;

/** Carries out what a driver says on the control queue. `setPairs` has it use so many pairs of queues, 1 to `pairs`. */
export function control(chain: Chain, pairs: number, setPairs: (count: number) => void): void {
  if (chain.readableBytes < COMMAND_BYTES || chain.writableBytes === 0) {
    chain.refuse();
    return;
  }
  const count = vqPairs(chain);
  const done = count !== undefined && count >= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN && count <= pairs;
  if (done) setPairs(count);
  chain.complete(0, done ? VIRTIO_NET_OK : VIRTIO_NET_ERR);
}

/** The number of pairs that a command asks for; undefined for any other command. */
function vqPairs(chain: Chain): number | undefined {
  const asks =
    chain.getUint8(0) === VIRTIO_NET_CTRL_MQ &&
    chain.getUint8(1) === VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET &&
    chain.readableBytes === COMMAND_BYTES + VQ_PAIRS_BYTES;
  return asks ? chain.getUint16(COMMAND_BYTES) : undefined;
}
