import type { Target } from '../target.js';
import { blkRequests } from './blk-requests.js';
import { iotlb } from './iotlb.js';
import { indirectTables, splitDevice } from './split-device.js';
import { splitDriver } from './split-driver.js';

/** Every target, in the order of a whole run. */
export const targets: readonly Target[] = [splitDevice, indirectTables, splitDriver, iotlb, blkRequests];

/** The target of that name. TypeError where there is none. */
export function findTarget(name: string): Target {
  const target = targets.find((candidate) => candidate.name === name);
  if (!target) throw new TypeError(`there is no target ${name}; npm run fuzz lists them`);
  return target;
}
