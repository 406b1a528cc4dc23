/** The process that drives: makes the calls that its parent asks for, one answer for each. */
import { PAGE_SIZE } from '../../assembly/layout.js';
import { Aperture } from '../../host/aperture/aperture.js';
import type { SystemError } from '../../host/errors.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import { openKernelVhostVdpa } from '../../host/vhost-vdpa/kernel-file.js';
import { SharedMemory } from './driver-memory.js';
import type { DriverAnswer, DriverCall, DriverReply, DriverRequest } from './driver-process.js';

const aperture = Aperture.create({ bytes: 2 ** 24, privateBytes: 2 ** 16 });
const files: VhostVdpaFile[] = [];
const memories: SharedMemory[] = [];

async function make(call: DriverCall): Promise<DriverReply> {
  switch (call.type) {
    case 'open':
      return { handle: files.push(await openKernelVhostVdpa(call.path)) - 1 };
    case 'ioctl':
      return {
        result: await files[call.handle]!.ioctl(call.request, call.argument),
        ...(call.argument && { argument: call.argument }),
      };
    case 'write':
      await files[call.handle]!.write(call.message);
      return {};
    case 'mmap': {
      const { linear } = aperture.reserveWindow(Math.max(call.request.length, PAGE_SIZE));
      await files[call.handle]!.mmap(aperture, linear, call.request);
      return {};
    }
    case 'close':
      await files[call.handle]!.close();
      return {};
    case 'memory': {
      const memory = new SharedMemory(call.parts);
      return { handle: memories.push(memory) - 1, address: memory.address };
    }
    case 'closeFile':
      memories[call.handle]!.closeFile();
      return {};
  }
}

process.on('message', async ({ id, call }: DriverRequest) => {
  let answer: DriverAnswer;
  try {
    answer = { id, reply: await make(call) };
  } catch (error) {
    const { message, code, errno, syscall } = error as SystemError;
    answer = { id, error: { message, code, errno, syscall } };
  }
  process.send!(answer);
});
process.on('disconnect', () => process.exit());
