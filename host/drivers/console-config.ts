import { VIRTIO_CONSOLE_F_MULTIPORT, VIRTIO_CONSOLE_F_SIZE } from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import { type ConsoleSize, consoleQueues, PORTS_LIMIT } from '../uapi/console-message.js';
import { virtioConsoleConfig } from '../uapi/virtio.js';
import type { VirtioDriver } from './virtio-driver.js';

/** A console's config space, as far as the negotiated features make it valid. */
export interface ConsoleConfig {
  /** Of its terminal; undefined where the device says nothing. */
  readonly size: ConsoleSize | undefined;
  /** Ports that there can be; 1 where there are no messages about ports. */
  readonly maxPorts: number;
}

/** Reads and decodes a console's config space. Rejects with ERR_NOT_SUPPORTED for one of no ports. */
export async function readConsoleConfig(driver: VirtioDriver): Promise<ConsoleConfig> {
  const { device } = driver;
  const bytes = new Uint8Array(virtioConsoleConfig.size);
  const present = Math.min(device.configSize ?? bytes.length, bytes.length);
  if (present > 0) bytes.set(await device.config(present));
  const { cols, rows, max_nr_ports } = virtioConsoleConfig.decode(bytes);
  const size = driver.hasFeature(VIRTIO_CONSOLE_F_SIZE) ? { cols, rows } : undefined;
  if (!driver.hasFeature(VIRTIO_CONSOLE_F_MULTIPORT)) return { size, maxPorts: 1 };
  // Whatever it says, it has no more than it has queues for.
  const queues = device.queueCount ?? consoleQueues(PORTS_LIMIT);
  const maxPorts = Math.min(max_nr_ports, PORTS_LIMIT, Math.floor(queues / 2) - 1);
  if (maxPorts < 1)
    throw new RingbellError(
      'ERR_NOT_SUPPORTED',
      `${device.name} has ports by messages, but ${max_nr_ports} of them and ${queues} queues`,
    );
  return { size, maxPorts };
}
