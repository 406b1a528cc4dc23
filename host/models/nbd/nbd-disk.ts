import type { EventEmitter } from 'node:events';
import { inspect } from 'node:util';
import { RingbellError } from '../../errors.js';
import { NbdClient } from '../../nbd/client.js';
import { ExportBytes } from '../../nbd/export-bytes.js';
import { parseNbdUri } from '../../nbd/uri.js';
import { checkBoolean, checkInteger, checkOptions, checkSignal } from '../../options.js';
import { VIRTIO_BLK_SECTOR_SIZE } from '../../uapi/virtio.js';
import { BLOCK_SIZE_LIMIT, encodeId } from '../blk/block-config.js';
import { BlockModel } from '../blk/block-model.js';

/** How an export of an NBD server is to be had. */
export interface NbdDiskOptions {
  /** Connections at most, from 1 to 16; more than one only where the server allows it. 4 if left out. */
  connections?: number;
  /** Milliseconds that a connection may leave a request, or an attempt to connect, without an answer; 30,000 if left out. */
  timeoutMs?: number;
  /** Milliseconds that requests wait where there is no connection, before they fail; 60,000 if left out. */
  deadConnTimeoutMs?: number;
  /** Refuse everything that changes the disk, also where the server would allow it. */
  readOnly?: boolean;
  /** Have what is written be durable when it is answered (FUA): none of it can be lost with the server. */
  writeThrough?: boolean;
  /** What GET_ID answers; at most 20 bytes of UTF-8. */
  id?: string;
  /** Gives connecting up; has no effect afterwards. */
  signal?: AbortSignal;
}

/** Events of a disk on an NBD server. */
export interface NbdDiskEvents {
  /** There is no connection: the last one is lost, or an attempt to make one has failed, for that reason. Requests wait. */
  reconnecting: [error: RingbellError];
  /** There is a connection again. */
  reconnected: [];
}

const OPTION_NAMES = [
  'connections',
  'timeoutMs',
  'deadConnTimeoutMs',
  'readOnly',
  'writeThrough',
  'id',
  'signal',
];
const CONNECTIONS_LIMIT = 16;
/** Milliseconds; the most that a timer can be set to. */
const MILLISECONDS_LIMIT = 2 ** 31 - 1;

/**
 * A disk that an NBD server exports. Connections that are lost are made again, and requests without an answer are sent again:
 * a driver sees a pause. Who has connected it closes it, after its device.
 */
export class NbdDisk extends BlockModel {
  readonly capacity: number;
  override readonly blockSize: number;
  override readonly readOnly: boolean;
  override readonly id: string;
  /** What happens to the connections. */
  readonly events: EventEmitter<NbdDiskEvents>;
  readonly #uri: string;
  readonly #client: NbdClient;
  readonly #bytes: ExportBytes;

  /**
   * Connects to the export that an NBD URI names. Rejects with ERR_ARGUMENT, ERR_NOT_SUPPORTED, ERR_NBD_CONNECT, ERR_NBD_TLS,
   * ERR_NBD_REFUSED, ERR_NBD_PROTOCOL, an AbortError.
   */
  static async connect(uri: string, options: NbdDiskOptions = {}): Promise<NbdDisk> {
    if (typeof uri !== 'string') throw new TypeError(`an NBD URI must be a string, not ${inspect(uri)}`);
    checkOptions('NbdDisk.connect', options, OPTION_NAMES);
    const { connections = 4, timeoutMs = 30_000, deadConnTimeoutMs = 60_000 } = options;
    checkInteger('connections', connections, 1, CONNECTIONS_LIMIT);
    checkInteger('timeoutMs', timeoutMs, 1, MILLISECONDS_LIMIT);
    checkInteger('deadConnTimeoutMs', deadConnTimeoutMs, 0, MILLISECONDS_LIMIT);
    checkBoolean('readOnly', options.readOnly);
    checkBoolean('writeThrough', options.writeThrough);
    encodeId(options.id ?? '');
    checkSignal(options.signal);
    const limits = { connections, timeoutMs, deadConnTimeoutMs };
    const client = await NbdClient.connect(parseNbdUri(uri), limits, options.signal);
    try {
      return new NbdDisk(uri, client, options);
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  private constructor(uri: string, client: NbdClient, options: NbdDiskOptions) {
    super();
    const { size, flush, fua, trim, writeZeroes, minimumBlock, readOnly } = client.export;
    if (options.writeThrough && !fua)
      throw new RingbellError('ERR_NOT_SUPPORTED', `${uri}: the server does not know FUA: no writeThrough`);
    // Sectors, and whole blocks: what is left at the end nobody could read.
    const unit = Math.max(minimumBlock, VIRTIO_BLK_SECTOR_SIZE);
    this.capacity = size - (size % unit);
    if (this.capacity === 0)
      throw new RingbellError('ERR_NOT_SUPPORTED', `${uri}: an export of ${size} bytes is no disk`);
    this.blockSize = Math.min(unit, BLOCK_SIZE_LIMIT);
    this.readOnly = readOnly || (options.readOnly ?? false);
    this.id = options.id ?? '';
    this.events = client;
    this.#uri = uri;
    this.#client = client;
    // Without FLUSH there is no other way to make anything durable.
    this.#bytes = new ExportBytes(client, fua && (options.writeThrough === true || !flush));
    // Only what the server knows is offered to the driver.
    if (flush) this.flush = () => client.flush();
    if (trim) this.discard = (offset, length) => this.#bytes.trim(offset, length);
    if (writeZeroes)
      this.writeZeroes = (offset, length, unmap) => this.#bytes.writeZeroes(offset, length, unmap);
  }

  /** Connections that there are now. */
  get connections(): number {
    return this.#client.connections;
  }

  /** Times that there was a connection again after there had been none. */
  get reconnects(): number {
    return this.#client.reconnects;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#bytes.read(offset, into);
  }

  override write(offset: number, from: Uint8Array): Promise<void> {
    return this.#bytes.write(offset, from);
  }

  /** Disconnects, after 10 seconds at most for requests that are on their way. Never throws; later calls wait too. */
  close(): Promise<void> {
    return this.#client.close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  override [inspect.custom](): string {
    return `NbdDisk { ${this.#uri}, ${this.capacity} bytes${this.readOnly ? ', read-only' : ''} }`;
  }
}
