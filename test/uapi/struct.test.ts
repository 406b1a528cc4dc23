import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { flexible, u8, u32, u64 } from '../../host/uapi/codec.js';
import { Struct, struct } from '../../host/uapi/struct.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import * as virtio from '../../host/uapi/virtio.js';

const U64_MAX = 2n ** 64n - 1n;

const inner = struct('inner', 8, { a: [u32, 0], b: [u8, 4] });
const outer = struct('outer', 24, { id: [u64, 0], one: [inner, 8], two: [u32, 8], tail: [flexible, 24] });

function throws(call: () => unknown, type: typeof RangeError | typeof TypeError, message: RegExp): void {
  assert.throws(call, (error: Error) => error instanceof type && message.test(error.message));
}

test('members that are left out are zero', () => {
  assert.equal(inner.decode(inner.encode({ b: 7 })), { a: 0, b: 7 });
  assert.equal(inner.encode({}), new Uint8Array(8));
});

test('setting members in place leaves the others as they are', () => {
  const bytes = inner.encode({ a: 1, b: 2 });
  inner.set(bytes, { b: 3 });
  assert.equal(inner.decode(bytes), { a: 1, b: 3 });
  assert.is(inner.get(bytes, 'b'), 3);
});

test('structs nest, and the members of a union share their bytes', () => {
  const bytes = outer.encode({ one: { a: 0x01020304, b: 5 } });
  assert.equal([...bytes.subarray(8, 13)], [4, 3, 2, 1, 5]);
  assert.is(outer.get(bytes, 'two'), 0x01020304);
  assert.equal(outer.get(bytes, 'one'), { a: 0x01020304, b: 5 });
});

test('a flexible array member makes the buffer longer, and decodes as a view', () => {
  const bytes = outer.encode({ tail: Uint8Array.of(1, 2, 3) });
  assert.is(bytes.length, 27);
  outer.decode(bytes).tail[2] = 9;
  assert.is(bytes[26], 9);
  throws(
    () => outer.set(bytes, { tail: new Uint8Array(4) }),
    RangeError,
    /outer\.tail: 4 bytes, .* room for 3/,
  );
});

test('an error names the member', () => {
  throws(
    () => outer.encode({ one: { b: 256 } }),
    RangeError,
    /^outer\.one\.b: 256 is not a u8 \(0 to 255\)$/,
  );
  throws(() => outer.encode({ id: 1 as unknown as bigint }), TypeError, /^outer\.id: expected a bigint/);
});

test('a member that the struct lacks is refused', () => {
  // @ts-expect-error: not a member
  throws(() => inner.encode({ c: 1 }), TypeError, /inner has no member 'c'/);
  // @ts-expect-error: not a member
  throws(() => inner.get(inner.encode({}), 'c'), TypeError, /inner has no member 'c'/);
  throws(() => inner.encode({ toString: 1 } as object), TypeError, /inner has no member 'toString'/);
});

test('a buffer shorter than the struct is refused', () => {
  throws(() => inner.decode(new Uint8Array(7)), RangeError, /inner: takes 8 bytes, the buffer has 7/);
  throws(() => inner.get(new Uint8Array(7), 'a'), RangeError, /inner: takes 8 bytes/);
  throws(() => inner.set(new Uint8Array(7), { a: 1 }), RangeError, /inner: takes 8 bytes/);
});

test('every struct of the kernel survives decoding and encoding', () => {
  const structs = [vhost, vduse, virtio]
    .flatMap((module) => Object.values(module))
    .filter((value) => value instanceof Struct);
  assert.ok(structs.length >= 30);
  for (const codec of structs) {
    for (const fill of [0x00, 0x01, 0x7f]) {
      const bytes = new Uint8Array(codec.size + 5).fill(fill);
      // char[256] without a NUL does not encode again: the kernel never hands one out.
      if ('name' in codec.fields) bytes.fill(0, 255, 256);
      const again = codec.encode(codec.decode(bytes));
      assert.equal(codec.decode(again), codec.decode(bytes.subarray(0, again.length)), codec.name);
    }
  }
});

