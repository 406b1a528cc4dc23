import { RingbellError } from '../errors.js';
import { NBD_OPTS_MAGIC, NBD_REP_ERR_NAMES, NBD_REP_FLAG_ERROR, NBD_REP_MAGIC } from './protocol.js';
import type { SocketReader } from './socket-reader.js';

/** Bytes of an option with no data, and of the header of a reply. */
const OPTION_SIZE = 16;
const REPLY_SIZE = 20;
/** Bytes of a reply, and replies to one option, at most: a sound server stays far below. */
const REPLY_LIMIT = 65536;
const REPLIES_LIMIT = 64;

/** One reply to an option. */
export interface OptionReply {
  /** NBD_REP_*. */
  type: number;
  data: Buffer;
}

/** Encodes an option. */
export function encodeOption(option: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(OPTION_SIZE + data.length);
  bytes.writeBigUInt64BE(NBD_OPTS_MAGIC, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(data.length, 12);
  bytes.set(data, OPTION_SIZE);
  return bytes;
}

/** Reads the replies to an option, up to one that is not of type `more`. Throws ERR_NBD_PROTOCOL. */
export async function readReplies(
  reader: SocketReader,
  option: number,
  more?: number,
): Promise<OptionReply[]> {
  const replies: OptionReply[] = [];
  do {
    if (replies.length === REPLIES_LIMIT)
      throw broken(`more than ${REPLIES_LIMIT} replies to option ${option}`);
    const header = await reader.read(REPLY_SIZE);
    if (header.readBigUInt64BE(0) !== NBD_REP_MAGIC) throw broken('a reply to an option without its magic');
    if (header.readUInt32BE(8) !== option)
      throw broken(`a reply to option ${header.readUInt32BE(8)} in place of ${option}`);
    const length = header.readUInt32BE(16);
    if (length > REPLY_LIMIT) throw broken(`a reply of ${length} bytes to option ${option}`);
    replies.push({ type: header.readUInt32BE(12), data: await reader.read(length) });
  } while (replies.at(-1)!.type === more);
  return replies;
}

/** Whether a reply is an error. */
export function isErrorReply({ type }: OptionReply): boolean {
  return (type & NBD_REP_FLAG_ERROR) !== 0;
}

/** What an error reply says, for people: its name, and the server's own words. */
export function errorReplyText({ type, data }: OptionReply): string {
  const number = type & ~NBD_REP_FLAG_ERROR;
  const name = NBD_REP_ERR_NAMES[number] ?? `error ${number}`;
  const words = printable(data);
  return words === '' ? name : `${name}, '${words}'`;
}

/** What a server wrote, on one line and without what a terminal would take for a command. */
export function printable(text: Buffer): string {
  return text
    .toString('utf8', 0, 256)
    .replace(/[\p{C}\p{Z}]+/gu, ' ')
    .trim();
}

function broken(what: string): RingbellError {
  return new RingbellError('ERR_NBD_PROTOCOL', `the server sent ${what}`);
}
