import { inspect } from 'node:util';
import {
  BLK_REQUEST_BYTES,
  IO_OP_DISCARD,
  IO_OP_PUNCH,
  IO_OP_READ,
  IO_OP_SYNC,
  IO_OP_WRITE,
  IO_OP_WRITE_THROUGH,
  IO_OP_ZERO,
} from '../../../assembly/layout.js';
import { RingbellError } from '../../errors.js';
import { checkOptions } from '../../options.js';
import { mask } from '../../uapi/bits.js';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1, VIRTIO_ID_BLOCK } from '../../uapi/virtio.js';
import type { AttachedModel, Model, ModelContext } from '../model.js';
import {
  type BlockGeometry,
  blockFeatures,
  checkBlockSize,
  checkCapacity,
  encodeBlockConfig,
  encodeId,
  SIZE_MAX,
} from './block-config.js';
import { createDatapath, type DiskBacking } from './block-datapath.js';
import { allocateDiskBlock, setDiskCapacity, setDiskMemory } from './disk-block.js';
import { DiskStorage } from './disk-storage.js';

/** What a BlockDevice is made of: exactly one of `file` and `memory`. */
export interface BlockDeviceOptions {
  /** Path of a raw image, or of a block device of the host. */
  file?: string;
  /** Bytes of a disk in memory; zeroed each time it is served. */
  memory?: number;
  /** Bytes of the file to make if there is none; sparse. */
  create?: number;
  /**
   * Give the file storage for all of its bytes when it is served or grows, and keep it: no write can find the file system
   * full. Discard is not offered then.
   */
  allocate?: boolean;
  /**
   * Map the file into the aperture and read it in WASM, instead of by vectored I/O; with `allocate`, write it so, too. An
   * I/O error then breaks the device (ERR_MEMORY_LOST), where vectored I/O fails the request.
   */
  mapped?: boolean;
  /** Refuse everything that changes the disk. */
  readOnly?: boolean;
  /** Open the file with O_DIRECT. */
  direct?: boolean;
  /** Bytes: 512 (default), 1024, 2048 or 4096. */
  blockSize?: number;
  /** What GET_ID answers; at most 20 bytes of UTF-8. */
  id?: string;
  /** Offer DISCARD, which gives storage back where the file system can; true unless the disk is read-only or keeps its storage. */
  discard?: boolean;
}

/** What the file of a disk in memory does: give memory back. */
const MEMORY_FILE_OPS = [IO_OP_PUNCH, IO_OP_DISCARD];
/** What the file of a mapped disk does: all that is more than moving bytes. */
const MAPPED_FILE_OPS = [IO_OP_SYNC, IO_OP_WRITE_THROUGH, IO_OP_ZERO, ...MEMORY_FILE_OPS];

const OPTION_NAMES = [
  'file',
  'memory',
  'create',
  'allocate',
  'mapped',
  'readOnly',
  'direct',
  'blockSize',
  'id',
  'discard',
];

/**
 * What the file of a mapped disk has to do. Linux keeps file I/O coherent with a shared mapping, both being the page cache,
 * and answers ENOSPC where the mapping would be a SIGBUS.
 */
function mappedFileOps(storage: DiskStorage): number[] {
  const ops = [...MAPPED_FILE_OPS];
  if (storage.storesMayFail) ops.push(IO_OP_WRITE);
  if (storage.loadsMayFail) ops.push(IO_OP_READ);
  return ops;
}

/**
 * A disk whose data path needs no JavaScript: in memory (served in WASM from end to end), in a file (one table of vectored
 * I/O for each burst), or in a file that is mapped into the aperture.
 */
export class BlockDevice implements Model {
  /** VIRTIO_ID_BLOCK. */
  readonly deviceId = VIRTIO_ID_BLOCK;
  readonly #options: BlockDeviceOptions;
  readonly #blockSize: number;
  readonly #readOnly: boolean;
  #storage: DiskStorage | undefined;

