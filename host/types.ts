/**
 * Types behind the public API: what its signatures refer to, for programs that have to name it, above all a device model of
 * another kind than the ready ones. No classes to construct, and no promise: they may change with any version below 1.0.
 */

export type { Aperture, ApertureHandle, ApertureOptions, Window } from './aperture/aperture.js';
export type { Engine } from './aperture/engine.js';
export type { Memory } from './aperture/web-assembly.js';
export type { AttachedModel, LoopHooks, ModelContext } from './models/model.js';
export type { MapSource, Protection } from './native/addon.js';
export type {
  Datapath,
  DatapathModule,
  DatapathOptions,
  DatapathSource,
  LoopThread,
} from './queue/datapath.js';
export type { FlightRecorder } from './queue/flight-recorder.js';
export type { Gate } from './queue/gate.js';
export type { LatencyRecorder } from './queue/latency-recorder.js';
export type { QueueBlock, RingPlacement } from './queue/queue-block.js';
export type { LoopDatapath } from './queue/queue-loop.js';
export type { Fields, Initializer, Values } from './uapi/struct.js';
export type { BounceBuffer } from './vduse/device-layout.js';
export type { VduseControlFile, VduseFile } from './vduse/file.js';
export type { MmapRequest, VhostVdpaFile } from './vhost-vdpa/file.js';
export type { VfioBus } from './vhost-vdpa/mdev-dialect.js';
export type { VhostVdpaBus } from './vhost-vdpa/open.js';
export type { VfioContainerFile, VfioDeviceFile, VfioGroupFile } from './vhost-vdpa/vfio-file.js';
