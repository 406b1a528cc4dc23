import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { loadAddon } from '../native/addon.js';
import { adoptVduseFile, exposeVduseFile } from './bridge.js';
import type { VduseFile } from './file.js';
import { KernelVduseFile } from './kernel-file.js';

/** An open VduseFile on its way to another thread: a descriptor of the kernel's, or a port to a file of this thread. */
export type VduseFileHandle = { name: string; fd: number } | { name: string; port: MessagePort };

/** Makes `file` another thread's. What is in `transfer` must be transferred along with the handle. */
export function shareVduseFile(file: VduseFile): { handle: VduseFileHandle; transfer: MessagePort[] } {
  // A descriptor of its own, so that each side can close.
  if (file instanceof KernelVduseFile)
    return { handle: { name: file.name, fd: loadAddon().duplicate(file.fd) }, transfer: [] };
  const { port1, port2 } = new MessageChannel();
  exposeVduseFile(file, port1);
  return { handle: { name: file.name, port: port2 }, transfer: [port2] };
}

/** The file of a handle, in the thread that received it. */
export function receiveVduseFile(handle: VduseFileHandle): VduseFile {
  return 'port' in handle
    ? adoptVduseFile(handle.name, handle.port)
    : new KernelVduseFile(handle.name, handle.fd);
}