  /** Throws ERR_ARGUMENT for options that cannot be meant; files are opened when the device is served. */
  constructor(options: BlockDeviceOptions) {
    checkOptions('BlockDevice', options, OPTION_NAMES);
    const refuse = (message: string) => new RingbellError('ERR_ARGUMENT', message);
    if ((options.file === undefined) === (options.memory === undefined))
      throw refuse('BlockDevice needs either file or memory');
    if (options.file !== undefined && (typeof options.file !== 'string' || options.file === ''))
      throw refuse('file must be a path');
    for (const name of ['mapped', 'direct', 'create', 'allocate'] as const)
      if (options[name] && options.file === undefined) throw refuse(`${name} needs a file`);
    if (options.mapped && options.direct) throw refuse('a mapped file cannot be opened with direct');
    if (options.readOnly && options.create !== undefined) throw refuse('a read-only disk cannot be created');
    if (options.readOnly && options.allocate) throw refuse('a read-only disk cannot be allocated');
    if (options.allocate && options.discard) throw refuse('a disk that keeps its storage cannot discard');
    if (options.readOnly && options.discard) throw refuse('a read-only disk cannot discard');
    this.#blockSize = options.blockSize ?? 512;
    checkBlockSize(this.#blockSize);
    if (options.memory !== undefined) checkCapacity(options.memory, this.#blockSize, 'memory');
    if (options.create !== undefined) checkCapacity(options.create, this.#blockSize, 'create');
    encodeId(options.id ?? '');
    this.#readOnly = options.readOnly ?? false;
    this.#options = { ...options };
  }

  /** Bytes; of a file that is not being served, undefined. */
  get capacity(): number | undefined {
    return this.#storage?.bytes ?? this.#options.memory;
  }

  /** Whether everything that changes the disk is refused. */
  get readOnly(): boolean {
    return this.#readOnly;
  }

  /** Used by `serve`. */
  attach(context: ModelContext): AttachedModel {
    if (this.#storage) throw new RingbellError('ERR_DEVICE_BUSY', 'this BlockDevice is being served already');
    const storage = this.#open();
    try {
      const attached = this.#attach(storage, context);
      this.#storage = storage;
      return attached;
    } catch (error) {
      storage.close();
      throw error;
    }
  }

  #open(): DiskStorage {
    const { file, memory, direct = false, create, allocate = false } = this.#options;
    if (file === undefined) return DiskStorage.inMemory(memory!);
    return DiskStorage.inFile(file, { readOnly: this.#readOnly, direct, create, allocate });
  }

  #attach(storage: DiskStorage, context: ModelContext): AttachedModel {
    const { aperture, queues, queueSize } = context;
    const { file, mapped = false, allocate = false, id = '' } = this.#options;
    const { discard = !this.#readOnly && !allocate } = this.#options;
    checkCapacity(storage.bytes, this.#blockSize, `the size of ${file ?? 'the disk'}`);
    const geometry = (): BlockGeometry => ({
      capacity: storage.bytes,
      blockSize: this.#blockSize,
      readOnly: this.#readOnly,
      flush: !this.#readOnly,
      discard,
      writeZeroes: !this.#readOnly,
      sizeMax: SIZE_MAX,
      requestLimit: BLK_REQUEST_BYTES,
    });
    const disk = allocateDiskBlock(aperture, geometry(), id, context.sigbusFlag);
    const inMemory = file === undefined || mapped;
    if (inMemory) {
      const linear = storage.map(aperture, this.#readOnly || storage.storesMayFail ? 'r' : 'rw');
      setDiskMemory(aperture, disk, linear, mapped ? mappedFileOps(storage) : MEMORY_FILE_OPS);
    }
    const backings = queues.map(
      (queue): DiskBacking => ({
        disk,
        inMemory,
        fd: storage.fd,
        ioTable: queue.allocateIoTable(),
      }),
    );
    return {
      features: mask(
        VIRTIO_F_VERSION_1,
        VIRTIO_F_ACCESS_PLATFORM,
        ...blockFeatures(geometry(), queues.length),
      ),
      memoryLossIsFinal: mapped,
      volatile: file === undefined,
      usesInOrder: true,
      countsIoErrors: true,
      queueGroup: 1,
      config: () => encodeBlockConfig(geometry(), queues.length, queueSize),
      threadDatapath: (index) => ({
        module: new URL('block-datapath.js', import.meta.url).href,
        data: backings[index]!,
      }),
      loopDatapath: (index, { attention }) =>
        createDatapath(queues[index]!, backings[index]!, { pollers: 0, bursts: 1, attention }),
      resize: (bytes) => {
        checkCapacity(bytes, this.#blockSize, 'the new size');
        if (this.#readOnly) throw new RingbellError('ERR_READ_ONLY', 'a read-only disk cannot be resized');
        storage.resize(bytes);
        setDiskCapacity(aperture, disk, bytes);
      },
      close: () => {
        this.#storage = undefined;
        storage.close();
      },
    };
  }

  [inspect.custom](): string {
    const { file, memory, mapped } = this.#options;
    const where = file === undefined ? `${memory} bytes of memory` : `${file}${mapped ? ', mapped' : ''}`;
    return `BlockDevice { ${where}${this.#readOnly ? ', read-only' : ''} }`;
  }
}
