/**
 * Serves a file as a disk of this kernel, as an application would: with nothing but the path. Run by bench/vm/guest.ts, with
 * NAME and FILE; answers each message with its counters, and ends when its parent does.
 */
import { BlockDevice, serve } from '../../host/index.js';

const [name, file] = process.argv.slice(2) as [string, string];
const device = await serve(new BlockDevice({ file }), { name, transport: 'vduse', attach: 'virtio' });
device.on('error', ({ code, message }) => process.stderr.write(`${code}: ${message}\n`));
process.on('message', () => process.send!(device.stats()));
process.on('disconnect', () => device.close());
process.send!('served');
