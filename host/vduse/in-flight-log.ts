import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  type Stats,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  LOG_API_VERSION,
  LOG_BYTES_PER_ENTRY,
  LOG_CONFIG_SIZE,
  LOG_DEVICE_ID,
  LOG_ENTRIES,
  LOG_FEATURES,
  LOG_HEADER_SIZE,
  LOG_INSTANCE,
  LOG_INSTANCE_BYTES,
  LOG_MAGIC,
  LOG_PROTOCOL_FEATURES,
  LOG_QUEUE_SIZE,
  LOG_QUEUES,
  LOG_VERSION,
} from '../../assembly/layout.js';
import type { Aperture, Window } from '../aperture/aperture.js';
import { isSystemError, RingbellError } from '../errors.js';
import type { VduseProtocol } from './protocol.js';

const MAGIC = Buffer.from('ringbell', 'latin1');
/** Of how entries and header are laid out. 2 since a queue may have a packed ring. */
const VERSION = 2;
/** Where logs are kept unless the caller says so: memory that lasts as long as the devices do, root's alone. */
const DIRECTORY = '/run/ringbell';
/** Mode of a log: what is in it decides what a device does. */
const MODE = 0o600;
const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

/** What a device is to its drivers for as long as it exists. */
export interface DeviceShape {
  /** Virtio device id. */
  deviceId: number;
  queues: number;
  /** Entries. */
  queueSize: number;
  /** Bytes. */
  configSize: number;
  protocol: VduseProtocol;
  /** Features that it offers. */
  features: bigint;
  /** What tells it from other devices of its name (VduseControlFile.instance). */
  instance: string;
}

/** Numbers of a shape that another server has to keep, by their place in the log. */
const KEPT = {
  deviceId: LOG_DEVICE_ID,
  queues: LOG_QUEUES,
  queueSize: LOG_QUEUE_SIZE,
  configSize: LOG_CONFIG_SIZE,
} as const;

/** Where the in-flight log of a device is kept if nobody says where. */
export function defaultLogPath(name: string): string {
  mkdirSync(DIRECTORY, { recursive: true, mode: 0o700 });
  return join(DIRECTORY, name);
}

/**
 * The in-flight log of a device: a file that outlives the process, mapped into the device's aperture, so that the engine
 * writes it with plain stores (in-flight.ts of assembly/split and assembly/packed). Whoever opens the device node next finds in it what no kernel
 * knows: which requests had been taken and not given back.
 */
export class InFlightLog {
  readonly path: string;
  readonly #aperture: Aperture;
  readonly #window: Window;
  readonly #sectionBytes: number;

  /** Makes the log of a device that was just created, in place of whatever is at `path`. Throws a SystemError. */
  static create(path: string, shape: DeviceShape, aperture: Aperture): InFlightLog {
    rmSync(path, { force: true });
    const fd = openSync(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR, MODE);
    try {
      // Written, not truncated to its size: a file system that is full says so now, not by a SIGBUS later.
      writeAll(fd, Buffer.alloc(bytesOf(shape)), 0);
      writeAll(fd, headerOf(shape), 0);
      writeAll(fd, MAGIC, LOG_MAGIC);
      return new InFlightLog(path, fd, shape, aperture);
    } finally {
      closeSync(fd);
    }
  }

