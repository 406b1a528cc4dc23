import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { DeviceStats } from '../../host/index.js';
import { SysfsDevice } from '../../host/vdpa/sysfs-device.js';
import { bindDriver, removeDevice, until } from '../../test/vm/fixture.js';

/** Entries of a queue, of both servers. */
const QUEUE_SIZE = 256;

/** A process that serves a file as a disk of this kernel: VDUSE under virtio_vdpa. */
export interface DiskServer {
  readonly name: string;
  readonly pid: number;
  /** /dev/vdX. */
  readonly path: string;
  /** What it counts itself; undefined for a server that does not tell. */
  stats(): Promise<DeviceStats | undefined>;
  close(): Promise<void>;
}

/** Ours, by `serve` in a process of its own; by vectored I/O, or with the file mapped and all of its storage allocated. */
export async function startRingbell(name: string, file: string, mapped: boolean): Promise<DiskServer> {
  const child = fork(fileURLToPath(new URL('server.js', import.meta.url)), [
    name,
    file,
    ...(mapped ? ['mapped'] : []),
  ]);
  await served(child, name);
  return {
    name,
    pid: child.pid!,
    path: new SysfsDevice(name).node!,
    stats: async () => {
      child.send('stats');
      return (await once(child, 'message'))[0] as DeviceStats;
    },
    close: async () => {
      child.disconnect();
      await once(child, 'exit');
    },
  };
}

/** The vduse-blk export of qemu-storage-daemon, with an `aio` backend of its file driver. */
export async function startStorageDaemon(
  name: string,
  file: string,
  aio: 'threads' | 'io_uring',
): Promise<DiskServer> {
  const child = spawn(
    'qemu-storage-daemon',
    [
      ...['--blockdev', `driver=file,node-name=file,filename=${file},aio=${aio}`],
      ...['--blockdev', 'driver=raw,node-name=disk,file=file'],
      '--export',
      `type=vduse-blk,id=export,name=${name},node-name=disk,num-queues=1,queue-size=${QUEUE_SIZE},writable=on`,
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  // Its node is there before its queues are set up, which the bus insists on.
  await until(`${name} on the bus`, () => existsSync(`/dev/vduse/${name}`) && tryAdd(name));
  return {
    name,
    pid: child.pid!,
    path: await bindDriver(name, 'virtio_vdpa'),
    stats: async () => undefined,
    close: async () => {
      removeDevice(name);
      child.kill();
      await once(child, 'exit');
    },
  };
}

async function served(child: ChildProcess, name: string): Promise<void> {
  const exit = once(child, 'exit').then(([status]) => {
    throw new Error(`the server of ${name} ended with status ${status}`);
  });
  await Promise.race([once(child, 'message'), exit]);
}

function tryAdd(name: string): boolean {
  try {
    execFileSync('vdpa', ['dev', 'add', 'name', name, 'mgmtdev', 'vduse'], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}
