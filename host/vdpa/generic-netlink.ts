import { isSystemError, kernelError } from '../errors.js';
import { loadAddon } from '../native/addon.js';
import { s32, u16 } from '../uapi/codec.js';
import {
  Attributes,
  CTRL_ATTR_FAMILY_ID,
  CTRL_ATTR_FAMILY_NAME,
  CTRL_CMD_GETFAMILY,
  decodeMessages,
  encodeAttribute,
  encodeMessage,
  GENL_ID_CTRL,
  genlmsghdr,
  type Message,
  NETLINK_GENERIC,
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
  NLMSGERR_ATTR_MSG,
  nlmsgerr,
  nlmsghdr,
  nulString,
} from '../uapi/netlink.js';

/** Every exchange has a socket of its own, so that any number will do. */
const SEQUENCE_NUMBER = 1;
/** Of nlctrl's own messages. */
const CTRL_VERSION = 1;
/** What errors name in the place of a system call: several make up an exchange. */
const SYSCALL = 'netlink';

/**
 * A generic netlink family of the kernel. Requests that it refuses reject with a SystemError whose message has the kernel's
 * reason in words, where it gives one (extended acknowledgement).
 */
export class GenericNetlinkFamily {
  readonly name: string;
  readonly #id: number;
  readonly #version: number;

  /** Looks the family up. undefined where this kernel, or this network namespace, does not have it. */
  static find(name: string, version: number): GenericNetlinkFamily | undefined {
    const request = encodeRequest(GENL_ID_CTRL, NLM_F_ACK, CTRL_CMD_GETFAMILY, CTRL_VERSION, [
      encodeAttribute(CTRL_ATTR_FAMILY_NAME, nulString, name),
    ]);
    // At once: this family answers by itself and waits for nobody.
    const answer = loadAddon().netlink(NETLINK_GENERIC, request);
    try {
      const [family] = decodeAnswer(answer, GENL_ID_CTRL, `family ${name}`);
      return family && new GenericNetlinkFamily(name, version, family.get(CTRL_ATTR_FAMILY_ID, u16));
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  private constructor(name: string, version: number, id: number) {
    this.name = name;
    this.#version = version;
    this.#id = id;
  }

  /** Makes a request: the attributes of each reply, none where the kernel only acknowledges. `what` is for messages. */
  request(command: number, attributes: readonly Uint8Array[], what: string): Promise<Attributes[]> {
    return this.#exchange(NLM_F_ACK, command, attributes, what);
  }

  /** Asks for every entry of a table: the attributes of each. */
  dump(command: number, what: string): Promise<Attributes[]> {
    return this.#exchange(NLM_F_DUMP, command, [], what);
  }

  // On a thread of libuv's pool: a VDUSE device of this very process may have to answer first.
  async #exchange(
    flags: number,
    command: number,
    attributes: readonly Uint8Array[],
    what: string,
  ): Promise<Attributes[]> {
    const request = encodeRequest(this.#id, flags, command, this.#version, attributes);
    return decodeAnswer(await loadAddon().netlinkAsync(NETLINK_GENERIC, request), this.#id, what);
  }
}

function encodeRequest(
  family: number,
  flags: number,
  command: number,
  version: number,
  attributes: readonly Uint8Array[],
): Uint8Array {
  const header = genlmsghdr.encode({ cmd: command, version });
  return encodeMessage(family, NLM_F_REQUEST | flags, SEQUENCE_NUMBER, header, ...attributes);
}

/** The attributes of each reply in an answer. Throws a SystemError for a refusal, a RangeError for what is no answer. */
export function decodeAnswer(answer: Uint8Array, family: number, what: string): Attributes[] {
  const replies: Attributes[] = [];
  for (const message of decodeMessages(answer)) {
    if (message.type === NLMSG_NOOP) continue;
    if (message.seq !== SEQUENCE_NUMBER) throw new RangeError(`${what}: a reply to message ${message.seq}`);
    if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
      const errno = s32.decode(message.payload);
      if (errno < 0) throw kernelError(errno, SYSCALL, `${what}: ${reasonOf(message) ?? 'refused'}`);
      return replies;
    }
    if (message.type !== family) throw new RangeError(`${what}: a message of type ${message.type}`);
    // A header with no family behind it is a RangeError of the codec.
    genlmsghdr.decode(message.payload);
    replies.push(new Attributes(message.payload.subarray(genlmsghdr.size)));
  }
  throw new RangeError(`${what}: the answer has no end`);
}

/** What the kernel says of a refusal in words. */
function reasonOf({ type, flags, payload }: Message): string | undefined {
  if (!(flags & NLM_F_ACK_TLVS)) return undefined;
  let start = s32.size;
  if (type === NLMSG_ERROR) {
    start = nlmsgerr.size;
    // The request comes back whole where it is not left out.
    if (!(flags & NLM_F_CAPPED)) start += nlmsgerr.get(payload, 'msg').nlmsg_len - nlmsghdr.size;
  }
  return new Attributes(payload.subarray(start)).find(NLMSGERR_ATTR_MSG, nulString);
}
