import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isSystemError, RingbellError } from '../../host/errors.js';
import { s32, u16, u32 } from '../../host/uapi/codec.js';
import {
  CTRL_ATTR_FAMILY_ID,
  CTRL_ATTR_FAMILY_NAME,
  CTRL_CMD_GETFAMILY,
  encodeAttribute,
  encodeMessage,
  GENL_ID_CTRL,
  genlmsghdr,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
  NLMSGERR_ATTR_MSG,
  nlmsgerr,
  nulString,
} from '../../host/uapi/netlink.js';
import { VDPA_GENL_NAME, VDPA_GENL_VERSION } from '../../host/uapi/vdpa.js';
import { decodeAnswer, GenericNetlinkFamily } from '../../host/vdpa/generic-netlink.js';
import { VdpaBus } from '../../host/vdpa/vdpa-bus.js';

/** Of nlctrl, and of the answers that are made up here. */
const VERSION = 2;
const FAMILY = 0x1f;
const SEQ = 1;

const reply = (value: number, seq = SEQ) =>
  encodeMessage(FAMILY, 0, seq, genlmsghdr.encode({ cmd: 1 }), encodeAttribute(7, u32, value));
const refusal = (errno: number, flags: number, ...rest: Uint8Array[]) =>
  encodeMessage(NLMSG_ERROR, flags, SEQ, nlmsgerr.encode({ error: errno, msg: { nlmsg_len: 24 } }), ...rest);
const done = (errno: number, flags = 0, ...rest: Uint8Array[]) =>
  encodeMessage(NLMSG_DONE, flags, SEQ, s32.encode(errno), ...rest);
const reason = encodeAttribute(NLMSGERR_ATTR_MSG, nulString, 'because');
const decode = (...messages: Uint8Array[]) => decodeAnswer(Buffer.concat(messages), FAMILY, 'a request');

/** What a call throws. */
function thrownBy(call: () => unknown): unknown {
  try {
    return call() && undefined;
  } catch (error) {
    return error;
  }
}

test('the family that every kernel has is found, and answers requests and dumps', async () => {
  const family = GenericNetlinkFamily.find('nlctrl', VERSION)!;
  const name = encodeAttribute(CTRL_ATTR_FAMILY_NAME, nulString, 'nlctrl');
  const [answer] = await family.request(CTRL_CMD_GETFAMILY, [name], 'nlctrl');
  assert.is(answer!.get(CTRL_ATTR_FAMILY_ID, u16), GENL_ID_CTRL);
  const names = (await family.dump(CTRL_CMD_GETFAMILY, 'families')).map((each) =>
    each.get(CTRL_ATTR_FAMILY_NAME, nulString),
  );
  assert.ok(names.includes('nlctrl'));
});

test('a family that there is not is undefined', () => {
  assert.is(GenericNetlinkFamily.find('ringbell-none', 1), undefined);
});

test('a refusal of the kernel rejects with its errno', async () => {
  const family = GenericNetlinkFamily.find('nlctrl', VERSION)!;
  const name = encodeAttribute(CTRL_ATTR_FAMILY_NAME, nulString, 'ringbell-none');
  const error = await family.request(CTRL_CMD_GETFAMILY, [name], 'a look').catch((error) => error);
  assert.ok(isSystemError(error, 'ENOENT'));
  assert.match(error.message, /^ENOENT: a look: .*, netlink$/);
  const unknown = await family.request(99, [], 'a look').catch((error) => error);
  assert.ok(isSystemError(unknown, 'EOPNOTSUPP'));
});

test('replies are gathered up to the acknowledgement, or to the end of the dump', () => {
  const numbers = (...messages: Uint8Array[]) =>
    decode(...messages).map((attributes) => attributes.get(7, u32));
  assert.equal(numbers(refusal(0, 0)), []);
  assert.equal(numbers(reply(5), refusal(0, 0)), [5]);
  assert.equal(numbers(reply(5), encodeMessage(NLMSG_NOOP, 0, 0), reply(6), done(0)), [5, 6]);
});

test('the reason of a refusal is found, with or without the request before it', () => {
  for (const [messages, message] of [
    [[refusal(-17, 0)], 'EEXIST: a request: refused, netlink'],
    [[refusal(-17, NLM_F_CAPPED)], 'EEXIST: a request: refused, netlink'],
    [[refusal(-19, NLM_F_CAPPED | NLM_F_ACK_TLVS, reason)], 'ENODEV: a request: because, netlink'],
    [[refusal(-19, NLM_F_ACK_TLVS, new Uint8Array(8), reason)], 'ENODEV: a request: because, netlink'],
    [[reply(1), done(-95, NLM_F_ACK_TLVS, reason)], 'EOPNOTSUPP: a request: because, netlink'],
    [[refusal(-524, 0)], 'ENOTSUPP: a request: refused, netlink'],
    [[refusal(-129, 0)], /^Unknown system error -129: a request/],
  ] as const) {
    const error = thrownBy(() => decode(...messages));
    assert.ok(isSystemError(error), `${error}`);
    if (typeof message === 'string') assert.is(error.message, message);
    else assert.match(error.message, message);
  }
});

test('what is no answer to the request is a RangeError', () => {
  for (const [messages, says] of [
    [[], /has no end/],
    [[reply(1)], /has no end/],
    [[reply(1, 9), done(0)], /a reply to message 9/],
    [[encodeMessage(99, 0, SEQ), done(0)], /a message of type 99/],
    [[encodeMessage(FAMILY, 0, SEQ), done(0)], /genlmsghdr/],
    [[encodeMessage(NLMSG_DONE, 0, SEQ)], /s32/],
  ] as const)
    assert.throws(
      () => decode(...messages),
      (error: Error) => error instanceof RangeError && says.test(error.message),
    );
});

test('a kernel without a vDPA bus is said to have none', () => {
  if (GenericNetlinkFamily.find(VDPA_GENL_NAME, VDPA_GENL_VERSION))
    return console.log('skipped: this kernel has a vDPA bus');
  assert.throws(
    () => new VdpaBus(),
    (error: unknown) =>
      error instanceof RingbellError &&
      error.code === 'ERR_NOT_SUPPORTED' &&
      /modprobe vdpa/.test(error.message),
  );
});

test.run();
