import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { array, type Codec, char, flexible, s32, u8, u16, u32, u64 } from '../../host/uapi/codec.js';

const U64_MAX = 2n ** 64n - 1n;

function throws(call: () => unknown, type: typeof RangeError | typeof TypeError, message: RegExp): void {
  assert.throws(call, (error: Error) => error instanceof type && message.test(error.message));
}

test('integers keep the ends of their ranges', () => {
  const ends: [Codec<number>, number, number][] = [
    [u8, 0, 2 ** 8 - 1],
    [u16, 0, 2 ** 16 - 1],
    [u32, 0, 2 ** 32 - 1],
    [s32, -(2 ** 31), 2 ** 31 - 1],
  ];
  for (const [codec, min, max] of ends) {
    assert.is(codec.decode(codec.encode(min)), min, codec.name);
    assert.is(codec.decode(codec.encode(max)), max, codec.name);
    throws(() => codec.encode(min - 1), RangeError, /is not a [us]\d+/);
    throws(() => codec.encode(max + 1), RangeError, /is not a [us]\d+/);
  }
  assert.is(u64.decode(u64.encode(0n)), 0n);
  assert.is(u64.decode(u64.encode(U64_MAX)), U64_MAX);
  throws(() => u64.encode(U64_MAX + 1n), RangeError, /is not a u64/);
  throws(() => u64.encode(-1n), RangeError, /is not a u64/);
});

test('a number of the wrong kind is refused', () => {
  throws(() => u32.encode(1.5), RangeError, /1\.5 is not a u32/);
  throws(() => u32.encode(Number.NaN), RangeError, /NaN is not a u32/);
  throws(() => u32.encode(1n as unknown as number), TypeError, /expected a number, not a bigint/);
  throws(() => u64.encode(1 as unknown as bigint), TypeError, /expected a bigint, not a number/);
});

test('integers are little-endian', () => {
  assert.equal([...u16.encode(0x0102)], [2, 1]);
  assert.equal([...u32.encode(0x01020304)], [4, 3, 2, 1]);
  assert.equal([...s32.encode(-2)], [0xfe, 0xff, 0xff, 0xff]);
  assert.equal([...u64.encode(0x0102030405060708n)], [8, 7, 6, 5, 4, 3, 2, 1]);
});

test('a buffer that is part of another, or in shared memory, is read and written in place', () => {
  const shared = new Uint8Array(new SharedArrayBuffer(16));
  const part = shared.subarray(3, 11);
  u64.set(part, 0x1122334455667788n);
  assert.is(u64.decode(part), 0x1122334455667788n);
  assert.equal([...shared], [0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 0]);
});

test('a buffer that is too short is refused', () => {
  throws(() => u32.decode(new Uint8Array(3)), RangeError, /u32: takes 4 bytes, the buffer has 3/);
  throws(() => u32.set(new Uint8Array(3), 1), RangeError, /u32: takes 4 bytes, the buffer has 3/);
});

test('a name is NUL-terminated UTF-8', () => {
  const name = char(8);
  assert.equal([...name.encode('dé')], [0x64, 0xc3, 0xa9, 0, 0, 0, 0, 0]);
  assert.is(name.decode(name.encode('dé')), 'dé');
  assert.is(name.decode(name.encode('')), '');
  assert.is(name.decode(new Uint8Array(8).fill(0x61)), 'aaaaaaaa', 'without a NUL, all of it');
  const bytes = name.encode('longer');
  name.set(bytes, 'a');
  assert.equal([...bytes], [0x61, 0, 0, 0, 0, 0, 0, 0], 'nothing of the old name stays');
});

test('a name that does not fit, or has a NUL inside, is refused', () => {
  const name = char(8);
  assert.is(name.encode('1234567').length, 8);
  throws(() => name.encode('12345678'), RangeError, /takes at most 7 bytes/);
  throws(() => name.encode('éééé'), RangeError, /takes at most 7 bytes/);
  throws(() => name.encode('a\0b'), RangeError, /without a NUL/);
  throws(() => name.encode(7 as unknown as string), TypeError, /expected a string/);
});

test('an array has exactly its elements', () => {
  const codec = array(u16, 3);
  assert.is(codec.size, 6);
  assert.equal([...codec.encode([1, 2, 0x0304])], [1, 0, 2, 0, 4, 3]);
  assert.equal(codec.decode(codec.encode([1, 2, 3])), [1, 2, 3]);
  throws(() => codec.encode([1, 2]), RangeError, /takes 3 elements, not 2/);
  throws(() => codec.encode([1, 2, -1]), RangeError, /\[2\]: -1 is not a u16/);
});

test('a flexible array is a view of the rest of the buffer', () => {
  const bytes = flexible.encode(Uint8Array.of(1, 2, 3));
  const view = flexible.decode(bytes);
  assert.equal([...view], [1, 2, 3]);
  view[0] = 9;
  assert.is(bytes[0], 9);
  throws(() => flexible.set(bytes, new Uint8Array(4)), RangeError, /4 bytes, the buffer has room for 3/);
  throws(() => flexible.encode([1] as unknown as Uint8Array), TypeError, /expected a Uint8Array/);
});

test.run();
