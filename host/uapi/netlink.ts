/**
 * <linux/netlink.h>, <linux/genetlink.h>: the messages of generic netlink. A message is a header and, aligned to 4 bytes, a
 * second header and attributes; an attribute is a header and its payload, likewise aligned.
 */
import { Codec, s32, u8, u16, u32 } from './codec.js';
import { struct } from './struct.js';

/** Protocol of an AF_NETLINK socket: generic netlink, which hands out family ids at run time. */
export const NETLINK_GENERIC = 16;

// nlmsghdr.nlmsg_flags.
export const NLM_F_REQUEST = 1;
/** One of several messages, which NLMSG_DONE ends. */
export const NLM_F_MULTI = 2;
/** NLMSG_ERROR is wanted, with error 0 for success. */
export const NLM_F_ACK = 4;
/** Every entry of a table, instead of one. */
export const NLM_F_DUMP = 0x300;
/** Of NLMSG_ERROR: the payload of the request is left out behind nlmsgerr. */
export const NLM_F_CAPPED = 0x100;
/** Of NLMSG_ERROR and NLMSG_DONE: attributes follow, NLMSGERR_ATTR_*. */
export const NLM_F_ACK_TLVS = 0x200;

// nlmsghdr.nlmsg_type below the ids of families.
export const NLMSG_NOOP = 1;
/** A nlmsgerr: refusal, or acknowledgement. */
export const NLMSG_ERROR = 2;
/** The end of a dump; its payload is an int, 0 or a negative errno. */
export const NLMSG_DONE = 3;

/** Bytes. */
export const NLMSG_ALIGNTO = 4;
/** Bytes. */
export const NLA_ALIGNTO = 4;
/** The part of nlattr.nla_type that is the type: the other two bits are flags. */
export const NLA_TYPE_MASK = 0x3fff;

/** The reason of a refusal in words: a string. */
export const NLMSGERR_ATTR_MSG = 1;

/** The family that knows the others. */
export const GENL_ID_CTRL = 16;
export const CTRL_CMD_GETFAMILY = 3;
/** u16. */
export const CTRL_ATTR_FAMILY_ID = 1;
/** String. */
export const CTRL_ATTR_FAMILY_NAME = 2;

/** `nlmsg_len` counts header and payload, in bytes. */
export const nlmsghdr = struct('nlmsghdr', 16, {
  nlmsg_len: [u32, 0],
  nlmsg_type: [u16, 4],
  nlmsg_flags: [u16, 6],
  nlmsg_seq: [u32, 8],
  nlmsg_pid: [u32, 12],
});

/** `error` is 0 or a negative errno, `msg` the header of the request. */
export const nlmsgerr = struct('nlmsgerr', 20, { error: [s32, 0], msg: [nlmsghdr, 4] });

/** Second header of a generic netlink message. */
export const genlmsghdr = struct('genlmsghdr', 4, { cmd: [u8, 0], version: [u8, 1], reserved: [u16, 2] });

/** `nla_len` counts header and payload, in bytes. */
export const nlattr = struct('nlattr', 4, { nla_len: [u16, 0], nla_type: [u16, 2] });

class NulString extends Codec<string> {
  override lengthOf(value: string): number {
    return Buffer.byteLength(value) + 1;
  }

  override read(view: DataView, offset: number): string {
    const bytes = Buffer.from(view.buffer, view.byteOffset + offset, view.byteLength - offset);
    if (bytes.indexOf(0) !== bytes.length - 1)
      throw new RangeError('nul_string: a NUL must end it, and no other');
    return bytes.toString('utf8', 0, bytes.length - 1);
  }

  override write(view: DataView, offset: number, value: string, path: string): void {
    if (typeof value !== 'string') throw new TypeError(`${path}: expected a string, not a ${typeof value}`);
    if (value.includes('\0')) throw new RangeError(`${path}: takes no NUL`);
    Buffer.from(view.buffer, view.byteOffset + offset).write(`${value}\0`);
  }
}

