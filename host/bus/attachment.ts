import { RingbellError } from '../errors.js';
import type { DeviceIotlb } from './device-iotlb.js';
import { Doorbell } from './doorbell.js';
import {
  type DoorbellLayout,
  type DoorbellLayoutName,
  doorbellLayout,
  placeDoorbells,
} from './doorbell-layout.js';
import { MESSAGE_TIMEOUT_MS } from './message-queue.js';
import { DmaMapParent, type Parent, type ParentKind, SetMapParent } from './parent.js';

/** Driver of the bus that a device is bound to: how programs open it. */
export type BusDriver = 'vhost_vdpa' | 'vhost_mdev';

/** How a device is attached to the bus. */
export interface AttachOptions {
  /** To which driver it is bound: 'vhost_vdpa' (default), or 'vhost_mdev', the proposal that came before it. */
  driver?: BusDriver;
  /** How it takes mappings; 'set_map' if left out. */
  parent?: ParentKind;
  /** Where the doorbells of its queues lie; none if left out, as with most parents. */
  doorbell?: DoorbellLayoutName | DoorbellLayout;
  /** Milliseconds that the device has to answer a message, 0 for ever; 30,000 if left out. */
  messageTimeout?: number;
  /**
   * VHOST_BACKEND_F_* that vhost-vdpa may offer a driver, as a mask; all that it has if left out. An older kernel has
   * fewer.
   */
  backendFeatures?: bigint;
}

const ALL_BACKEND_FEATURES = 2n ** 64n - 1n;

/** The place of a device on the bus: how drivers reach it, from `attach` until it leaves. */
export interface Attachment {
  readonly driver: BusDriver;
  readonly parent: Parent;
  /** Undefined where the parent has no get_vq_notification. */
  readonly doorbell: Doorbell | undefined;
  /** Milliseconds that the device has to answer a message, 0 for ever. */
  readonly messageTimeout: number;
  /** VHOST_BACKEND_F_* that a driver may be offered. */
  readonly backendFeatures: bigint;
}

/** What is attached: a device with so many queues and these address spaces, which is told of mappings that changed. */
export interface Attached {
  name: string;
  queues: number;
  iotlbs: readonly DeviceIotlb[];
  update(asid: number, start: bigint, last: bigint): Promise<void>;
}

/** Judges the options and makes the place. Throws ERR_ARGUMENT, or a TypeError for backend features that are no bigint. */
export function attach({ name, queues, iotlbs, update }: Attached, options: AttachOptions): Attachment {
  const { driver = 'vhost_vdpa', parent = 'set_map', doorbell } = options;
  const { messageTimeout = MESSAGE_TIMEOUT_MS, backendFeatures = ALL_BACKEND_FEATURES } = options;
  if (driver !== 'vhost_vdpa' && driver !== 'vhost_mdev')
    throw new RingbellError('ERR_ARGUMENT', `driver is 'vhost_vdpa' or 'vhost_mdev', not ${driver}`);
  if (parent !== 'set_map' && parent !== 'dma_map')
    throw new RingbellError('ERR_ARGUMENT', `parent is 'set_map' or 'dma_map', not ${parent}`);
  if (!(messageTimeout >= 0 && messageTimeout < 2 ** 31))
    throw new RingbellError('ERR_ARGUMENT', `messageTimeout is milliseconds, not ${messageTimeout}`);
  if (typeof backendFeatures !== 'bigint')
    throw new TypeError(`backendFeatures is a mask, a bigint, not ${backendFeatures}`);
  const layout =
    doorbell === undefined || queues === 0 ? undefined : placeDoorbells(doorbellLayout(doorbell), queues);
  return {
    driver,
    parent: new (parent === 'set_map' ? SetMapParent : DmaMapParent)(iotlbs, update),
    doorbell: layout && new Doorbell(name, layout),
    messageTimeout,
    backendFeatures,
  };
}
