import { systemError } from '../errors.js';
import { s32, u16, u32 } from '../uapi/codec.js';
import * as vhost from '../uapi/vhost.js';
import { type EventfdContext, eventfdOf } from './eventfd-context.js';
import { copyFromUser, copyToUser, userMemory } from './user-memory.js';
import type { VdpaDevice } from './vdpa-device.js';

/** The ioctls by which a driver learns what its device is and what its config space says. */
export class DeviceIoctls {
  readonly #device: VdpaDevice;
  #configCall: EventfdContext | undefined;

  constructor(device: VdpaDevice) {
    this.#device = device;
  }

  /** Carries an ioctl out, if it is one of these: whether it was. */
  ioctl(request: number, argument: Uint8Array | undefined): boolean {
    switch (request) {
      case vhost.VHOST_VDPA_GET_DEVICE_ID:
        copyToUser(u32, argument, this.#device.deviceId);
        return true;
      case vhost.VHOST_VDPA_GET_CONFIG:
        this.#getConfig(argument);
        return true;
      case vhost.VHOST_VDPA_GET_CONFIG_SIZE:
        copyToUser(u32, argument, this.#device.config.byteLength);
        return true;
      case vhost.VHOST_VDPA_SET_CONFIG_CALL:
        this.#setConfigCall(argument);
        return true;
      case vhost.VHOST_VDPA_GET_VRING_NUM:
        copyToUser(u16, argument, this.#device.getVqNumMax());
        return true;
      case vhost.VHOST_VDPA_GET_VQS_COUNT:
        copyToUser(u32, argument, this.#device.vqs.length);
        return true;
      default:
        return false;
    }
  }

  /** Part of the config space that an argument names. EINVAL where there is none. */
  configRange(argument: Uint8Array | undefined): { off: number; len: number } {
    const { off, len } = copyFromUser(vhost.vhostVdpaConfig, argument);
    const size = this.#device.config.byteLength;
    // vhost_vdpa_config_validate says E2BIG for a range past the end, and its callers make EINVAL of everything.
    if (len === 0 || off > size || len > size - off)
      throw systemError('EINVAL', 'ioctl', `the config space has ${size} bytes, not ${off} + ${len}`);
    return { off, len };
  }

  /** Unbinds the config call eventfd. */
  release(): void {
    this.#device.setConfigCb(undefined);
    this.#configCall?.put();
    this.#configCall = undefined;
  }

  #getConfig(argument: Uint8Array | undefined): void {
    const { off, len } = this.configRange(argument);
    const header = vhost.vhostVdpaConfig.size;
    userMemory(argument, header + len).set(this.#device.getConfig(off, len), header);
  }

  #setConfigCall(argument: Uint8Array | undefined): void {
    const configCall = eventfdOf(copyFromUser(s32, argument));
    this.#configCall?.put();
    this.#configCall = configCall;
    this.#device.setConfigCb(() => this.#configCall?.signal());
  }
}
