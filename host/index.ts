/** The public API of ringbell, and nothing else. docs/api.md describes it. */

export { SharedMemory } from './aperture/shared-memory.js';
export {
  type AttachOptions,
  Bus,
  type BusDevice,
  type BusDriver,
  type BusOptions,
  type DirtyLogMemory,
  type DoorbellLayout,
  type DoorbellLayoutName,
  type Fault,
  type FaultInjection,
  type FaultOptions,
  type FaultPoint,
  type ParentKind,
} from './bus/index.js';
export type { Check, CheckArea, CheckState } from './check.js';
export type { OpenBlockOptions } from './drivers/blk.js';
export type { BlockBatch } from './drivers/block-batch.js';
export type { BlockConfig, BlockRangeLimits } from './drivers/block-config.js';
export type { BlockDisk, RequestOptions } from './drivers/block-disk.js';
export type { CompletionMode } from './drivers/completion-watch.js';
export type { ConsoleConfig } from './drivers/console-config.js';
export type { ConsolePortCallOptions, DrivenConsole } from './drivers/driven-console.js';
export type { DrivenConsolePort } from './drivers/driven-console-port.js';
export type {
  DrivenDevice,
  DrivenDeviceEvents,
  DrivenDeviceStats,
  DrivenQueueStats,
  ResetQueueOptions,
} from './drivers/driven-device.js';
export type { DriverQueueStats } from './drivers/driver-queue.js';
export type { EntropyReadOptions, EntropySource } from './drivers/entropy-source.js';
export type { OpenNetOptions } from './drivers/net.js';
export type { NetConfig } from './drivers/net-config.js';
export type { NetCallOptions, NetInterface } from './drivers/net-interface.js';
export type { OpenOptions } from './drivers/open-driven.js';
export {
  ERROR_CODES,
  type ErrnoName,
  type ErrorCode,
  RingbellError,
  type RingbellErrorOptions,
  type SystemError,
} from './errors.js';
export type {
  Flight,
  FlightKind,
  FlightRecord,
  FlightRecorderOptions,
  QueueFlight,
} from './flight.js';
export type { KernelAttachment } from './kernel-transport.js';
export { BlockDevice, type BlockDeviceOptions } from './models/blk/block-device.js';
export { BlockModel } from './models/blk/block-model.js';
export type { Chain } from './models/chain.js';
export { ConsoleDevice, type ConsoleDeviceOptions } from './models/console/console-device.js';
export type { ConsolePort, ConsolePortOptions } from './models/console/console-port.js';
export { DeviceModel } from './models/device-model.js';
export { EntropyDevice, type EntropyDeviceOptions } from './models/entropy/entropy-device.js';
export type { DeviceShape, Manifest } from './models/manifest.js';
export type { Model } from './models/model.js';
export type { Life } from './models/model-host.js';
export type { ModelQueue } from './models/model-queue.js';
export { NbdDisk, type NbdDiskEvents, type NbdDiskOptions } from './models/nbd/nbd-disk.js';
export { LoopbackNet } from './models/net/loopback-net.js';
export { type NetHeader, NO_OFFLOADS } from './models/net/net-header.js';
export { NetModel } from './models/net/net-model.js';
export type { NetOptions } from './models/net/net-options.js';
export type { NetStats } from './models/net/net-stats.js';
export { NetSwitch, type NetSwitchStats } from './models/net/net-switch.js';
export { TapNet, type TapNetOptions } from './models/net/tap-net.js';
export { OverlayDisk, type OverlayDiskOptions } from './models/overlay/overlay-disk.js';
export { WasmModel, type WasmModelOptions } from './models/wasm/wasm-model.js';
export { type ExposeOptions, type Exposure, expose } from './observability/expose.js';
export type { CaptureStats, CaptureTarget } from './observability/frame-capture.js';
export { METRICS_CONTENT_TYPE, metrics } from './observability/metrics.js';
export type { DeviceSnapshot, Observable, QueueSnapshot, Side } from './observability/snapshot.js';
export { openBlock } from './open-block.js';
export { openConsole } from './open-console.js';
export { openEntropy } from './open-entropy.js';
export { openNet } from './open-net.js';
export { type OpenVhostVdpaOptions, openVhostVdpa } from './open-vhost-vdpa.js';
export { type Probe, probe } from './probe.js';
export type { LatencySnapshot } from './queue/latency-recorder.js';
export type { QueueStats } from './queue/queue-stats.js';
export { type ServeOptions, serve } from './serve.js';
export { type DeviceState, readDeviceState } from './served/device-state.js';
export type { DirtyLog } from './served/dirty-log.js';
export type { DeviceStats, ServedDevice, ServedDeviceEvents } from './served/served-device.js';
export type * from './types.js';
export { array, type Codec, char, u8, u16, u32, u64 } from './uapi/codec.js';
export type { ConsoleSize } from './uapi/console-message.js';
export { type Struct, struct } from './uapi/struct.js';
export type { VdpaConfig } from './vdpa/config.js';
export type { VdpaDriver } from './vdpa/sysfs-device.js';
export {
  type ManagementDevice,
  VdpaBus,
  type VdpaDevice,
  type VdpaDeviceOptions,
} from './vdpa/vdpa-bus.js';
export type { DirtyRange } from './vduse/dirty-pages.js';
export type { MemTableOptions, VhostVdpa } from './vhost-vdpa/device.js';
export type { IotlbChange, IotlbRegion } from './vhost-vdpa/iotlb-mapper.js';
export type { MemoryRegion } from './vhost-vdpa/memory-table.js';
export type { Vring } from './vhost-vdpa/vring.js';
