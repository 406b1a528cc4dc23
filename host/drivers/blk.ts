import { PAGE_SIZE, SLOT_DESCRIPTORS } from '../../assembly/layout.js';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_ID_BLOCK,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import type { FlightRecorderOptions } from '../flight.js';
import {
  checkBoolean,
  checkBus,
  checkInteger,
  checkMode,
  checkOptions,
  checkSignal,
  flightRecorderPlan,
} from '../options.js';
import { mask } from '../uapi/bits.js';
import type { VhostVdpaBus } from '../vhost-vdpa/open.js';
import { BlockDisk, readBlockConfig } from './block-disk.js';
import { BLOCK_SLOT, bufferBytes, tableBytes } from './block-queue.js';
import type { CompletionMode } from './completion-watch.js';
import type { BounceSize } from './iova-domain.js';
import { checkQueueSizes, chooseQueueSizes, openDriven } from './open-driven.js';
import { ringFeatures } from './ring-features.js';

/** How to open a disk. */
export interface OpenBlockOptions {
  /** Where names without a slash are looked up. */
  bus?: VhostVdpaBus | undefined;
  /** Queues to use, of those that the device has. Default 1. */
  queues?: number | undefined;
  /** Entries a queue: a power of two. Default 256, or what the device has if that is less. */
  queueSize?: number | undefined;
  /** Entries that `resetQueue` can give a queue at most: memory is taken for as many. Default `queueSize`. */
  maxQueueSize?: number | undefined;
  /** 'notify' (default): completions by interrupt; 'poll': by looking on each turn of the event loop while any are due. */
  mode?: CompletionMode | undefined;
  /** Whether to use indirect descriptors where the device has them: three times as many requests fit. Default true. */
  indirect?: boolean | undefined;
  /** Whether to use the event index where the device has it: fewer notifications. Default true. */
  eventIdx?: boolean | undefined;
  /** Whether to use packed rings where the device has them. Default true. */
  packed?: boolean | undefined;
  /** Whether to have packed rings used in order where the device does that: it tells of a batch at once. Default true. */
  inOrder?: boolean | undefined;
  /** Whether to kick by a mapped doorbell page where the device has one. Default true. */
  doorbell?: boolean | undefined;
  /** Bytes of buffer a request; longer reads and writes are split. Default 64 KiB. */
  slotBytes?: number | undefined;
  /** Bytes that `alloc` can give out. Default 16 MiB. */
  allocBytes?: number | undefined;
  /**
   * Whether the device is to see bounce buffers in place of the driver's memory: the bytes that a request is about, while it
   * lasts, and none beside them. Default false.
   */
  bounce?: boolean | undefined;
  /** Bytes of bounce buffers at most, from 1 MiB; requests wait where they are all taken. Default 64 MiB. */
  bounceBytes?: number | undefined;
  /** Whether, and how, to record what the queues have done last, for when the device breaks. Default false. */
  flightRecorder?: boolean | FlightRecorderOptions | undefined;
  /** Gives opening up; afterwards closes the disk. */
  signal?: AbortSignal | undefined;
}

/** What the 16 bits of num_queues can say. */
const QUEUES_MAX = 65535;
/** Bytes. */
const SLOT_BYTES_DEFAULT = 65536;
/** Bytes. */
const ALLOC_BYTES_DEFAULT = 2 ** 24;
/** Bytes: those of VDUSE's bounce_size. */
const BOUNCE_BYTES_MIN = 2 ** 20;
const BOUNCE_BYTES_MAX = 2 ** 30;
const BOUNCE_BYTES_DEFAULT = 2 ** 26;
/** Bytes; more would not fit an aperture next to anything else. */
const BYTES_MAX = 2 ** 31;

const WANTED = mask(
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_WRITE_ZEROES,
);
const OPTION_NAMES = [
  'bus',
  'queues',
  'queueSize',
  'maxQueueSize',
  'mode',
  'indirect',
  'eventIdx',
  'packed',
  'inOrder',
  'doorbell',
  'slotBytes',
  'allocBytes',
  'bounce',
  'bounceBytes',
  'flightRecorder',
  'signal',
];

/**
 * Opens a disk: by path ('/dev/vhost-vdpa-0'), or by name on `options.bus`. Rejects with ERR_ARGUMENT for an option that
 * makes no sense, ERR_NO_DEVICE, ERR_DEVICE_BUSY while it is open elsewhere, ERR_NOT_SUPPORTED for what the device does
 * not have, ERR_FEATURES, ERR_CONTROL_PLANE, an AbortError.
 */
export async function openBlock(target: string, options: OpenBlockOptions = {}): Promise<BlockDisk> {
  validate(options);
  const mode = options.mode ?? 'notify';
  const queues = options.queues ?? 1;
  const slotBytes = options.slotBytes ?? SLOT_BYTES_DEFAULT;
  return openDriven(target, options, {
    deviceId: VIRTIO_ID_BLOCK,
    queues,
    wanted:
      WANTED | ringFeatures(options) | (options.indirect === false ? 0n : mask(VIRTIO_RING_F_INDIRECT_DESC)),
    setUp: async (driver) => {
      const config = await readBlockConfig(driver);
      const offered = Math.min(config.queues, driver.device.queueCount ?? config.queues);
      if (queues > offered)
        throw new RingbellError('ERR_NOT_SUPPORTED', `queues: ${target} has ${offered}, not ${queues}`);
      // No chain may be longer than the queue, an indirect one included ("Indirect Descriptors").
      const sizes = await chooseQueueSizes(driver, options, queues, SLOT_DESCRIPTORS);
      await driver.setUp({
        queues,
        ...sizes,
        slot: BLOCK_SLOT,
        bufferBytesPerQueue: bufferBytes(sizes.maxQueueSize, slotBytes),
        privateBytesPerQueue: tableBytes(sizes.maxQueueSize),
        arenaBytes: options.allocBytes ?? ALLOC_BYTES_DEFAULT,
        bounce: options.bounce ? bounceSize(options.bounceBytes) : undefined,
        doorbell: options.doorbell ?? true,
      });
      return new BlockDisk(driver, config, { mode, slotBytes });
    },
  });
}

function validate(options: OpenBlockOptions): void {
  checkOptions('openBlock', options, OPTION_NAMES);
  checkSignal(options.signal);
  checkBus(options.bus, ['openVhostVdpa']);
  checkInteger('queues', options.queues, 1, QUEUES_MAX);
  // A request has three descriptors.
  checkQueueSizes(options, 4);
  checkInteger('slotBytes', options.slotBytes, VIRTIO_BLK_SECTOR_SIZE, BYTES_MAX);
  checkInteger('allocBytes', options.allocBytes, 0, BYTES_MAX);
  checkBoolean('bounce', options.bounce);
  checkInteger('bounceBytes', options.bounceBytes, BOUNCE_BYTES_MIN, BOUNCE_BYTES_MAX);
  checkMode(options.mode);
  flightRecorderPlan(options.flightRecorder);
  const { slotBytes = SLOT_BYTES_DEFAULT } = options;
  if (slotBytes % VIRTIO_BLK_SECTOR_SIZE !== 0)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `slotBytes must be a multiple of ${VIRTIO_BLK_SECTOR_SIZE}, not ${slotBytes}`,
    );
}

/** The largest request has room in the first ones. */
function bounceSize(bytes: number = BOUNCE_BYTES_DEFAULT): BounceSize {
  return { first: BOUNCE_BYTES_MIN, most: Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE };
}
