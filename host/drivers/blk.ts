import { SLOT_DESCRIPTORS } from '../../assembly/layout.js';
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
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTQUEUE_MAX_SIZE,
} from '../../assembly/virtio.js';
import { abortError, RingbellError } from '../errors.js';
import { checkBus, checkOptions, checkSignal } from '../options.js';
import { openVhostVdpaFile, type VhostVdpaBus } from '../vhost-vdpa/open.js';
import { BlockDisk, readBlockConfig } from './block-disk.js';
import { BLOCK_SLOT, bounceBytes, tableBytes } from './block-queue.js';
import type { CompletionMode } from './completion-watch.js';
import { VirtioDriver } from './virtio-driver.js';

/** How to open a disk. */
export interface OpenBlockOptions {
  /** Where names without a slash are looked up. */
  bus?: VhostVdpaBus | undefined;
  /** Queues to use, of those that the device has. Default 1. */
  queues?: number | undefined;
  /** Entries a queue: a power of two. Default 256, or what the device has if that is less. */
  queueSize?: number | undefined;
  /** 'notify' (default): completions by interrupt; 'poll': by looking on each turn of the event loop while any are due. */
  mode?: CompletionMode | undefined;
  /** Whether to use indirect descriptors where the device has them: three times as many requests fit. Default true. */
  indirect?: boolean | undefined;
  /** Whether to use the event index where the device has it: fewer notifications. Default true. */
  eventIdx?: boolean | undefined;
  /** Whether to kick by a mapped doorbell page where the device has one. Default true. */
  doorbell?: boolean | undefined;
  /** Bytes of bounce memory a request; longer reads and writes are split. Default 64 KiB. */
  slotBytes?: number | undefined;
  /** Bytes that `alloc` can give out. Default 16 MiB. */
  allocBytes?: number | undefined;
  /** Gives opening up; afterwards closes the disk. */
  signal?: AbortSignal | undefined;
}

/** Entries. */
const QUEUE_SIZE_DEFAULT = 256;
/** Bytes. */
const SLOT_BYTES_DEFAULT = 65536;
/** Bytes. */
const ALLOC_BYTES_DEFAULT = 2 ** 24;
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
  'mode',
  'indirect',
  'eventIdx',
  'doorbell',
  'slotBytes',
  'allocBytes',
  'signal',
];

/**
 * Opens a disk: by path ('/dev/vhost-vdpa-0'), or by name on `options.bus`. Rejects with ERR_ARGUMENT for an option that
 * makes no sense, ERR_NO_DEVICE, ERR_DEVICE_BUSY while it is open elsewhere, ERR_NOT_SUPPORTED for what the device does
 * not have, ERR_FEATURES, ERR_CONTROL_PLANE, an AbortError.
 */
export async function openBlock(target: string, options: OpenBlockOptions = {}): Promise<BlockDisk> {
  validate(options);
  const { signal } = options;
  const mode = options.mode ?? 'notify';
  const slotBytes = options.slotBytes ?? SLOT_BYTES_DEFAULT;
  if (signal?.aborted) throw abortError(signal);
  const driver = await VirtioDriver.connect(await openVhostVdpaFile(target, options.bus), {
    deviceId: VIRTIO_ID_BLOCK,
    wanted:
      WANTED |
      (options.indirect === false ? 0n : mask(VIRTIO_RING_F_INDIRECT_DESC)) |
      (options.eventIdx === false ? 0n : mask(VIRTIO_RING_F_EVENT_IDX)),
  });
  let disk: BlockDisk | undefined;
  try {
    const config = await readBlockConfig(driver);
    const queues = options.queues ?? 1;
    const offered = Math.min(config.queues, driver.device.queueCount ?? config.queues);
    if (queues > offered)
      throw new RingbellError('ERR_NOT_SUPPORTED', `queues: ${target} has ${offered}, not ${queues}`);
    const queueSize = await chooseQueueSize(driver, options.queueSize);
    await driver.setUp({
      queues,
      queueSize,
      slot: BLOCK_SLOT,
      sharedBytesPerQueue: bounceBytes(queueSize, slotBytes),
      privateBytesPerQueue: tableBytes(queueSize),
      arenaBytes: options.allocBytes ?? ALLOC_BYTES_DEFAULT,
      doorbell: options.doorbell ?? true,
    });
    disk = new BlockDisk(driver, config, { mode, slotBytes });
    await disk.start();
    if (signal?.aborted) throw abortError(signal);
    if (signal) closeOn(signal, disk);
    return disk;
  } catch (error) {
    await driver.device.fail().catch(() => {});
    await (disk ?? driver).close().catch(() => {});
    throw error;
  }
}

function closeOn(signal: AbortSignal, disk: BlockDisk): void {
  const close = () => void disk.close().catch(() => {});
  signal.addEventListener('abort', close, { once: true });
  disk.once('close', () => signal.removeEventListener('abort', close));
}

async function chooseQueueSize(driver: VirtioDriver, wanted: number | undefined): Promise<number> {
  const most = await driver.device.maxQueueSize(0);
  if (wanted !== undefined && wanted > most)
    throw new RingbellError(
      'ERR_NOT_SUPPORTED',
      `queueSize: queues of ${driver.device.name} have at most ${most} entries, not ${wanted}`,
    );
  // The kernel takes powers of two only, whatever the device's maximum.
  const size = wanted ?? 2 ** Math.floor(Math.log2(Math.min(most, QUEUE_SIZE_DEFAULT)));
  // No chain may be longer than the queue, an indirect one included ("Indirect Descriptors").
  if (size < SLOT_DESCRIPTORS)
    throw new RingbellError(
      'ERR_NOT_SUPPORTED',
      `queues of ${driver.device.name} have ${most} entries: too few for one request`,
    );
  return size;
}

function validate(options: OpenBlockOptions): void {
  checkOptions('openBlock', options, OPTION_NAMES);
  checkSignal(options.signal);
  checkBus(options.bus, ['openVhostVdpa']);
  const fail = (message: string): never => {
    throw new RingbellError('ERR_ARGUMENT', message);
  };
  const integer = (name: 'queues' | 'queueSize' | 'slotBytes' | 'allocBytes', low: number, high: number) => {
    const value = options[name];
    if (value !== undefined && (!Number.isInteger(value) || value < low || value > high))
      fail(`${name} must be an integer from ${low} to ${high}, not ${value}`);
  };
  integer('queues', 1, 65535);
  // A request has three descriptors.
  integer('queueSize', 4, VIRTQUEUE_MAX_SIZE);
  integer('slotBytes', VIRTIO_BLK_SECTOR_SIZE, BYTES_MAX);
  integer('allocBytes', 0, BYTES_MAX);
  const { queueSize = QUEUE_SIZE_DEFAULT, slotBytes = SLOT_BYTES_DEFAULT, mode = 'notify' } = options;
  if ((queueSize & (queueSize - 1)) !== 0) fail(`queueSize must be a power of two, not ${queueSize}`);
  if (slotBytes % VIRTIO_BLK_SECTOR_SIZE !== 0)
    fail(`slotBytes must be a multiple of ${VIRTIO_BLK_SECTOR_SIZE}, not ${slotBytes}`);
  if (mode !== 'notify' && mode !== 'poll') fail(`mode must be 'notify' or 'poll', not '${mode}'`);
}

function mask(...bits: number[]): bigint {
  return bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
}
