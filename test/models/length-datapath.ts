import { CHAIN_COUNTS, CHAIN_SIZE, COUNT_MASK, VQ_CHAINS } from '../../assembly/layout.js';
import type { DatapathModule } from '../../host/queue/datapath.js';

/** What LengthDatapath is made with. */
export interface LengthData {
  /** Bytes that it says it has written to each chain. */
  length: number;
}

/** A data path that uses every chain as it is, with a length that it was given. */
export const createDatapath: DatapathModule['createDatapath'] = async (block, data, { bursts }) => {
  const { length } = data as LengthData;
  const { aperture, vq } = block;
  if (bursts < 1) throw new RangeError('a call may serve a burst at least');
  const chains = aperture.data.getUint32(vq + VQ_CHAINS, true);
  return {
    burst() {
      const count = aperture.engine.devicePop(vq, block.burst);
      for (let i = 0; i < (count & COUNT_MASK); i++)
        aperture.data.setUint32(chains + i * CHAIN_SIZE + CHAIN_COUNTS, length, true);
      return aperture.engine.devicePush(vq, count);
    },
  };
};
