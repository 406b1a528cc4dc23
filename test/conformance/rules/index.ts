/** Every rule of the suite. */
import type { Rule } from '../rule.js';
import { configSpaceRules } from './config-space.js';
import { doorbellRules } from './doorbell.js';
import { iotlbBatcheRules } from './iotlb-batches.js';
import { iotlbInvalidationRules } from './iotlb-invalidations.js';
import { iotlbMessageRules } from './iotlb-messages.js';
import { iotlbRegionRules } from './iotlb-regions.js';
import { iotlbUpdateRules } from './iotlb-updates.js';
import { lifeRules } from './life.js';
import { messageRules } from './messages.js';
import { notificationRules } from './notifications.js';
import { statusRules } from './status.js';
import { vduseControlRules } from './vduse-control.js';
import { vduseDeviceRules } from './vduse-device.js';
import { vhostVdpaRules } from './vhost-vdpa.js';
import { vringRules } from './vring.js';

/** Those of IOTLB messages, and of VDUSE_IOTLB_GET_FD and _INFO on what they made. */
export const iotlbRules: readonly Rule[] = [
  ...iotlbUpdateRules,
  ...iotlbInvalidationRules,
  ...iotlbMessageRules,
  ...iotlbBatcheRules,
  ...iotlbRegionRules,
];

/** Those of /dev/vduse: the device's side. */
export const vduseRules: readonly Rule[] = [
  ...vduseControlRules,
  ...vduseDeviceRules,
  ...messageRules,
  ...notificationRules,
];

/** Those of /dev/vhost-vdpa-N: the driver's side. */
export const vhostRules: readonly Rule[] = [
  ...lifeRules,
  ...vhostVdpaRules,
  ...statusRules,
  ...configSpaceRules,
  ...vringRules,
  ...iotlbRules,
  ...doorbellRules,
];

export const rules: readonly Rule[] = [...vduseRules, ...vhostRules];
