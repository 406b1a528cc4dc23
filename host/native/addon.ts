import { createRequire } from 'node:module';
import { RingbellError } from '../errors.js';
import { locateAddon } from './locate.js';

/** Protection of a window. A doorbell is 'w': written, never read. */
export type Protection = 'none' | 'r' | 'w' | 'rw';

/** Where a window's memory comes from. */
export interface MapSource {
  /** File to map; the mapping keeps it alive, the caller still owns and closes the descriptor. */
  fd: number;
  /** Byte offset into the file, page-aligned. */
  offset: bigint;
  /** MAP_SHARED unless false (doorbell rules are tested with MAP_PRIVATE). */
  shared?: boolean;
}

/**
 * Event-loop interest in one file descriptor. It follows the number: after `duplicate(other, fd)` it watches `other`, as
 * soon as the file that it watched before has been signalled once.
 */
export interface Watcher {
  /** Keep the process alive for this watcher (the state it starts in). */
  ref(): void;
  unref(): void;
  /** Stops for good; the callback is not called again. The descriptor stays the caller's, to be closed after this. */
  close(): void;
}

/**
 * The native addon: mechanism only. Every failing system call throws an Error with `code` ('EINVAL'), `errno` (negative,
 * as Node's own) and `syscall`; a wrong argument throws TypeError or RangeError.
 *
 * `view` is always a Uint8Array over the whole of a shared WebAssembly.Memory: Node-API sees shared memory through views
 * only. Offsets and lengths of windows are multiples of PAGE_SIZE.
 *
 * Descriptors, given or taken, are the caller's to close: those that the addon gave with `close`, those that node:fs gave
 * with node:fs (Node keeps a list of a worker's, and warns of others). Windows belong to the aperture: a thread that ends
 * takes none away, because another may be inside one; they go with `unmap`, with `release`, or with the last thread that
 * reserved or mapped anything there; `forget` leaves them to V8. Watchers end with their thread.
 */
export interface Addon {
  /** Process address of the first byte of `view`. */
  address(view: Uint8Array): bigint;
  /** Makes [offset, offset + length) inaccessible (PROT_NONE, anonymous): the state that windows are cut out of. */
  reserve(view: Uint8Array, offset: number, length: number): void;
  /** Lays a window over a reserved range. Throws EEXIST where a window is, ERANGE outside what was reserved. */
  map(view: Uint8Array, offset: number, length: number, source: MapSource, protection: Protection): void;
  /** Turns windows back into reserved space, with no moment in between at which the range is free. */
  unmap(view: Uint8Array, offset: number, length: number): void;
  /** Changes the protection of a mapped range. */
  protect(view: Uint8Array, offset: number, length: number, protection: Protection): void;
  /** Gives an aperture up: all its windows become reserved space, its SIGBUS guard is taken off. */
  release(view: Uint8Array): void;
  /**
   * Gives an aperture up with its windows where they are: V8 unmaps them with the rest of the memory, once nothing in
   * JavaScript can reach it any more. The SIGBUS guard goes at once: no window may be of a file that can shrink.
   */
  forget(view: Uint8Array): void;
  /**
   * From now on a SIGBUS inside a window of `view` (a file truncated under its mapping) puts a zeroed private page there
   * and adds 1 to the i32 at `flag` instead of killing the process.
   */
  guardSigbus(view: Uint8Array, flag: number): void;

