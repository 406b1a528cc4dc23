/** The in-process vDPA bus. */
export { Bus, type BusAttachment, type BusDevice } from './bus.js';
export type { Fault, FaultInjection, FaultOptions, FaultPoint } from './fault-injection.js';
export type { ParentKind } from './parent.js';
export type { AttachOptions } from './vdpa-device.js';
