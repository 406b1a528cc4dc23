/** A process that serves disks on the kernel's VDUSE, as another one asks it to: the child of kernel-world.ts. */
import { HostedDisk } from './disk-host.js';
import type { DiskAnswer, DiskCall, DiskRequest } from './disk-process.js';

const disks = new Map<string, HostedDisk>();

async function answer(name: string, call: DiskCall): Promise<unknown> {
  if (call.type === 'serve') {
    const transport = { name, transport: 'vduse', attach: 'vhost', inFlightLog: false } as const;
    disks.set(name, await HostedDisk.serve(call.options, transport));
    return;
  }
  const disk = disks.get(name)!;
  switch (call.type) {
    case 'reset':
      return disk.reset();
    case 'bytes':
      return disk.bytes();
    case 'fill':
      return disk.fill(call.bytes);
    case 'resize':
      return disk.resize(call.bytes);
    case 'release':
      return disk.release();
    case 'errors':
      return disk.errors();
    case 'close':
      disks.delete(name);
      return disk.close();
  }
}

process.on('message', async ({ id, name, call }: DiskRequest) => {
  const reply: DiskAnswer = await answer(name, call).then(
    (result) => ({ id, result }),
    (error: Error) => ({ id, error: error.stack ?? String(error) }),
  );
  process.send!(reply);
});
process.on('disconnect', () => process.exit());
