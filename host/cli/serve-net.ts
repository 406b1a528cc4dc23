import { LoopbackNet, type NetOptions, TapNet } from '../index.js';
import { type Arguments, UsageError } from './arguments.js';
import type { ServedKind } from './serve-kind.js';

/** Network devices: at a tap interface, or with their own end of the wire. */
export const net: ServedKind = {
  name: 'net',
  queues: 2,
  options: {
    tap: { value: 'NAME', help: 'connect the device to this tap interface, which is made if there is none' },
    loopback: { help: 'give every frame back instead' },
    mac: { value: 'ADDRESS', help: 'its address, such as 52:54:00:12:34:56 (default: a random one)' },
    mtu: { value: 'BYTES', help: 'bytes that a frame carries (default: 1500)' },
    'no-offloads': { help: 'leave checksums and segmentation to the driver' },
    capture: { value: 'FILE', help: 'write every frame that passes to this file, as pcapng' },
  },
  plan: (values) => {
    const model = modelOf(values);
    const tap = () => (model instanceof TapNet ? model.name! : null);
    return async () => ({
      model,
      text: () => `${tap() ?? 'loopback'}, ${model.mac}, MTU ${model.mtu}`,
      facts: () => ({ tap: tap(), mac: model.mac, mtu: model.mtu }),
      close: async () => {},
    });
  },
};

function modelOf(values: Arguments): TapNet | LoopbackNet {
  if (values.given('tap') === values.flag('loopback'))
    throw new UsageError('give one of --tap NAME and --loopback');
  if (values.given('queues'))
    // The kernel's VDUSE takes no control queue, without which there are no more.
    values.count('queues', { minimum: net.queues, maximum: net.queues });
  const options: NetOptions = {
    mac: values.text('mac'),
    mtu: values.given('mtu') ? values.count('mtu', { minimum: 68, maximum: 65535 }) : undefined,
    offloads: !values.flag('no-offloads'),
    capture: values.text('capture'),
  };
  try {
    const name = values.text('tap');
    return name === undefined ? new LoopbackNet(options) : new TapNet({ ...options, name });
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}
