import { basename } from 'node:path';
import { inspect } from 'node:util';
import { type Model, type ServedDevice, type ServeOptions, serve } from '../../host/index.js';
import { run } from './disk-fixture.js';
import { bindDriver, modprobe, shell } from './fixture.js';

/** Addresses of the kernel's own stack, and of the stack behind the network device. */
export const HERE = '192.0.2.1';
export const THERE = '192.0.2.2';
/** Network namespace of the network device: what is sent there to HERE goes through it, and nowhere else. */
const NAMESPACE = 'there';

/** A network device of ours as an interface of this kernel, in a namespace of its own. */
export interface VdpaInterface {
  device: ServedDevice;
  /** Its name, in the namespace. */
  name: string;
  /** Code and message of each error that the device has emitted. */
  errors: string[];
}

let serial = 0;

/** A line of shell that runs in the namespace of the network device. */
export const there = (command: string) => `ip netns exec ${NAMESPACE} ${command}`;

/** Loads what network devices of ours need, and makes the namespace. */
export function prepareNamespace(): void {
  modprobe('vduse', 'virtio_vdpa', 'virtio_net', 'tun');
  shell(`ip netns add ${NAMESPACE}`);
}

export const removeNamespace = () => shell(`ip netns del ${NAMESPACE}`);

/** Moves an interface to the namespace. */
export const moveThere = (name: string) => run(`ip link set ${name} netns ${NAMESPACE}`);

/** Serves `model` on the kernel's VDUSE, gives it to virtio_net, and takes it down after `body`. */
export async function withInterface(
  model: Model,
  options: Partial<ServeOptions>,
  body: (it: VdpaInterface) => Promise<void>,
): Promise<void> {
  prepareNamespace();
  try {
    const device = await serve(model, { name: `net${serial++}`, transport: 'vduse', queues: 2, ...options });
    const errors: string[] = [];
    device.on('error', (error) => errors.push(`${error.code}: ${error.message}`));
    try {
      const name = basename(await bindDriver(device.name, 'virtio_vdpa'));
      await moveThere(name);
      await body({ device, name, errors });
    } catch (error) {
      // The device may know why.
      const knows = inspect({ errors, model, stats: device.stats().queues }, { depth: 5 });
      throw new Error(`${(error as Error).message}\n${knows}`, { cause: error });
    } finally {
      await device.close();
    }
  } finally {
    removeNamespace();
  }
}

/** Gives an interface an address and starts it: beside the event loop, which may serve it. */
export async function bringUp(
  name: string,
  address: string,
  prefix = (command: string) => command,
): Promise<void> {
  for (const command of [`ip addr add ${address}/24 dev ${name}`, `ip link set ${name} up`])
    await run(prefix(command));
}

/** Counters of errors of an interface that are not 0. What is dropped where a slow machine has no room is none. */
export async function errorsOf(name: string, prefix = (command: string) => command): Promise<string[]> {
  // ip mounts a sysfs of the namespace for what it runs.
  const counters = await run(prefix(`sh -c 'cd /sys/class/net/${name}/statistics && grep -H . *_errors'`));
  return counters
    .trim()
    .split('\n')
    .filter((line) => !line.endsWith(':0'));
}

/** Whether an address answers a ping: at first, interfaces find out that they have a carrier. */
export const answers = (address: string) =>
  run(`ping -n -c 1 -W 5 ${address}`).then(
    () => true,
    () => false,
  );
