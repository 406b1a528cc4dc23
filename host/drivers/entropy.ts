import { PAGE_SIZE } from '../../assembly/layout.js';
import { VIRTIO_ID_RNG } from '../../assembly/virtio.js';
import { bufferPlan, bufferSlot } from './buffer-queue.js';
import { EntropySource } from './entropy-source.js';
import { checkOpenOptions, chooseQueueSizes, type OpenOptions, openDriven } from './open-driven.js';
import { ringFeatures } from './ring-features.js';

/** requestq. */
const QUEUES = 1;

/**
 * Opens an entropy device: by path ('/dev/vhost-vdpa-0'), or by name on `options.bus`. Rejects as `openNet` does.
 */
export async function openEntropy(target: string, options: OpenOptions = {}): Promise<EntropySource> {
  checkOpenOptions('openEntropy', options);
  return openDriven(target, options, {
    deviceId: VIRTIO_ID_RNG,
    queues: QUEUES,
    wanted: ringFeatures(options),
    setUp: async (driver) => {
      const sizes = await chooseQueueSizes(driver, options, QUEUES, 1);
      await driver.setUp({
        ...sizes,
        ...bufferPlan(bufferSlot(0, 1, PAGE_SIZE), QUEUES, sizes.maxQueueSize, options.bounce),
        doorbell: options.doorbell ?? true,
      });
      return new EntropySource(driver, options.mode ?? 'notify');
    },
  });
}