test('a vring state reads as the control plane writes it', () => {
  const argument = vhost.vhostVringState.encode({ index: 1, num: 256 });
  assert.equal([...argument], [1, 0, 0, 0, 0, 1, 0, 0]);
  vhost.vhostVringState.set(argument, { num: 0x80008000 });
  assert.is(vhost.vhostVringState.decode(argument).num, 0x80008000);
});

test('fd −1 unbinds an eventfd', () => {
  const argument = vhost.vhostVringFile.encode({ index: 2, fd: vhost.VHOST_FILE_UNBIND });
  assert.equal([...argument], [2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
  assert.is(vhost.vhostVringFile.decode(argument).fd, -1);
});

test('an IOTLB message of version 2 has its 72 bytes where the kernel reads them', () => {
  const message = vhost.vhostMsgV2.encode({
    type: vhost.VHOST_IOTLB_MSG_V2,
    asid: 3,
    iotlb: {
      iova: 0x1000n,
      size: U64_MAX,
      uaddr: 0x7f00_0000_2000n,
      perm: vhost.VHOST_ACCESS_RW,
      type: vhost.VHOST_IOTLB_UPDATE,
    },
  });
  const expected = new Uint8Array(72);
  expected.set([2, 0, 0, 0, 3, 0, 0, 0]);
  expected.set([0, 0x10, 0, 0, 0, 0, 0, 0], 8);
  expected.fill(0xff, 16, 24);
  expected.set([0, 0x20, 0, 0, 0, 0x7f, 0, 0], 24);
  expected.set([3, 2], 32);
  assert.equal(message, expected);
});

test('a VDUSE request decodes to each member of its union', () => {
  const bytes = new Uint8Array(152);
  bytes.set([vduse.VDUSE_UPDATE_IOTLB, 0, 0, 0, 0x2a, 0, 0, 0]);
  bytes.fill(0xff, 32, 40);
  bytes.set([1, 0, 0, 0], 40);
  const request = vduse.vduseDevRequest.decode(bytes);
  assert.is(request.request_id, 42);
  assert.equal(request.iova, { start: 0n, last: U64_MAX });
  assert.equal(request.iova_v2, { start: 0n, last: U64_MAX, asid: 1, padding: 0 });
  assert.is(vduse.vduseDevRequest.get(bytes, 'type'), vduse.VDUSE_UPDATE_IOTLB);
});

test('a VDUSE response carries the position of a split and of a packed queue', () => {
  const split = vduse.vduseDevResponse.encode({
    request_id: 7,
    result: vduse.VDUSE_REQ_RESULT_OK,
    vq_state: { index: 1, split: { avail_index: 0x0203 } },
  });
  assert.is(split.length, 152);
  assert.equal([...split.subarray(0, 8)], [7, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal([...split.subarray(24, 36)], [1, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0]);
  const packed = { last_avail_counter: 1, last_avail_idx: 2, last_used_counter: 0, last_used_idx: 4 };
  const response = vduse.vduseDevResponse.encode({ vq_state: { index: 1, packed } });
  assert.equal([...response.subarray(28, 36)], [1, 0, 2, 0, 0, 0, 4, 0]);
});

test('a device to create ends with its config space', () => {
  const argument = vduse.vduseDevConfig.encode({
    name: 'disk0',
    device_id: virtio.VIRTIO_ID_BLOCK,
    features: 1n << BigInt(virtio.VIRTIO_F_VERSION_1),
    vq_num: 1,
    config_size: virtio.virtioBlkConfig.size,
    config: virtio.virtioBlkConfig.encode({ capacity: 2048n, blk_size: 4096 }),
  });
  assert.is(argument.length, 336 + 60);
  const config = vduse.vduseDevConfig.decode(argument);
  assert.is(config.name, 'disk0');
  assert.is(config.features, 0x1_0000_0000n);
  assert.is(virtio.virtioBlkConfig.decode(config.config).capacity, 2048n);
  assert.is(virtio.virtioBlkConfig.decode(config.config).blk_size, 4096);
});

test.run();
