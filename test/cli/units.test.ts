import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  formatBytes,
  formatCount,
  formatMicroseconds,
  formatRatio,
  parseBytes,
} from '../../host/cli/units.js';

test('a size has a binary suffix, in either case, with or without iB', () => {
  assert.is(parseBytes('0'), 0);
  assert.is(parseBytes('512'), 512);
  assert.is(parseBytes('4k'), 4096);
  assert.is(parseBytes('4K'), 4096);
  assert.is(parseBytes('256M'), 256 * 2 ** 20);
  assert.is(parseBytes('1.5GiB'), 1.5 * 2 ** 30);
  assert.is(parseBytes('2 TB'), 2 ** 41);
  assert.is(parseBytes('7b'), 7);
});

test('what is no whole number of bytes is no size', () => {
  for (const text of [
    '',
    'k',
    '1.5',
    '-1',
    '4x',
    '1e3',
    '0x10',
    '1k2',
    'NaN',
    'Infinity',
    '99999999T',
    '0.0001k',
  ])
    assert.is(parseBytes(text), undefined, text);
});

test('numbers are written with their unit', () => {
  assert.is(formatBytes(512), '512 B');
  assert.is(formatBytes(4096), '4 KiB');
  assert.is(formatBytes(1.5 * 2 ** 30), '1.5 GiB');
  assert.is(formatCount(9999), '9999');
  assert.is(formatCount(123_456), '123.5 k');
  assert.is(formatCount(1_234_567), '1.23 M');
  assert.is(formatMicroseconds(7.26), '7.3');
  assert.is(formatMicroseconds(123_456), '123 456');
  assert.is(formatRatio(0), '0');
  assert.is(formatRatio(0.0625), '0.063');
  assert.is(formatRatio(0.00005), '5e-5');
});

test.run();
