import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DriverMemory, type DriverMemoryOptions } from '../../host/drivers/driver-memory.js';

const ALL_IOVAS = { first: 0n, last: 2n ** 64n - 1n };

function memory(options: Partial<DriverMemoryOptions> = {}): DriverMemory {
  return new DriverMemory({
    name: 'driver-memory-test',
    coherentBytes: 4096,
    bufferBytes: 61440,
    arenaBytes: 65536,
    privateBytes: 4096,
    doorbellBytes: 4096,
    iovaRange: ALL_IOVAS,
    bounce: undefined,
    ...options,
  });
}

/** Bytes of a memory file that the process has in its address space and in memory. */
function mapped(name: string): { bytes: number; resident: number } {
  const maps = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const ours = maps.filter((map) => map.includes(`memfd:${name} `));
  const sum = (label: string) =>
    ours.reduce(
      (total, map) => total + Number(new RegExp(`^${label}:\\s+(\\d+) kB`, 'm').exec(map)?.[1]) * 1024,
      0,
    );
  return { bytes: sum('Size'), resident: sum('Rss') };
}

test('puts IOVAs above 4 GiB where the device allows it', () => {
  const driver = memory();
  assert.ok(driver.region.iova > 2n ** 32n);
  assert.is(driver.region.bytes, 131072n);
  driver.close();
});

test('keeps to the IOVA range of the device, wherever it lies', () => {
  for (const first of [0n, 4096n, 4097n, 2n ** 40n, 2n ** 63n]) {
    const driver = memory({ iovaRange: { first, last: first + 2n ** 20n } });
    const { iova, bytes } = driver.region;
    assert.ok(iova >= first && iova + bytes - 1n <= first + 2n ** 20n, `from ${first}: ${iova}`);
    assert.ok(iova % 4096n === 0n && iova > 0n);
    // The sum that WASM makes of a linear address and the delta, modulo 2^64.
    assert.is(driver.iova(driver.takeCoherent(128)), iova);
    driver.close();
  }
  assert.throws(
    () => memory({ iovaRange: { first: 0n, last: 65535n } }),
    (error: { code: string; message: string }) =>
      error.code === 'ERR_NOT_SUPPORTED' &&
      /do not fit the device's IOVA range 0x0 to 0xffff/.test(error.message),
  );
});

test('takes no more than was asked for, and never the same twice', () => {
  const driver = memory();
  for (const [take, bytes] of [
    [() => driver.takeCoherent(1), 4096],
    [() => driver.take(1), 61440],
  ] as const) {
    const first = take();
    assert.is(take() - first, 128);
    for (let taken = 256; taken < bytes; taken += 128) take();
    assert.throws(take, (error: { code: string }) => error.code === 'ERR_APERTURE_FULL');
  }
  driver.close();
});

test('knows memory from alloc, and parts of it, from any other', () => {
  const driver = memory();
  const data = driver.alloc(4096);
  assert.is(driver.linearOf(data), data.byteOffset);
  assert.is(driver.linearOf(data.subarray(512)), data.byteOffset + 512);
  assert.is(driver.linearOf(new Uint8Array(512)), 0);
  // Memory of the driver itself, and memory not yet given out.
  assert.is(driver.linearOf(new Uint8Array(data.buffer, driver.take(512), 512)), 0);
  assert.is(driver.linearOf(new Uint8Array(data.buffer, data.byteOffset, 8192)), 0);
  driver.close();
});

test('closing gives everything back', () => {
  const driver = memory({ name: 'all-given-back' });
  driver.copyIn(driver.take(8192), new Uint8Array(8192).fill(1));
  assert.ok(mapped('all-given-back').resident >= 8192);
  driver.close();
  assert.equal(mapped('all-given-back'), { bytes: 0, resident: 0 });
});

test('closing gives bounce buffers back, whatever the application holds', () => {
  for (const holds of [false, true]) {
    const bounce = { first: 4096, most: 16384 };
    const driver = memory({ name: 'bounced', bounce });
    driver.takeCoherent(64);
    const data = holds ? driver.alloc(4096) : undefined;
    assert.is(mapped('bounced.domain').bytes, 4096 + bounce.most);
    driver.close();
    assert.is(mapped('bounced.domain').bytes, 0);
    if (data) assert.is(data.fill(1)[4095], 1);
  }
});

test('closing keeps what the application may still hold, and nothing else', () => {
  const driver = memory({ name: 'arena-kept' });
  driver.copyIn(driver.take(8192), new Uint8Array(8192).fill(1));
  const data = driver.alloc(4096).fill(2);
  driver.close();
  assert.equal(mapped('arena-kept'), { bytes: 65536, resident: 4096 });
  assert.is(data[4095], 2);
});

test('what the application let go of is given back, after any number of disks', async () => {
  const round = () => {
    const driver = memory({ name: 'let-go' });
    driver.alloc(4096).fill(1);
    driver.close();
  };
  for (let rounds = 0; rounds < 20; rounds++) round();
  // V8 frees memory of collected buffers in its own time.
  const deadline = performance.now() + 10_000;
  while (mapped('let-go').bytes > 0) {
    assert.ok(performance.now() < deadline, `${mapped('let-go').bytes} bytes are still mapped`);
    globalThis.gc?.();
    await new Promise(setImmediate);
  }
});

test.run();
