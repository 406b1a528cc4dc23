import { fstatSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addressSpace } from '../../host/aperture/address-space.js';
import { Aperture } from '../../host/aperture/aperture.js';
import { SharedMemory } from '../../host/aperture/shared-memory.js';

test('is one mapping of a file, zeroed, in whole pages', () => {
  for (const bytes of [1, 4096, 65536, 2 ** 24 + 1]) {
    const memory = SharedMemory.create(bytes);
    const size = Math.ceil(bytes / 4096) * 4096;
    assert.is(memory.bytes.byteLength, size);
    assert.is(fstatSync(memory.fd).size, size);
    assert.ok(memory.bytes.every((byte) => byte === 0));
    assert.equal(addressSpace.resolve(memory.address, BigInt(size)), [
      { address: memory.address, bytes: BigInt(size), fd: memory.fd, offset: 0n },
    ]);
    memory.close();
  }
});

test('others map the file and see the same bytes', () => {
  const memory = SharedMemory.create(8192);
  const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 65536 });
  const window = aperture.map({ fd: memory.fd, offset: 4096n }, 4096, 'rw');
  memory.bytes[4096] = 42;
  assert.is(aperture.viewOwn(window)[0], 42);
  aperture.close();
  memory.close();
});

test('once closed it can be given to nobody, and is still there', () => {
  const memory = SharedMemory.create(4096);
  memory.bytes[0] = 7;
  memory.close();
  memory.close();
  assert.is(memory.bytes[0], 7);
  assert.equal(addressSpace.resolve(memory.address, 4096n), []);
});

test('no memory, and more than 3 GiB, is no memory', () => {
  for (const bytes of [0, -1, 1.5, Number.NaN, 2 ** 32, '1' as unknown as number])
    assert.throws(
      () => SharedMemory.create(bytes),
      (error: { code?: string }) => error.code === 'ERR_ARGUMENT',
    );
});

test.run();
