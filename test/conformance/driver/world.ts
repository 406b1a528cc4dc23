import type { BlockDisk, OpenBlockOptions } from '../../../host/index.js';
import type { Place as RulePlace } from '../world.js';
import type { HostedDiskOptions } from './disk-host.js';

/** Where scenes are played: either driver of the in-process bus, or vhost-vdpa of a kernel by its series. */
export type Place = 'vhost_vdpa of the bus' | 'vhost_mdev of the bus' | Exclude<RulePlace, 'bus'>;

/** A disk of ours that is served, to be driven. */
export interface StagedDisk {
  /** Opens it. */
  open(options?: OpenBlockOptions): Promise<BlockDisk>;
  /** Its bytes, as the device has them now. */
  bytes(): Promise<Uint8Array>;
  /** Gives it other bytes. */
  fill(bytes: Uint8Array): Promise<void>;
  /** Makes it larger or smaller. */
  resize(bytes: number): Promise<void>;
  /** Lets requests go that a disk with `held` keeps. */
  release(): Promise<void>;
  /** Codes of errors that the device has emitted since it was asked for. */
  errors(): Promise<string[]>;
}

/** One way from a driver to its device, on which scenes are played one after the other. */
export interface DriverWorld extends AsyncDisposable {
  readonly place: Place;
  /** What no device here has. */
  readonly nobody: string;
  /** A disk of zeroes that no driver has; one that was asked for before serves again. It goes with the world. */
  serve(options?: HostedDiskOptions): Promise<StagedDisk>;
}
