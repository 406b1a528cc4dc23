import { PAGE_SIZE } from '../../assembly/layout.js';
import {
  VIRTIO_CONSOLE_F_MULTIPORT,
  VIRTIO_CONSOLE_F_SIZE,
  VIRTIO_ID_CONSOLE,
} from '../../assembly/virtio.js';
import { mask } from '../uapi/bits.js';
import { consoleQueues, PORTS_LIMIT } from '../uapi/console-message.js';
import { bufferPlan, bufferSlot } from './buffer-queue.js';
import { readConsoleConfig } from './console-config.js';
import { DrivenConsole } from './driven-console.js';
import { checkOpenOptions, chooseQueueSizes, type OpenOptions, openDriven } from './open-driven.js';
import { ringFeatures } from './ring-features.js';

/** Opens a console: by path ('/dev/vhost-vdpa-0'), or by name on `options.bus`. Rejects as `openNet` does. */
export async function openConsole(target: string, options: OpenOptions = {}): Promise<DrivenConsole> {
  checkOpenOptions('openConsole', options);
  return openDriven(target, options, {
    deviceId: VIRTIO_ID_CONSOLE,
    queues: consoleQueues(PORTS_LIMIT),
    wanted: mask(VIRTIO_CONSOLE_F_SIZE, VIRTIO_CONSOLE_F_MULTIPORT) | ringFeatures(options),
    setUp: async (driver) => {
      const config = await readConsoleConfig(driver);
      const queues = driver.hasFeature(VIRTIO_CONSOLE_F_MULTIPORT) ? consoleQueues(config.maxPorts) : 2;
      const sizes = await chooseQueueSizes(driver, options, queues, 1);
      await driver.setUp({
        ...sizes,
        ...bufferPlan(bufferSlot(0, 1, PAGE_SIZE), queues, sizes.maxQueueSize, options.bounce),
        doorbell: options.doorbell ?? true,
      });
      return new DrivenConsole(driver, config, options.mode ?? 'notify');
    },
  });
}
