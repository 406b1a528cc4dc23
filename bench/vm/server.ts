/**
 * Serves a file as a disk of this kernel, as an application would: with nothing but the path. Run by bench/vm/guest.ts, with
 * NAME, FILE and, if the file is to be mapped, `mapped`; answers each message with its counters, and ends when its parent does.
 */
import { BlockDevice, serve } from '../../host/index.js';

const [name, file, mapped] = process.argv.slice(2) as [string, string, string?];
const model = new BlockDevice(mapped ? { file, mapped: true, allocate: true } : { file });
const device = await serve(model, { name, transport: 'vduse', attach: 'virtio' });
device.on('error', ({ code, message }) => process.stderr.write(`${code}: ${message}\n`));
process.on('message', () => process.send!(device.stats()));
process.on('disconnect', () => device.close());
process.send!('served');
