import { isSystemError } from '../errors.js';
import { RingbellError, VdpaBus } from '../index.js';
import type { Command } from './arguments.js';
import { infoByName, infoByNode } from './device-info.js';
import { deviceLines, listLines } from './info-report.js';

/** `ringbell info` */
export const info: Command = {
  name: 'info',
  summary: "show the kernel's vDPA bus, or one device on it",
  description:
    'Shows a device: what it is, features, config space, queues. By NAME, or as a disk of the kernel such as /dev/vda, it\n' +
    'asks the bus, which harms nobody. As /dev/vhost-vdpa-N it opens the device, which resets it, and tells doorbells,\n' +
    'groups and IOVA range, too: a device that a program has open is left alone, and the program named.\n' +
    'Without an operand it lists the devices on the bus, and where new ones can come from.',
  operand: { value: 'DEVICE', required: false, help: 'name on the bus, or path of its node' },
  options: { json: { help: 'print one JSON object' } },
  async run(values) {
    const target = values.operand;
    const json = values.flag('json');
    if (target === undefined) {
      const bus = new VdpaBus();
      const [managementDevices, devices] = [await bus.managementDevices(), await bus.list()];
      print(json, { managementDevices, devices }, () => listLines(managementDevices, devices));
      return 0;
    }
    const device = target.includes('/')
      ? await infoByNode(busIfAny(), target)
      : await infoByName(new VdpaBus(), target);
    print(json, device, () => deviceLines(device));
    return 0;
  },
};

/** The bus, where this process may see it: a character device can also be used without. */
function busIfAny(): VdpaBus | undefined {
  try {
    return new VdpaBus();
  } catch (error) {
    if (error instanceof RingbellError || isSystemError(error)) return undefined;
    throw error;
  }
}

function print(json: boolean, object: object, lines: () => string[]): void {
  // 64-bit values are text: JSON's readers keep 53 bits of a number.
  const text = json
    ? JSON.stringify(object, (_, value) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value), 2)
    : lines().join('\n');
  process.stdout.write(`${text}\n`);
}
