/**
 * What the in-process bus adds to VDUSE: a dirty log that a driver's face has handed in, as VHOST_SET_LOG_BASE does to vhost.
 * The kernel's VDUSE has no such thing: it never sends the message, and answers the ioctl with ENOTTY. Both numbers are far
 * from those that a kernel gives next.
 */
import { u32, u64 } from '../uapi/codec.js';
import { iowr } from '../uapi/ioc.js';
import { struct } from '../uapi/struct.js';
import { VDUSE_BASE } from '../uapi/vduse.js';

/** Message, no payload: the log is another one, or there is none any more. From the reply on writes are marked in it. */
export const VDUSE_SET_LOG = 0x4000_0000;

/** A dirty log: one bit for each 4 KiB page of the IOVAs of address space `asid`, `bytes` bytes at `offset` of its file. */
export const vduseLog = struct('vduse_log', 24, {
  offset: [u64, 0],
  bytes: [u64, 8],
  asid: [u32, 16],
});

/** Gives a vduse_log and returns its file; ENOENT while there is none. */
export const VDUSE_GET_LOG_FD = iowr(VDUSE_BASE, 0xf0, vduseLog);
