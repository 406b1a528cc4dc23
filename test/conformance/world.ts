import type { ParentKind } from '../../host/bus/index.js';
import type { VduseControlFile } from '../../host/vduse/file.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import type { MemoryPart } from './driver-memory.js';

/** Where rules are played: the in-process bus, or a kernel by its series. */
export type Place = 'bus' | '6.12' | '7.2' | '7.3';

/** Memory of the driver that a device can be given. */
export interface DriverMemory {
  /** Process address of its first part. */
  readonly address: bigint;
  /** Closes the file's descriptor; the memory stays. */
  closeFile(): Promise<void>;
}

/** One machine's vDPA bus with its two kinds of file, and nothing on it yet. */
export interface World extends AsyncDisposable {
  readonly place: Place;
  /** How its devices take mappings: the whole table at once, as VDUSE does, or one at a time. */
  readonly parent: ParentKind;
  /** The newest VDUSE API version that it speaks. */
  readonly apiVersion: bigint;
  /** VDUSE_F_* that a device can opt in to, as a mask; undefined where VDUSE has no features of its own. */
  readonly vduseFeatures: bigint | undefined;
  /** Opens /dev/vduse/control. */
  control(): Promise<VduseControlFile>;
  /** Puts a created device on the bus for vhost-vdpa, with so many milliseconds to answer a message. */
  attach(name: string, messageTimeoutMs: number): Promise<void>;
  /** Takes a device off the bus. */
  detach(name: string): Promise<void>;
  /** Opens the driver's side of an attached device. */
  open(name: string): Promise<VhostVdpaFile>;
  /** Memory in the process that drives. */
  memory(parts: readonly MemoryPart[]): Promise<DriverMemory>;
  /** An eventfd that driver and device can bind, each by this number; up to four. It is closed with the world. */
  eventfd(): number;
  /** Gives notifications that pass through a work queue the time to arrive: for asserting that none did. */
  settle(): Promise<void>;
}
