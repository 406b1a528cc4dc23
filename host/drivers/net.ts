import {
  ETH_HLEN,
  VIRTIO_ID_NET,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_HDR_SIZE,
  VIRTIO_NET_RECEIVEQ1,
  VIRTIO_NET_TRANSMITQ1,
} from '../../assembly/virtio.js';
import { type CaptureTarget, checkCapture, FrameCapture } from '../observability/frame-capture.js';
import { mask } from '../uapi/bits.js';
import { bufferPlan, bufferSlot } from './buffer-queue.js';
import { maxFrameBytes, type NetConfig, readNetConfig } from './net-config.js';
import { NetInterface } from './net-interface.js';
import { checkOpenOptions, chooseQueueSizes, type OpenOptions, openDriven } from './open-driven.js';
import { ringFeatures } from './ring-features.js';

/** How to open a network device. */
export interface OpenNetOptions extends OpenOptions {
  /**
   * Where to write every frame that passes, as pcapng: a path, which is written anew, or a stream of bytes, which is left open at
   * the end. Default: nowhere.
   */
  capture?: CaptureTarget | undefined;
}

/** The receive and the transmit queue of the first pair. */
const QUEUES = VIRTIO_NET_TRANSMITQ1 + 1;
// No offloads, no VIRTIO_NET_F_MRG_RXBUF: without the former every frame fits one buffer, and the latter would save nothing.
const WANTED = mask(VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS);

/**
 * Opens a network device: by path ('/dev/vhost-vdpa-0'), or by name on `options.bus`. Rejects with ERR_ARGUMENT for an
 * option that makes no sense, ERR_NO_DEVICE, ERR_DEVICE_BUSY while it is open elsewhere, ERR_NOT_SUPPORTED for what the
 * device does not have, ERR_FEATURES, ERR_CONTROL_PLANE, an AbortError, the SystemError of a capture file that cannot be written.
 */
export async function openNet(target: string, options: OpenNetOptions = {}): Promise<NetInterface> {
  checkOpenOptions('openNet', options, ['capture']);
  checkCapture(options.capture);
  const mode = options.mode ?? 'notify';
  return openDriven(target, options, {
    deviceId: VIRTIO_ID_NET,
    queues: QUEUES,
    wanted: WANTED | ringFeatures(options),
    setUp: async (driver) => {
      const config = await readNetConfig(driver);
      const sizes = await chooseQueueSizes(driver, options, QUEUES, 1);
      const slot = bufferSlot(VIRTIO_NET_HDR_SIZE, ETH_HLEN, maxFrameBytes(config.mtu));
      await driver.setUp({
        ...sizes,
        ...bufferPlan(slot, QUEUES, sizes.maxQueueSize, options.bounce),
        doorbell: options.doorbell ?? true,
      });
      const capture =
        options.capture === undefined ? undefined : await captureOf(options.capture, target, config);
      return new NetInterface(driver, config, { mode, capture });
    },
  });
}

/** One interface: the one pair of queues that is used. */
function captureOf(capture: CaptureTarget, target: string, { mac }: NetConfig): Promise<FrameCapture> {
  const queues = `receive queue ${VIRTIO_NET_RECEIVEQ1}, transmit queue ${VIRTIO_NET_TRANSMITQ1}`;
  return FrameCapture.open(capture, [{ name: target, description: `the driver's side: ${queues}`, mac }]);
}