  /**
   * The log that another process has left of the same device. Throws ERR_TAKE_OVER, saying why, for one that is not there,
   * is not this user's alone, is of another device, or of one that another model, or other options, would not be.
   */
  static adopt(path: string, shape: DeviceShape, aperture: Aperture): InFlightLog {
    let fd: number;
    try {
      fd = openSync(path, O_RDWR | O_NOFOLLOW);
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) throw refusal(path, 'it does not exist');
      throw refusal(path, 'it cannot be opened', error);
    }
    try {
      const header = Buffer.alloc(LOG_HEADER_SIZE);
      const read = readSync(fd, header, 0, LOG_HEADER_SIZE, 0);
      const mistake = mistakeOf(fstatSync(fd), header.subarray(0, read), shape);
      if (mistake) throw refusal(path, mistake);
      return new InFlightLog(path, fd, shape, aperture);
    } finally {
      closeSync(fd);
    }
  }

  private constructor(path: string, fd: number, shape: DeviceShape, aperture: Aperture) {
    this.path = path;
    this.#aperture = aperture;
    this.#window = aperture.map({ fd, offset: 0n }, bytesOf(shape), 'rw');
    this.#sectionBytes = sectionBytes(shape.queueSize);
  }

  /** Linear address of the section of queue `index`. */
  section(index: number): number {
    return this.#window.linear + LOG_HEADER_SIZE + index * this.#sectionBytes;
  }

  /** Unmaps it. No queue may be using it. */
  close(): void {
    this.#aperture.unmap(this.#window);
  }

  /** Deletes the file: its device is no more. */
  remove(): void {
    rmSync(this.path, { force: true });
  }
}

function sectionBytes(queueSize: number): number {
  return LOG_ENTRIES + queueSize * LOG_BYTES_PER_ENTRY;
}

function bytesOf({ queues, queueSize }: DeviceShape): number {
  return LOG_HEADER_SIZE + queues * sectionBytes(queueSize);
}

function headerOf(shape: DeviceShape): Buffer {
  const header = Buffer.alloc(LOG_HEADER_SIZE);
  header.writeUInt32LE(VERSION, LOG_VERSION);
  for (const [name, offset] of Object.entries(KEPT))
    header.writeUInt32LE(shape[name as keyof typeof KEPT], offset);
  header.writeUInt32LE(shape.protocol.apiVersion, LOG_API_VERSION);
  header.writeBigUInt64LE(shape.protocol.features, LOG_PROTOCOL_FEATURES);
  header.writeBigUInt64LE(shape.features, LOG_FEATURES);
  createHash('sha256').update(shape.instance).digest().copy(header, LOG_INSTANCE);
  return header;
}

/** Why a file is not the log of that device, as it is served now. */
function mistakeOf(stats: Stats, header: Buffer, shape: DeviceShape): string | undefined {
  // Somebody else's file could make the device answer requests twice, or never.
  if (!stats.isFile() || stats.uid !== process.geteuid!() || stats.mode & 0o077)
    return 'it is not a file that only this user can use';
  if (header.length < LOG_HEADER_SIZE || !header.subarray(LOG_MAGIC, LOG_MAGIC + MAGIC.length).equals(MAGIC))
    return 'it is no in-flight log';
  if (header.readUInt32LE(LOG_VERSION) !== VERSION) return 'it is of another version';
  const now = headerOf(shape);
  const instance = (of: Buffer) => of.subarray(LOG_INSTANCE, LOG_INSTANCE + LOG_INSTANCE_BYTES);
  if (!instance(header).equals(instance(now))) return 'it is of another device of that name';
  for (const [name, offset] of Object.entries(KEPT)) {
    const kept = header.readUInt32LE(offset);
    if (kept !== now.readUInt32LE(offset))
      return `the device has ${name} ${kept}, not ${now.readUInt32LE(offset)}`;
  }
  const protocol = (of: Buffer) =>
    `version ${of.readUInt32LE(LOG_API_VERSION)} of VDUSE with features 0x${of.readBigUInt64LE(LOG_PROTOCOL_FEATURES).toString(16)}`;
  if (protocol(header) !== protocol(now))
    return `the device speaks ${protocol(header)}, not ${protocol(now)}`;
  const missing = header.readBigUInt64LE(LOG_FEATURES) & ~shape.features;
  if (missing) return `the device offers features 0x${missing.toString(16)} that are not served now`;
  if (stats.size !== bytesOf(shape)) return `it has ${stats.size} bytes, not ${bytesOf(shape)}`;
  return undefined;
}

function refusal(path: string, why: string, cause?: unknown): RingbellError {
  return new RingbellError('ERR_TAKE_OVER', `in-flight log ${path}: ${why}`, { cause });
}

function writeAll(fd: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(fd, bytes, done, bytes.length - done, at + done);
}
