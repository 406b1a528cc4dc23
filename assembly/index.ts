// engine.wasm: the exports, and nothing else. host/aperture/engine.ts says what each does. No allocation, no statics, no
// strings: every byte of state lies at an offset of layout.ts in the aperture, so that any number of threads can run
// instances of this module on one memory.

export { copy } from './copy';
export {
  deviceArm,
  deviceBreak,
  deviceDisarm,
  devicePending,
  devicePop,
  devicePush,
  deviceResume,
  deviceReturn,
  deviceStart,
  deviceWait,
} from './device';
export { dirtyFetch, dirtyMark } from './dirty';
export { doorbellWatch } from './doorbell';
export { driverArm, driverDisarm, driverReset, driverStart } from './driver';
export { blkReap, blkSubmit } from './drivers/blk';
export { bufferReap, bufferReceive, bufferTransmit } from './drivers/buffer';
export { gateEnter, gateLeave } from './gate';
export { deviceIdle, logIsRunning } from './in-flight-log';
export { iotlbInit, iotlbMap, iotlbTranslate, iotlbUnmap } from './iotlb';
export { mapPage, syncSingleForCpu, syncSingleForDevice, unmapPage } from './iova-domain';
export { blkComplete, blkPoll, blkPrepare, blkServe } from './models/blk';
export { requestGiveBurst, requestTakeBurst } from './request-burst';
export { requestFinish, requestPublish, requestRead, requestTake, requestWrite } from './request';
