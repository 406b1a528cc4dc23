// The exports of engine.wasm, the very ones that the host calls, for a module beside it on the same memory.

// @ts-ignore: decorator
@external("engine", "copy")
export declare function copy(to: usize, from: usize, bytes: usize): void;

// @ts-ignore: decorator
@external("engine", "deviceArm")
export declare function deviceArm(vq: usize): u32;

// @ts-ignore: decorator
@external("engine", "deviceBreak")
export declare function deviceBreak(vq: usize, verdict: u32, head: u32): void;

// @ts-ignore: decorator
@external("engine", "deviceDisarm")
export declare function deviceDisarm(vq: usize): void;

// @ts-ignore: decorator
@external("engine", "devicePending")
export declare function devicePending(vq: usize): u32;

// @ts-ignore: decorator
@external("engine", "devicePop")
export declare function devicePop(vq: usize, max: u32): u32;

// @ts-ignore: decorator
@external("engine", "devicePush")
export declare function devicePush(vq: usize, count: u32): u32;

// @ts-ignore: decorator
@external("engine", "deviceResume")
export declare function deviceResume(vq: usize): u32;

// @ts-ignore: decorator
@external("engine", "deviceReturn")
export declare function deviceReturn(vq: usize, first: u32, end: u32): void;

// @ts-ignore: decorator
@external("engine", "deviceStart")
export declare function deviceStart(vq: usize, base: u32): void;

// @ts-ignore: decorator
@external("engine", "deviceWait")
export declare function deviceWait(vq: usize, spins: u32): u32;

// @ts-ignore: decorator
@external("engine", "dirtyFetch")
export declare function dirtyFetch(iotlb: usize, from: u64, ranges: usize, capacity: u32): u32;

// @ts-ignore: decorator
@external("engine", "dirtyMark")
export declare function dirtyMark(iotlb: usize, linear: usize, bytes: u32): void;

// @ts-ignore: decorator
@external("engine", "doorbellWatch")
export declare function doorbellWatch(queues: usize, mask: u32, spins: u32): u32;

// @ts-ignore: decorator
@external("engine", "driverArm")
export declare function driverArm(dq: usize): u32;

// @ts-ignore: decorator
@external("engine", "driverDisarm")
export declare function driverDisarm(dq: usize): void;

// @ts-ignore: decorator
@external("engine", "driverReset")
export declare function driverReset(dq: usize): void;

// @ts-ignore: decorator
@external("engine", "driverStart")
export declare function driverStart(dq: usize): void;

// @ts-ignore: decorator
@external("engine", "blkReap")
export declare function blkReap(dq: usize, table: usize, max: u32, min: u32, spins: u32): u32;

// @ts-ignore: decorator
@external("engine", "blkSubmit")
export declare function blkSubmit(dq: usize, table: usize, count: u32): u32;

// @ts-ignore: decorator
@external("engine", "bufferReap")
export declare function bufferReap(dq: usize, table: usize, max: u32): u32;

// @ts-ignore: decorator
@external("engine", "bufferReceive")
export declare function bufferReceive(dq: usize, table: usize, count: u32): u32;

// @ts-ignore: decorator
@external("engine", "bufferTransmit")
export declare function bufferTransmit(dq: usize, table: usize, count: u32): u32;

// @ts-ignore: decorator
@external("engine", "gateEnter")
export declare function gateEnter(vq: usize): u32;

// @ts-ignore: decorator
@external("engine", "gateLeave")
export declare function gateLeave(vq: usize): void;

// @ts-ignore: decorator
@external("engine", "iotlbInit")
export declare function iotlbInit(iotlb: usize, capacity: u32): void;

// @ts-ignore: decorator
@external("engine", "iotlbMap")
export declare function iotlbMap(iotlb: usize, iova: u64, bytes: u64, linear: u32, access: u32): u32;

// @ts-ignore: decorator
@external("engine", "iotlbTranslate")
export declare function iotlbTranslate(iotlb: usize, iova: u64, bytes: u32, access: u32): u32;

// @ts-ignore: decorator
@external("engine", "iotlbUnmap")
export declare function iotlbUnmap(iotlb: usize, first: u64, last: u64): u32;

// @ts-ignore: decorator
@external("engine", "mapPage")
export declare function mapPage(domain: usize, linear: u32, bytes: u32, direction: u32): u32;

// @ts-ignore: decorator
@external("engine", "syncSingleForCpu")
export declare function syncSingleForCpu(domain: usize, bounce: u32, offset: u32, bytes: u32): void;

// @ts-ignore: decorator
@external("engine", "syncSingleForDevice")
export declare function syncSingleForDevice(domain: usize, bounce: u32, offset: u32, bytes: u32): void;

// @ts-ignore: decorator
@external("engine", "unmapPage")
export declare function unmapPage(domain: usize, bounce: u32): void;

// @ts-ignore: decorator
@external("engine", "blkComplete")
export declare function blkComplete(vq: usize, disk: usize, io: usize, count: u32): u32;

// @ts-ignore: decorator
@external("engine", "blkPoll")
export declare function blkPoll(vq: usize, disk: usize, spins: u32, bursts: u32): u32;

// @ts-ignore: decorator
@external("engine", "blkPrepare")
export declare function blkPrepare(vq: usize, disk: usize, io: usize, max: u32): u32;

// @ts-ignore: decorator
@external("engine", "blkServe")
export declare function blkServe(vq: usize, disk: usize): u32;

// @ts-ignore: decorator
@external("engine", "requestFinish")
export declare function requestFinish(vq: usize, request: usize, written: u32): void;

// @ts-ignore: decorator
@external("engine", "requestPublish")
export declare function requestPublish(vq: usize, count: u32): u32;

// @ts-ignore: decorator
@external("engine", "requestRead")
export declare function requestRead(vq: usize, request: usize, offset: u32, to: usize, bytes: u32): u32;

// @ts-ignore: decorator
@external("engine", "requestTake")
export declare function requestTake(vq: usize, request: usize): u32;

// @ts-ignore: decorator
@external("engine", "requestWrite")
export declare function requestWrite(vq: usize, request: usize, offset: u32, from: usize, bytes: u32): u32;

// @ts-ignore: decorator
@external("engine", "deviceIdle")
export declare function deviceIdle(vq: usize): void;

// @ts-ignore: decorator
@external("engine", "logIsRunning")
export declare function logIsRunning(vq: usize): u32;

// @ts-ignore: decorator
@external("engine", "requestTakeBurst")
export declare function requestTakeBurst(vq: usize, table: usize, max: u32, bytes: u32): u32;

// @ts-ignore: decorator
@external("engine", "requestGiveBurst")
export declare function requestGiveBurst(vq: usize, table: usize, count: u32): u32;
