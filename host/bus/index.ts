/** The in-process vDPA bus. */
export type { AttachOptions, BusDriver } from './attachment.js';
export { Bus, type BusDevice, type BusOptions } from './bus.js';
export type { DirtyLogMemory } from './dirty-log-file.js';
export {
  type DoorbellLayout,
  type DoorbellLayoutName,
  doorbellLayout,
  mapsEvery,
} from './doorbell-layout.js';
export type { Fault, FaultInjection, FaultOptions, FaultPoint } from './fault-injection.js';
export type { ParentKind } from './parent.js';
