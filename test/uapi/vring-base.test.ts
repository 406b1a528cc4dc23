import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  decodePackedVringBase,
  decodeSplitVringBase,
  encodePackedVringBase,
  encodeSplitVringBase,
  PACKED_VRING_BASE_RESET,
  SPLIT_VRING_BASE_RESET,
} from '../../host/uapi/vring-base.js';

const isRangeError = (error: Error) => error instanceof RangeError;
const fresh = { last_avail_counter: 1, last_avail_idx: 0, last_used_counter: 1, last_used_idx: 0 };

test('a split base is the avail index', () => {
  assert.is(encodeSplitVringBase({ avail_index: 0xffff }), 0xffff);
  assert.equal(decodeSplitVringBase(0x1234), { avail_index: 0x1234 });
  assert.equal(decodeSplitVringBase(SPLIT_VRING_BASE_RESET), { avail_index: 0 });
});

test('a split base of more than 16 bits is refused', () => {
  assert.throws(() => encodeSplitVringBase({ avail_index: 0x10000 }), isRangeError);
  assert.throws(() => decodeSplitVringBase(0x10000), isRangeError);
  assert.throws(() => decodeSplitVringBase(PACKED_VRING_BASE_RESET), isRangeError);
});

test('a fresh packed queue has both wrap counters set', () => {
  assert.is(PACKED_VRING_BASE_RESET, 0x80008000);
  assert.is(encodePackedVringBase(fresh), PACKED_VRING_BASE_RESET);
  assert.equal(decodePackedVringBase(PACKED_VRING_BASE_RESET), fresh);
});

test('a packed base keeps each index and each counter in its own bits', () => {
  const zero = { last_avail_counter: 0, last_avail_idx: 0, last_used_counter: 0, last_used_idx: 0 };
  const bits: [object, number][] = [
    [{ last_avail_idx: 0x7fff }, 0x00007fff],
    [{ last_avail_counter: 1 }, 0x00008000],
    [{ last_used_idx: 0x7fff }, 0x7fff0000],
    [{ last_used_counter: 1 }, 0x80000000],
  ];
  for (const [part, num] of bits) {
    assert.is(encodePackedVringBase({ ...zero, ...part }), num);
    assert.equal(decodePackedVringBase(num), { ...zero, ...part });
  }
  assert.is(encodePackedVringBase(decodePackedVringBase(0xffffffff)), 0xffffffff);
});

test('a packed position outside its bits is refused', () => {
  for (const part of [{ last_avail_idx: 0x8000 }, { last_used_idx: -1 }, { last_avail_counter: 2 }]) {
    assert.throws(() => encodePackedVringBase({ ...fresh, ...part }), isRangeError);
  }
  assert.throws(() => decodePackedVringBase(2 ** 32), isRangeError);
  assert.throws(() => decodePackedVringBase(-1), isRangeError);
});

test.run();
