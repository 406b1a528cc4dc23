import type { Target } from '../target.js';
import { blkRequests } from './blk-requests.js';
import { busIoctls } from './bus-ioctls.js';
import { indirectTables, packedDevice, splitDevice } from './device-side.js';
import { packedDifferential, splitDifferential } from './differential.js';
import { packedDriver, splitDriver } from './driver-side.js';
import { exports } from './exports.js';
import { inFlight } from './in-flight.js';
import { iotlb } from './iotlb.js';
import { netDriver } from './net-driver.js';
import { vduseMessages } from './vduse-messages.js';

/** Every target, in the order of a whole run. */
export const targets: readonly Target[] = [
  splitDevice,
  packedDevice,
  indirectTables,
  splitDriver,
  packedDriver,
  inFlight,
  netDriver,
  iotlb,
  blkRequests,
  splitDifferential,
  packedDifferential,
  exports,
  vduseMessages,
  busIoctls,
];

/** The target of that name. TypeError where there is none. */
export function findTarget(name: string): Target {
  const target = targets.find((candidate) => candidate.name === name);
  if (!target) throw new TypeError(`there is no target ${name}; npm run fuzz lists them`);
  return target;
}
