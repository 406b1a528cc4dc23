import type { Aperture } from '../aperture/aperture.js';
import { isSystemError, RingbellError } from '../errors.js';
import {
  VDUSE_API_VERSION_1,
  VDUSE_CREATE_DEV,
  VDUSE_DESTROY_DEV,
  VDUSE_DEVICE_IDS,
  vduseDevConfig,
  vduseName,
} from '../uapi/vduse.js';
import { setConfig } from '../vduse/config-space.js';
import type { VduseControlFile, VduseFile } from '../vduse/file.js';
import { InFlightLog } from '../vduse/in-flight-log.js';
import { negotiate, type VduseProtocol } from '../vduse/protocol.js';
import { createDevice, openAbandoned } from '../vduse/take-over.js';

/** Bytes; alignment of rings that the driver is asked for. */
const VQ_ALIGN = 4096;

/** What a device shall be for its drivers. */
export interface DeviceNodeOptions {
  name: string;
  /** Virtio device id. */
  deviceId: number;
  /** Features that it offers. */
  features: bigint;
  queues: number;
  /** Entries. */
  queueSize: number;
  /** Groups of queues, each with an address space of its own. */
  groups: number;
  /** The config space. */
  config: Uint8Array;
  /** Newest VDUSE API version to speak. */
  apiVersion: number;
  /** What it served is gone with its process: it cannot be taken over. */
  volatile: boolean;
  /** Path of the in-flight log; undefined for none, in which case no device can be taken over. */
  log: string | undefined;
}

/** The open node of a VDUSE device that was created, or taken over from another process, with its in-flight log. */
export class DeviceNode {
  readonly protocol: VduseProtocol;
  readonly file: VduseFile;
  /** Whether another process had created it and left it on the bus. */
  readonly takenOver: boolean;
  readonly log: InFlightLog | undefined;
  readonly #control: VduseControlFile;
  /** The device is this process's: what it has not taken over yet, it leaves as it was. */
  #owned: boolean;

  /** Throws what the transport, or the log, has against it, and leaves nothing. The log is mapped into `aperture`. */
  static async open(
    control: VduseControlFile,
    options: DeviceNodeOptions,
    aperture: Aperture,
  ): Promise<DeviceNode> {
    const protocol = await negotiate(control, options.apiVersion);
    if (options.groups > 1 && protocol.apiVersion < VDUSE_API_VERSION_1)
      throw new RingbellError(
        'ERR_NOT_SUPPORTED',
        `groups of queues need API version ${VDUSE_API_VERSION_1} of VDUSE, not ${protocol.apiVersion}`,
      );
    const takenOver = !(await create(control, options, protocol));
    const { name, config } = options;
    let file: VduseFile | undefined;
    let log: InFlightLog | undefined;
    try {
      file = await (takenOver ? openAbandoned(control, name) : control.open(name));
      if (takenOver && options.volatile)
        throw new RingbellError(
          'ERR_TAKE_OVER',
          `${name} is on the bus already, and the memory of a disk is gone with the process that served it: take the device off the bus first`,
        );
      log = await openLog(control, options, protocol, takenOver, aperture);
      if (takenOver) await setConfig(file, config);
      return new DeviceNode(control, protocol, file, takenOver, log);
    } catch (error) {
      log?.close();
      // What cannot be undone does not hide why it was to be.
      await file?.close().catch(() => {});
      if (!takenOver) await control.ioctl(VDUSE_DESTROY_DEV, vduseName.encode(name)).catch(() => {});
      if (!takenOver) log?.remove();
      throw error;
    }
  }

  private constructor(
    control: VduseControlFile,
    protocol: VduseProtocol,
    file: VduseFile,
    takenOver: boolean,
    log: InFlightLog | undefined,
  ) {
    this.#control = control;
    this.protocol = protocol;
    this.file = file;
    this.takenOver = takenOver;
    this.log = log;
    this.#owned = !takenOver;
  }

  /** The take-over, if it is one, has succeeded: from now on `close` destroys the device. */
  own(): void {
    this.#owned = true;
  }

  /** Closes the node, and destroys the device. The log stays mapped if `abandoned`: a thread may be using it. */
  async close(abandoned: boolean): Promise<void> {
    if (!abandoned) this.log?.close();
    try {
      await this.file.close();
    } finally {
      await this.#destroy();
    }
  }

  async #destroy(): Promise<void> {
    if (!this.#owned) return;
    await this.#control.ioctl(VDUSE_DESTROY_DEV, vduseName.encode(this.file.name));
    // Not before: a device that stays, because a driver has it, can be taken over.
    this.log?.remove();
  }
}

/** False if the device is there already, and stays as it is. */
async function create(
  control: VduseControlFile,
  { name, deviceId, features, queues, groups, config, log }: DeviceNodeOptions,
  { apiVersion }: VduseProtocol,
): Promise<boolean> {
  // Version 0 has no names for one group and one address space.
  const named = apiVersion < VDUSE_API_VERSION_1 ? 0 : groups;
  const bytes = vduseDevConfig.encode({
    name,
    device_id: deviceId,
    features,
    vq_num: queues,
    vq_align: VQ_ALIGN,
    ngroups: named,
    nas: named,
    config_size: config.length,
    config,
  });
  try {
    if (log !== undefined) return await createDevice(control, name, bytes);
    await control.ioctl(VDUSE_CREATE_DEV, bytes);
    return true;
  } catch (error) {
    // Linux says no more than that it refuses; that it is for the type is likely for any but these.
    if (!isSystemError(error, 'EINVAL') || VDUSE_DEVICE_IDS.includes(deviceId)) throw error;
    throw new RingbellError(
      'ERR_CONTROL_PLANE',
      `${name}: VDUSE refuses device id ${deviceId}; Linux takes disks, network devices and file systems`,
      { cause: error, errno: error.errno, syscall: error.syscall },
    );
  }
}

/** Once the device node is open, which only one process can have: nobody else is using the log. */
async function openLog(
  control: VduseControlFile,
  { name, log, deviceId, queues, queueSize, features, config }: DeviceNodeOptions,
  protocol: VduseProtocol,
  takenOver: boolean,
  aperture: Aperture,
): Promise<InFlightLog | undefined> {
  if (log === undefined) return undefined;
  const instance = await control.instance(name);
  const shape = { instance, protocol, configSize: config.length, deviceId, queues, queueSize, features };
  return InFlightLog[takenOver ? 'adopt' : 'create'](log, shape, aperture);
}
