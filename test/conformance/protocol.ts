/** What every test of the two file seams needs: messages, arguments, a device that answers, waits that end. */
import * as assert from 'uvu/assert';
import { type ErrnoName, isSystemError, type SystemError } from '../../host/errors.js';
import { mask } from '../../host/uapi/bits.js';
import { u8, u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_BLOCK,
} from '../../host/uapi/virtio.js';
import type { VduseControlFile, VduseFile } from '../../host/vduse/file.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import { until, within } from '../waiting.js';

export { mask, until, within };

/** Milliseconds; a wait that takes longer is a failure. */
const WAIT_MS = 5000;

export const NAME = 'disk0';
export const FEATURES = mask(VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM);
export const LAST_IOVA = 2n ** 64n - 1n;
export const STATUS_FEATURES_OK =
  VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
export const STATUS_DRIVER_OK = STATUS_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;

/** Asserts that a call fails with an errno, and returns the error. */
export async function fails(
  call: Promise<unknown>,
  code: ErrnoName,
  syscall?: string,
  milliseconds = WAIT_MS,
): Promise<SystemError> {
  let error: unknown;
  try {
    await within(call, `waiting for ${code}`, milliseconds);
  } catch (caught) {
    error = caught;
  }
  assert.ok(isSystemError(error), `expected ${code}, got ${error ?? 'success'}`);
  assert.is(error.code, code, error.message);
  assert.ok(error.errno < 0);
  if (syscall) assert.is(error.syscall, syscall);
  return error;
}

export type Request = ReturnType<typeof vduse.vduseDevRequest.decode>;
export type Response = Parameters<typeof vduse.vduseDevResponse.encode>[0];

/** What a device under test says to a message: a reply, or nothing at all. */
export type Answer = (request: Request) => Response | undefined | Promise<Response | undefined>;

/** A device that reads its messages, keeps them, and answers each as it is told. */
export class Responder {
  /** Every message so far. */
  readonly requests: Request[] = [];
  answer: Answer = () => ({});
  readonly #file: VduseFile;

  constructor(file: VduseFile) {
    this.#file = file;
    void this.#run();
  }

  /** Messages of one type so far. */
  of(type: number): Request[] {
    return this.requests.filter((request) => request.type === type);
  }

  async #run(): Promise<void> {
    for (;;) {
      let request: Request;
      try {
        request = vduse.vduseDevRequest.decode(await this.#file.read());
      } catch {
        return;
      }
      this.requests.push(request);
      const response = await this.answer(request);
      if (!response) continue;
      const bytes = vduse.vduseDevResponse.encode({ request_id: request.request_id, ...response });
      await this.#file.write(bytes).catch(() => {});
    }
  }
}

/** A device that refuses whatever it is asked. */
export const REFUSED: Response = { result: vduse.VDUSE_REQ_RESULT_FAILED };

export interface DeviceOptions {
  name?: string;
  apiVersion?: bigint;
  vduseFeatures?: bigint;
  features?: bigint;
  deviceId?: number;
  queues?: number;
  queueSize?: number;
  ngroups?: number;
  nas?: number;
  config?: Uint8Array;
}

/** The argument of VDUSE_CREATE_DEV for a device with these options. */
export function deviceConfig(options: DeviceOptions = {}): Uint8Array {
  const config = options.config ?? new Uint8Array(16);
  const version1 = options.apiVersion === 1n;
  return vduse.vduseDevConfig.encode({
    name: options.name ?? NAME,
    device_id: options.deviceId ?? VIRTIO_ID_BLOCK,
    features: options.features ?? FEATURES,
    vq_num: options.queues ?? 2,
    vq_align: 4096,
    ngroups: options.ngroups ?? (version1 ? 1 : 0),
    nas: options.nas ?? (version1 ? 1 : 0),
    config_size: config.byteLength,
    config,
  });
}

/** Creates a device, opens it and sets its queues up. */
export async function createDevice(
  control: VduseControlFile,
  options: DeviceOptions = {},
): Promise<VduseFile> {
  await control.ioctl(vduse.VDUSE_SET_API_VERSION, u64.encode(options.apiVersion ?? 0n));
  if (options.vduseFeatures !== undefined)
    await control.ioctl(vduse.VDUSE_SET_FEATURES, u64.encode(options.vduseFeatures));
  await control.ioctl(vduse.VDUSE_CREATE_DEV, deviceConfig(options));
  const file = await control.open(options.name ?? NAME);
  for (let index = 0; index < (options.queues ?? 2); index++) {
    const setup = vduse.vduseVqConfig.encode({ index, max_size: options.queueSize ?? 256 });
    await file.ioctl(vduse.VDUSE_VQ_SETUP, setup);
  }
  return file;
}

/** An ioctl that gives a value. */
export async function get<T>(
  file: { ioctl(request: number, argument: Uint8Array): Promise<number> },
  request: number,
  codec: { size: number; decode(bytes: Uint8Array): T },
): Promise<T> {
  const argument = new Uint8Array(codec.size);
  assert.is(await file.ioctl(request, argument), 0);
  return codec.decode(argument);
}

export function getStatus(driver: VhostVdpaFile): Promise<number> {
  return get(driver, vhost.VHOST_VDPA_GET_STATUS, u8);
}

export async function setStatus(driver: VhostVdpaFile, status: number): Promise<void> {
  await driver.ioctl(vhost.VHOST_VDPA_SET_STATUS, u8.encode(status));
}

export function vringState(index: number, num: number): Uint8Array {
  return vhost.vhostVringState.encode({ index, num });
}

export function vringFile(index: number, fd: number): Uint8Array {
  return vhost.vhostVringFile.encode({ index, fd });
}

/** What the device sees of a queue. */
export async function vqInfo(
  device: VduseFile,
  index = 0,
): Promise<ReturnType<typeof vduse.vduseVqInfo.decode>> {
  const argument = vduse.vduseVqInfo.encode({ index });
  await device.ioctl(vduse.VDUSE_VQ_GET_INFO, argument);
  return vduse.vduseVqInfo.decode(argument);
}

/** An ioctl that gives a number about a queue. */
export async function askQueue(driver: VhostVdpaFile, request: number, index = 0): Promise<number> {
  const argument = vringState(index, 0);
  await driver.ioctl(request, argument);
  return vhost.vhostVringState.decode(argument).num;
}

/** One IOTLB message of version 2. */
export function iotlbMessage(
  type: number,
  body: { iova?: bigint; size?: bigint; uaddr?: bigint; perm?: number } = {},
  asid = 0,
): Uint8Array {
  const iotlb = { perm: vhost.VHOST_ACCESS_RW, ...body, type };
  return vhost.vhostMsgV2.encode({ type: vhost.VHOST_IOTLB_MSG_V2, asid, iotlb });
}