/** The rest of the buffer as UTF-8 with a NUL at its end: payload of a string attribute. */
export const nulString: Codec<string> = new NulString('nul_string', 0);

/** A message, taken out of its buffer. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  /** What follows the header. */
  readonly payload: Uint8Array;
}

function align(bytes: number, to: number): number {
  return Math.ceil(bytes / to) * to;
}

/** A message of any protocol. */
export function encodeMessage(
  type: number,
  flags: number,
  seq: number,
  ...payload: readonly Uint8Array[]
): Uint8Array {
  const length = nlmsghdr.size + payload.reduce((sum, part) => sum + part.length, 0);
  const header = nlmsghdr.encode({
    nlmsg_len: length,
    nlmsg_type: type,
    nlmsg_flags: flags,
    nlmsg_seq: seq,
  });
  return new Uint8Array(Buffer.concat([header, ...payload], length));
}

/** The messages in a buffer. A RangeError for what is none. */
export function decodeMessages(bytes: Uint8Array): Message[] {
  return [...pieces(bytes, nlmsghdr, 'nlmsg_len', NLMSG_ALIGNTO)].map(({ header, payload }) => ({
    type: header.nlmsg_type,
    flags: header.nlmsg_flags,
    seq: header.nlmsg_seq,
    payload,
  }));
}

/** An attribute, padded to where the next one may start. */
export function encodeAttribute<I>(type: number, codec: Codec<unknown, I>, value: I): Uint8Array {
  const payload = codec.encode(value);
  const length = nlattr.size + payload.length;
  const bytes = new Uint8Array(align(length, NLA_ALIGNTO));
  nlattr.set(bytes, { nla_len: length, nla_type: type });
  bytes.set(payload, nlattr.size);
  return bytes;
}

/** The attributes of one message. */
export class Attributes {
  readonly #attributes: readonly { readonly type: number; readonly payload: Uint8Array }[];

  /** Reads a buffer of attributes. A RangeError for what is none. */
  constructor(bytes: Uint8Array) {
    this.#attributes = [...pieces(bytes, nlattr, 'nla_len', NLA_ALIGNTO)].map(({ header, payload }) => ({
      type: header.nla_type & NLA_TYPE_MASK,
      payload,
    }));
  }

  /** The value of an attribute. A RangeError where it is missing, or has another size. */
  get<T>(type: number, codec: Codec<T, never>): T {
    const value = this.find(type, codec);
    if (value === undefined) throw new RangeError(`attribute ${type} is missing`);
    return value;
  }

  /** The value of an attribute; undefined where it is missing. A RangeError where it has another size. */
  find<T>(type: number, codec: Codec<T, never>): T | undefined {
    return this.all(type, codec)[0];
  }

  /** The values of an attribute that may be there several times. A RangeError where one has another size. */
  all<T>(type: number, codec: Codec<T, never>): T[] {
    return this.#attributes
      .filter((attribute) => attribute.type === type)
      .map(({ payload }) => {
        if (codec.size > 0 && payload.length !== codec.size)
          throw new RangeError(
            `attribute ${type} has ${payload.length} bytes, a ${codec.name} ${codec.size}`,
          );
        return codec.decode(payload);
      });
  }
}

/** What lies one behind the other in a buffer: each with a header that has its length, each aligned. */
function* pieces<H extends object>(
  bytes: Uint8Array,
  codec: Codec<H, never>,
  lengthField: keyof H,
  alignment: number,
): Generator<{ header: H; payload: Uint8Array }> {
  for (let offset = 0; offset < bytes.length; ) {
    const header = codec.decode(bytes.subarray(offset));
    const length = header[lengthField] as number;
    if (length < codec.size || length > bytes.length - offset)
      throw new RangeError(`${codec.name}: ${length} bytes, ${bytes.length - offset} are left`);
    yield { header, payload: bytes.subarray(offset + codec.size, offset + length) };
    offset += align(length, alignment);
  }
}
