import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { Module, validate } from '../../host/aperture/web-assembly.js';
import { VERDICT_CODES } from '../../host/errors.js';

const bytes = readFileSync(new URL('../../engine.wasm', import.meta.url));
const source = readFileSync(new URL('../../../host/aperture/engine.ts', import.meta.url), 'utf8');

/** Ids of the sections of a WebAssembly binary, in order. */
function sections(binary: Uint8Array): number[] {
  const ids: number[] = [];
  for (let at = 8; at < binary.length; ) {
    ids.push(binary[at++]!);
    let size = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = binary[at++]!;
      size |= (byte & 127) << shift;
      if (byte < 128) break;
    }
    at += size;
  }
  return ids;
}

test('engine.wasm has no data segment: another instance on the same memory changes nothing', () => {
  assert.ok(validate(bytes));
  const [data, dataCount] = [11, 12];
  const ids = sections(bytes);
  assert.ok(ids.includes(10), 'the code section is found');
  assert.not.ok(ids.includes(data));
  assert.not.ok(ids.includes(dataCount));
});

test('it imports its memory and nothing else', () => {
  assert.equal(Module.imports(new Module(bytes)), [{ module: 'env', name: 'memory', kind: 'memory' }]);
});

test('its exports are the methods that the Engine interface declares, all functions', () => {
  const [, body] = /export interface Engine \{\n([\s\S]*?)\n\}/.exec(source) ?? [];
  const declared = [...body!.matchAll(/^ {2}(\w+)\(/gm)].map((match) => match[1]);
  const exported = Module.exports(new Module(bytes));
  assert.ok(declared.length > 20);
  assert.equal(exported.map((entry) => entry.name).sort(), declared.sort());
  assert.ok(exported.every((entry) => entry.kind === 'function'));
});

test('every verdict has an error code of its own', () => {
  const verdicts = Object.entries(layout).filter(
    ([name]) => name.startsWith('VERDICT_') && name !== 'VERDICT_NONE',
  );
  assert.is(verdicts.length, VERDICT_CODES.length - 1);
  const codes = verdicts.map(([, value]) => VERDICT_CODES[value as number]);
  assert.ok(codes.every(Boolean));
  assert.is(new Set(codes).size, codes.length);
});

test('u64 fields lie on multiples of 8, and what different threads write on lines of their own', () => {
  for (const field of [
    'VQ_REGION_IOVA',
    'VQ_REGION_BYTES',
    'VQ_FAULT_IOVA',
    'VQ_REQUESTS',
    'DQ_IOVA_DELTA',
    'DISK_CAPACITY',
    'IO_OFFSET',
    'IO_BYTES',
    'IO_RESULT',
    'SUBMISSION_SECTOR',
  ] as const)
    assert.is(layout[field] % 8, 0, field);
  const line = (offset: number) => Math.floor(offset / layout.CACHE_LINE);
  assert.is.not(line(layout.VQ_GATE), line(layout.VQ_LAST_AVAIL));
  assert.is.not(line(layout.VQ_GATE), line(layout.VQ_IO_ERRORS));
  assert.is.not(line(layout.VQ_SIZE), line(layout.VQ_LAST_AVAIL));
});

test.run();
