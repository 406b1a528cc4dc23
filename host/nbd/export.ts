import { RingbellError } from '../errors.js';
import {
  NBD_DEFAULT_MAXIMUM_PAYLOAD,
  NBD_DEFAULT_MINIMUM_BLOCK,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_INFO_BLOCK_SIZE_SIZE,
  NBD_INFO_EXPORT_SIZE,
  NBD_MINIMUM_BLOCK_LIMIT,
} from './protocol.js';

/** What a server says of its export when a connection is made. */
export interface NbdExport {
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  readonly flush: boolean;
  readonly fua: boolean;
  readonly trim: boolean;
  readonly writeZeroes: boolean;
  /** What one connection has flushed is flushed for all of them: there may be several. */
  readonly multiConn: boolean;
  /** Bytes: offsets and lengths are multiples of it; a power of two. */
  readonly minimumBlock: number;
  /** Bytes of data that one request moves at most. */
  readonly maximumPayload: number;
}

/** Size constraints of a server that states none. */
export const DEFAULT_CONSTRAINTS = {
  minimumBlock: NBD_DEFAULT_MINIMUM_BLOCK,
  maximumPayload: NBD_DEFAULT_MAXIMUM_PAYLOAD,
} as const;

/** Judges size and transmission flags. Throws ERR_NBD_PROTOCOL, ERR_NOT_SUPPORTED. */
export function readExport(
  size: bigint,
  flags: number,
  constraints: Pick<NbdExport, 'minimumBlock' | 'maximumPayload'>,
): NbdExport {
  if ((flags & NBD_FLAG_HAS_FLAGS) === 0) throw broken('transmission flags without NBD_FLAG_HAS_FLAGS');
  if (size > BigInt(Number.MAX_SAFE_INTEGER))
    throw new RingbellError('ERR_NOT_SUPPORTED', `an export of ${size} bytes is too large`);
  const has = (flag: number) => (flags & flag) !== 0;
  return {
    size: Number(size),
    readOnly: has(NBD_FLAG_READ_ONLY),
    flush: has(NBD_FLAG_SEND_FLUSH),
    fua: has(NBD_FLAG_SEND_FUA),
    trim: has(NBD_FLAG_SEND_TRIM),
    writeZeroes: has(NBD_FLAG_SEND_WRITE_ZEROES),
    multiConn: has(NBD_FLAG_CAN_MULTI_CONN),
    ...constraints,
  };
}

/** Reads an NBD_INFO_EXPORT, type included. Throws ERR_NBD_PROTOCOL. */
export function readInfoExport(info: Buffer): { size: bigint; flags: number } {
  if (info.length !== NBD_INFO_EXPORT_SIZE) throw broken(`NBD_INFO_EXPORT of ${info.length} bytes`);
  return { size: info.readBigUInt64BE(2), flags: info.readUInt16BE(10) };
}

/** Reads an NBD_INFO_BLOCK_SIZE, type included. Throws ERR_NBD_PROTOCOL. */
export function readInfoBlockSize(info: Buffer): Pick<NbdExport, 'minimumBlock' | 'maximumPayload'> {
  if (info.length !== NBD_INFO_BLOCK_SIZE_SIZE) throw broken(`NBD_INFO_BLOCK_SIZE of ${info.length} bytes`);
  const [minimum, preferred, maximum] = [info.readUInt32BE(2), info.readUInt32BE(6), info.readUInt32BE(10)];
  const isPowerOfTwo = (bytes: number) => bytes > 0 && Number.isInteger(Math.log2(bytes));
  const sound =
    isPowerOfTwo(minimum) &&
    minimum <= NBD_MINIMUM_BLOCK_LIMIT &&
    isPowerOfTwo(preferred) &&
    preferred >= minimum &&
    maximum >= preferred;
  if (!sound) throw broken(`block sizes ${minimum}, ${preferred}, ${maximum}`);
  // Whole blocks, and never more than any server takes for an attack.
  const bytes = Math.min(maximum, NBD_DEFAULT_MAXIMUM_PAYLOAD);
  return { minimumBlock: minimum, maximumPayload: bytes - (bytes % minimum) };
}

/** What a newly connected export lacks of one that is being served; undefined if it can take its place. */
export function whatChanged(before: NbdExport, now: NbdExport): string | undefined {
  if (now.size !== before.size) return `its size was ${before.size} bytes and is ${now.size}`;
  if (now.readOnly !== before.readOnly)
    return now.readOnly ? 'it has become read-only' : 'it is not read-only any more';
  for (const [feature, name] of [
    ['flush', 'FLUSH'],
    ['fua', 'FUA'],
    ['trim', 'TRIM'],
    ['writeZeroes', 'WRITE_ZEROES'],
  ] as const)
    if (before[feature] && !now[feature]) return `it knows ${name} no more`;
  if (now.minimumBlock > before.minimumBlock)
    return `its minimum block was ${before.minimumBlock} bytes and is ${now.minimumBlock}`;
  if (now.maximumPayload < before.maximumPayload)
    return `its maximum payload was ${before.maximumPayload} bytes and is ${now.maximumPayload}`;
  return undefined;
}

function broken(what: string): RingbellError {
  return new RingbellError('ERR_NBD_PROTOCOL', `the server sent ${what}`);
}
