import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { u16 } from '../../host/uapi/codec.js';
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
  NETLINK_GENERIC,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  nlmsgerr,
  nulString,
} from '../../host/uapi/netlink.js';
import { addon, inWorker, thrown } from './fixture.js';

/** A request to the family that is on every Linux machine: for one family by name, or for all. */
function getFamily(name?: string): Uint8Array {
  return encodeMessage(
    GENL_ID_CTRL,
    NLM_F_REQUEST | (name === undefined ? NLM_F_DUMP : NLM_F_ACK),
    7,
    genlmsghdr.encode({ cmd: CTRL_CMD_GETFAMILY, version: 1 }),
    ...(name === undefined ? [] : [encodeAttribute(CTRL_ATTR_FAMILY_NAME, nulString, name)]),
  );
}

const attributesOf = (payload: Uint8Array) => new Attributes(payload.subarray(genlmsghdr.size));

test('the kernel answers a request with the reply, then the acknowledgement', () => {
  const messages = decodeMessages(addon.netlink(NETLINK_GENERIC, getFamily('nlctrl')));
  assert.equal(
    messages.map(({ type }) => type),
    [GENL_ID_CTRL, NLMSG_ERROR],
  );
  assert.is(attributesOf(messages[0]!.payload).get(CTRL_ATTR_FAMILY_ID, u16), GENL_ID_CTRL);
  assert.is(nlmsgerr.decode(messages[1]!.payload).error, 0);
  for (const { seq } of messages) assert.is(seq, 7);
});

test('a dump is gathered up to its end', () => {
  const messages = decodeMessages(addon.netlink(NETLINK_GENERIC, getFamily()));
  const names = messages
    .slice(0, -1)
    .map(({ payload }) => attributesOf(payload).get(CTRL_ATTR_FAMILY_NAME, nulString));
  assert.ok(names.includes('nlctrl'), names.join(' '));
  assert.is(messages.at(-1)!.type, NLMSG_DONE);
});

test('a refusal is an answer, not an exception', () => {
  const messages = decodeMessages(addon.netlink(NETLINK_GENERIC, getFamily('no such family')));
  assert.is(messages.length, 1);
  assert.is(nlmsgerr.decode(messages[0]!.payload).error, -2);
});

test('an exchange on another thread gives the same', async () => {
  const [name, dump] = await Promise.all([
    addon.netlinkAsync(NETLINK_GENERIC, getFamily('nlctrl')),
    addon.netlinkAsync(NETLINK_GENERIC, getFamily()),
  ]);
  assert.is(decodeMessages(name).length, 2);
  assert.is(decodeMessages(dump).at(-1)!.type, NLMSG_DONE);
});

test('the request of an exchange on another thread may change at once', async () => {
  const request = getFamily('nlctrl');
  const answer = addon.netlinkAsync(NETLINK_GENERIC, request);
  request.fill(0);
  assert.is(decodeMessages(await answer).length, 2);
});

test('a protocol that there is not throws, or rejects', async () => {
  const refused = { name: 'Error', code: 'EPROTONOSUPPORT', errno: -93, syscall: 'socket' };
  assert.equal(
    thrown(() => addon.netlink(99, getFamily())),
    refused,
  );
  const error = await addon.netlinkAsync(99, getFamily()).catch((error) => error);
  assert.is(error.code, 'EPROTONOSUPPORT');
});

test('what would have no answer, or is no one message, is a RangeError', () => {
  const whole = getFamily('nlctrl');
  const silent = encodeMessage(
    GENL_ID_CTRL,
    NLM_F_REQUEST,
    7,
    genlmsghdr.encode({ cmd: CTRL_CMD_GETFAMILY }),
  );
  for (const request of [new Uint8Array(0), whole.subarray(0, 15), whole.subarray(0, -1), silent])
    for (const call of [addon.netlink, addon.netlinkAsync])
      assert.is(thrown(() => call(NETLINK_GENERIC, request)).name, 'RangeError');
  assert.is(thrown(() => addon.netlink('x' as never, whole)).name, 'TypeError');
  assert.is(thrown(() => addon.netlink(NETLINK_GENERIC, [] as never)).name, 'TypeError');
});

test('a worker that ends in the middle of an exchange takes nobody with it', async () => {
  const request = [...getFamily()];
  const done = await inWorker(
    ({ addon }, { protocol, request }, post) => {
      for (let i = 0; i < 20; i++) void addon.netlinkAsync(protocol, Uint8Array.from(request));
      post('started');
      process.exit();
    },
    { protocol: NETLINK_GENERIC, request },
  );
  assert.is(done, 'started');
});

test('exchanges leave no descriptor behind', async () => {
  const count = async () => (await import('node:fs')).readdirSync('/proc/self/fd').length;
  await addon.netlinkAsync(NETLINK_GENERIC, getFamily());
  const before = await count();
  for (let i = 0; i < 10; i++) {
    addon.netlink(NETLINK_GENERIC, getFamily('nlctrl'));
    await addon.netlinkAsync(NETLINK_GENERIC, getFamily('no such family'));
  }
  assert.is(await count(), before);
});

test.run();
