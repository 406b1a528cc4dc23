import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { u8, u16, u32, u64 } from '../../host/uapi/codec.js';
import {
  Attributes,
  decodeMessages,
  encodeAttribute,
  encodeMessage,
  genlmsghdr,
  NLM_F_ACK,
  NLM_F_REQUEST,
  nulString,
} from '../../host/uapi/netlink.js';
import {
  VDPA_ATTR_DEV_NAME,
  VDPA_ATTR_MGMTDEV_DEV_NAME,
  VDPA_CMD_DEV_NEW,
  VDPA_GENL_VERSION,
} from '../../host/uapi/vdpa.js';

const bytes = (hexadecimal: string) => new Uint8Array(Buffer.from(hexadecimal.replace(/\s/g, ''), 'hex'));

test('a request is laid out as the kernel reads it', () => {
  // struct nlmsghdr: length 48, type 0x1f, REQUEST | ACK, sequence number 3, port 0; struct genlmsghdr: DEV_NEW, version 1;
  // attribute 2, 4 + 6 bytes and 2 of padding; attribute 4, likewise.
  const expected = bytes(`
    2c000000 1f00 0500 03000000 00000000
    03 01 0000
    0a00 0200 76647573 65000000
    0a00 0400 6469736b 30000000`);
  assert.equal(
    encodeMessage(
      0x1f,
      NLM_F_REQUEST | NLM_F_ACK,
      3,
      genlmsghdr.encode({ cmd: VDPA_CMD_DEV_NEW, version: VDPA_GENL_VERSION }),
      encodeAttribute(VDPA_ATTR_MGMTDEV_DEV_NAME, nulString, 'vduse'),
      encodeAttribute(VDPA_ATTR_DEV_NAME, nulString, 'disk0'),
    ),
    expected,
  );
});

test('messages are taken apart, padding between them left out', () => {
  const first = encodeMessage(16, 2, 1, bytes('aabbcc'));
  const messages = decodeMessages(Buffer.concat([first, bytes('00'), encodeMessage(3, 0, 1)]));
  assert.equal(
    messages.map(({ type, flags, payload }) => [type, flags, [...payload]]),
    [
      [16, 2, [0xaa, 0xbb, 0xcc]],
      [3, 0, []],
    ],
  );
  assert.equal(decodeMessages(new Uint8Array(0)), []);
});

test('attributes are found by type, whatever flags they carry', () => {
  const attributes = new Attributes(
    Buffer.concat([
      bytes('0500 0380 07000000'),
      encodeAttribute(4, nulString, 'née'),
      encodeAttribute(5, u64, 2n ** 63n),
      encodeAttribute(6, nulString, 'a'),
      encodeAttribute(6, nulString, 'b'),
    ]),
  );
  assert.is(attributes.get(3, u8), 7);
  assert.is(attributes.get(4, nulString), 'née');
  assert.is(attributes.get(5, u64), 2n ** 63n);
  assert.equal(attributes.all(6, nulString), ['a', 'b']);
  assert.is(attributes.find(9, u32), undefined);
});

test('what is no message and no attribute is a RangeError that says what is wrong', () => {
  const refused = (call: () => unknown, says: RegExp) =>
    assert.throws(call, (error: Error) => error instanceof RangeError && says.test(error.message));
  refused(() => decodeMessages(bytes('10')), /nlmsghdr/);
  refused(() => decodeMessages(bytes('0f000000 0000 0000 00000000 00000000')), /15 bytes/);
  refused(() => decodeMessages(bytes('11000000 0000 0000 00000000 00000000')), /17 bytes, 16 are left/);
  refused(() => new Attributes(bytes('0300 0100')), /nlattr: 3 bytes/);
  refused(() => new Attributes(bytes('0900 0100 00000000')), /nlattr: 9 bytes, 8 are left/);
  const attributes = new Attributes(
    Buffer.concat([bytes('0600 0100 6100 0000'), bytes('0500 0200 61000000')]),
  );
  refused(() => attributes.get(1, u32), /attribute 1 has 2 bytes, a u32 4/);
  refused(() => attributes.get(2, nulString), /NUL/);
  refused(() => attributes.get(3, u16), /attribute 3 is missing/);
  refused(() => encodeAttribute(1, nulString, 'a\0b'), /NUL/);
  assert.throws(() => encodeAttribute(1, nulString, 1 as never), TypeError);
});

test.run();
