import { PAGE_SIZE } from '../../assembly/layout.js';
import {
  VIRTIO_ID_NET,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_RECEIVEQ1,
  VIRTIO_NET_TRANSMITQ1,
} from '../../assembly/virtio.js';
import type { FlightRecorderOptions } from '../flight.js';
import { type CaptureTarget, checkCapture, FrameCapture } from '../observability/frame-capture.js';
import {
  checkBoolean,
  checkBus,
  checkMode,
  checkOptions,
  checkSignal,
  flightRecorderPlan,
} from '../options.js';
import { mask } from '../uapi/bits.js';
import type { VhostVdpaBus } from '../vhost-vdpa/open.js';
import type { CompletionMode } from './completion-watch.js';
import { type NetConfig, readNetConfig } from './net-config.js';
import { NetInterface } from './net-interface.js';
import { frameTableBytes, netSlot } from './net-queue.js';
import { checkQueueSizes, chooseQueueSizes, openDriven } from './open-driven.js';
import { ringFeatures } from './ring-features.js';

/** How to open a network device. */
export interface OpenNetOptions {
  /** Where names without a slash are looked up. */
  bus?: VhostVdpaBus | undefined;
  /** Entries of each queue, which is as many frames: a power of two. Default 256, or what the device has if that is less. */
  queueSize?: number | undefined;
  /** Entries that `resetQueue` can give a queue at most: memory is taken for as many. Default `queueSize`. */
  maxQueueSize?: number | undefined;
  /** 'notify' (default): completions by interrupt; 'poll': by looking on each turn of the event loop while any are due. */
  mode?: CompletionMode | undefined;
  /** Whether to use the event index where the device has it: fewer notifications. Default true. */
  eventIdx?: boolean | undefined;
  /** Whether to use packed rings where the device has them. Default true. */
  packed?: boolean | undefined;
  /** Whether to have packed rings used in order where the device does that: it tells of a batch at once. Default true. */
  inOrder?: boolean | undefined;
  /** Whether to kick by a mapped doorbell page where the device has one. Default true. */
  doorbell?: boolean | undefined;
  /**
   * Whether the device is to see bounce buffers in place of the driver's memory: the frames that are on their way, and nothing
   * beside them. Default false.
   */
  bounce?: boolean | undefined;
  /**
   * Where to write every frame that passes, as pcapng: a path, which is written anew, or a stream of bytes, which is left open at
   * the end. Default: nowhere.
   */
  capture?: CaptureTarget | undefined;
  /** Whether, and how, to record what the queues have done last, for when the device breaks. Default true. */
  flightRecorder?: boolean | FlightRecorderOptions | undefined;
  /** Gives opening up; afterwards closes the interface. */
  signal?: AbortSignal | undefined;
}

const OPTION_NAMES = [
  'bus',
  'queueSize',
  'maxQueueSize',
  'mode',
  'eventIdx',
  'packed',
  'inOrder',
  'doorbell',
  'bounce',
  'capture',
  'flightRecorder',
  'signal',
];
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
  validate(options);
  const mode = options.mode ?? 'notify';
  return openDriven(target, options, {
    deviceId: VIRTIO_ID_NET,
    queues: QUEUES,
    flightRecorder: options.flightRecorder,
    wanted: WANTED | ringFeatures(options),
    setUp: async (driver) => {
      const config = await readNetConfig(driver);
      const sizes = await chooseQueueSizes(driver, options, QUEUES, 1);
      const slot = netSlot(config.mtu);
      // Room for every slot: no frame ever waits for it.
      const bounceBytes = QUEUES * sizes.maxQueueSize * Math.ceil(slot.bytes / PAGE_SIZE) * PAGE_SIZE;
      await driver.setUp({
        queues: QUEUES,
        ...sizes,
        slot,
        bufferBytesPerQueue: 0,
        privateBytesPerQueue: frameTableBytes(sizes.maxQueueSize),
        arenaBytes: 0,
        bounce: options.bounce ? { first: bounceBytes, most: bounceBytes } : undefined,
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

function validate(options: OpenNetOptions): void {
  checkOptions('openNet', options, OPTION_NAMES);
  checkSignal(options.signal);
  checkBus(options.bus, ['openVhostVdpa']);
  checkQueueSizes(options, 1);
  checkBoolean('bounce', options.bounce);
  checkMode(options.mode);
  flightRecorderPlan(options.flightRecorder);
  checkCapture(options.capture);
}