  /**
   * A memory file of `bytes`, close-on-exec. `seal` forbids shrinking, growing and further seals. The name, for
   * /proc/self/maps only, is cut off where it is too long for the kernel.
   */
  memfd(name: string, bytes: number, seal: boolean): number;
  /**
   * Raises the soft limit of RLIMIT_MEMLOCK to `bytes`, and the hard one with it where it is lower. Never lowers either.
   * Throws EPERM where the hard limit is lower and the process may not raise it (CAP_SYS_RESOURCE).
   */
  raiseMemlockLimit(bytes: number): void;
  /** ioctl with no argument, an integer, or a buffer that is read and written in place. Returns the call's result. */
  ioctl(fd: number, request: number, argument?: number | Uint8Array): number;
  /** A function that makes this call, each time with the same arguments; of a buffer, it uses a copy. */
  prepareIoctl(fd: number, request: number, argument?: number | Uint8Array): () => number;
  /** An ioctl on a libuv worker thread, for calls that wait for another thread of this process. */
  ioctlAsync(fd: number, request: number, argument?: number | Uint8Array): Promise<number>;
  /**
   * Sends one netlink message to the kernel, on a socket of its own: all messages of the answer, one behind the other, up to
   * and with the acknowledgement, the error or the end of the dump. `request` must ask for one of them (NLM_F_ACK,
   * NLM_F_DUMP). A refusal is a message too: only what keeps it from coming throws.
   */
  netlink(protocol: number, request: Uint8Array): Uint8Array;
  /** The same on a libuv worker thread, for requests that wait for another thread of this process. */
  netlinkAsync(protocol: number, request: Uint8Array): Promise<Uint8Array>;
  /** A non-blocking, close-on-exec eventfd. */
  eventfd(): number;
  /** Adds 1. A saturated counter is already a notification: no error. */
  eventfdSignal(fd: number): void;
  /** Reads the counter away: its value, 0 if nothing was pending. */
  eventfdDrain(fd: number): number;
  /** dup with close-on-exec; with `target`, dup2: `target` atomically becomes another name for `fd`. */
  duplicate(fd: number, target?: number): number;
  /** Closes a descriptor that node:fs did not open. */
  close(fd: number): void;
  /**
   * Blocks this thread until a descriptor of `fds` is readable: how many are, 0 after `timeoutMs` (−1: no limit). Sets
   * bit i of `ready[0]` for fds[i]; entries below 0 are skipped; at most 32. Throws EBADF if one is not open. With `drain`
   * they are eventfds, and the counters of the readable ones are read away in the same call.
   *
   * A worker that waits can be neither terminated nor left behind by process.exit: wait with a limit, again and again.
   */
  poll(fds: Int32Array, ready: Uint32Array, timeoutMs: number, drain?: boolean): number;
  /** Lets others run that are waiting for this thread's CPU, if there are any (sched_yield(2)): microseconds that it took. */
  yield(): number;
  /** CPUs that the calling thread may run on, ascending. */
  affinity(): number[];
  /** Has the calling thread, not the process, run on these CPUs alone. Throws EINVAL where it may run on none of them. */
  setAffinity(cpus: readonly number[]): void;
  /** Calls back on this environment's event loop whenever `fd` is readable (level-triggered). Makes it non-blocking. */
  watch(fd: number, callback: () => void): Watcher;
  /** Gives each of the first `bytes` bytes of a file its storage, and the file that length at least (posix_fallocate). */
  allocate(fd: number, bytes: number): void;
  /**
   * A function that carries out the first `count` entries of the I/O table at `table` (IO_* of assembly/layout.ts) on `fd`,
   * storing each result, except of IO_OP_NONE: the number of entries that failed. It never throws for an I/O error.
   */
  prepareFileIo(view: Uint8Array, fd: number, table: number): (count: number) => number;
  /**
   * Reads from a file that gives a frame a read(2), as /dev/net/tun does: frames go to `into`, one behind the other, their lengths to
   * `lengths`, until there are none, `lengths` is full, or fewer than `longest` bytes are left, which is what a frame has at most.
   * The number of frames.
   */
  readFrames(fd: number, into: Uint8Array, lengths: Uint32Array, longest: number): number;
}

let addon: Addon | undefined;

/** The addon, loaded on first use. Throws ERR_ADDON_MISSING, saying exactly what to do, when there is none that loads. */
export function loadAddon(): Addon {
  if (addon) return addon;
  const path = locateAddon();
  try {
    addon = createRequire(import.meta.url)(path) as Addon;
  } catch (cause) {
    throw new RingbellError(
      'ERR_ADDON_MISSING',
      `${path} does not load here (${(cause as Error).message}): build it on this machine with \`npm run build:native\``,
      { cause },
    );
  }
  return addon;
}
