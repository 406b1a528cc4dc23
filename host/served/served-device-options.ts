import type { FlightRecorderPlan } from '../options.js';
import type { VduseControlFile } from '../vduse/file.js';
import type { RingFeatures } from './ring-features.js';

/** How a device reaches its drivers. */
export interface DeviceTransport {
  control: VduseControlFile;
  /** Puts the created device on the vDPA bus. */
  attach(name: string): Promise<void>;
  /** Takes it off again. */
  detach(name: string): Promise<void>;
}

/** How a device is served; every member has been judged. */
export interface ServedDeviceOptions extends RingFeatures {
  name: string;
  queues: number;
  /** Entries. */
  queueSize: number;
  /** Groups of queues, each with an address space of its own. */
  groups: number;
  /** Newest VDUSE API version to speak. */
  apiVersion: number;
  /** Whether memory of this process shall be the kernel's bounce buffer, where it can be. */
  umem: boolean;
  /** Queue threads; 0 for the caller's event loop, which is the only place for a model in JavaScript. */
  threads: number;
  poll: boolean;
  /** CPUs of the queue threads, thread i on CPU i modulo their number; none to leave that to the kernel. */
  cpus: readonly number[];
  /** Path of the in-flight log; undefined for none, in which case no device can be taken over. */
  log: string | undefined;
  /** State that the model goes on from; undefined for its own. */
  state: Uint8Array | undefined;
  /** How what the queues do is recorded; undefined for not at all. */
  flightRecorder: FlightRecorderPlan | undefined;
}
