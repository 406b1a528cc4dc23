import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { DRIVER_LINEAR, Ring } from './fixture.js';

const NEXT = 1;
const WRITE = 2;

/** A ring with one chain at head 0: 10 + 20 readable bytes, 30 + 40 writable ones, in four places. */
function withChain(): Ring {
  const ring = new Ring();
  const places = [10, 20, 30, 40].map((bytes, i) => ({ bytes, linear: ring.buffers + i * 4096 }));
  places.forEach(({ bytes, linear }, i) => {
    ring.u8.fill(i + 1, linear, linear + bytes);
    ring.descriptor(i, ring.iova(linear), bytes, (i > 1 ? WRITE : 0) | (i < 3 ? NEXT : 0), i + 1);
  });
  ring.offer(0);
  return ring;
}

test('a request reads and writes its chain at any offset, across descriptors', () => {
  const ring = withChain();
  const scratch = ring.allocate(256);
  assert.is(ring.engine.requestTake(ring.vq, ring.request), 1);
  assert.is(ring.u32(ring.request + layout.REQUEST_READABLE_BYTES), 30);
  assert.is(ring.u32(ring.request + layout.REQUEST_WRITABLE_BYTES), 70);
  assert.is(ring.engine.requestRead(ring.vq, ring.request, 8, scratch, 100), 22);
  assert.equal([...ring.u8.slice(scratch, scratch + 23)], [1, 1, ...Array(20).fill(2), 0]);
  ring.u8.fill(9, scratch, scratch + 256);
  assert.is(ring.engine.requestWrite(ring.vq, ring.request, 25, scratch, 10), 10);
  assert.equal([...ring.u8.slice(ring.buffers + 8192 + 24, ring.buffers + 8192 + 31)], [3, 9, 9, 9, 9, 9, 0]);
  assert.equal([...ring.u8.slice(ring.buffers + 12288, ring.buffers + 12288 + 6)], [9, 9, 9, 9, 9, 4]);
});

test('a finished request is used with its length, capped to what is writable, once published', () => {
  const ring = withChain();
  ring.engine.requestTake(ring.vq, ring.request);
  ring.engine.requestFinish(ring.vq, ring.request, 1000);
  assert.equal(ring.usedEntries(), []);
  ring.engine.requestPublish(ring.vq, 1);
  assert.equal(ring.usedEntries(), [{ id: 0, bytes: 70 }]);
  ring.engine.requestFinish(ring.vq, ring.request, 1);
  ring.engine.requestPublish(ring.vq, 1);
  assert.is(ring.usedEntries().length, 1, 'a second finish changes nothing');
});

test('requests finish in any order', () => {
  const ring = new Ring();
  const requests = [0, 1, 2].map(() => ring.allocate(layout.REQUEST_DESCRIPTORS + 9 * 16));
  for (let i = 0; i < 3; i++) ring.descriptor(i, ring.iova(ring.buffers), 16, WRITE);
  ring.offer(0, 1, 2);
  for (const request of requests) assert.is(ring.engine.requestTake(ring.vq, request), 1);
  assert.is(ring.u32(ring.vq + layout.VQ_IN_FLIGHT), 3);
  for (const i of [2, 0, 1]) ring.engine.requestFinish(ring.vq, requests[i]!, i);
  ring.engine.requestPublish(ring.vq, 3);
  assert.equal(
    ring.usedEntries().map((entry) => entry.id),
    [2, 0, 1],
  );
});

test('a head that is made available while a request holds it breaks the queue', () => {
  const ring = withChain();
  ring.engine.requestTake(ring.vq, ring.request);
  ring.offer(0);
  const second = ring.allocate(layout.REQUEST_DESCRIPTORS + 9 * 16);
  assert.is(ring.engine.requestTake(ring.vq, second), 0);
  assert.is(ring.verdict(), layout.VERDICT_HEAD_IN_FLIGHT);
});

test('the mapping may go while a request is out: its bytes go nowhere, nothing faults', () => {
  const ring = withChain();
  const scratch = ring.allocate(256);
  ring.engine.requestTake(ring.vq, ring.request);
  ring.engine.iotlbUnmap(ring.iotlb, 0n, 2n ** 64n - 1n);
  assert.is(ring.engine.requestWrite(ring.vq, ring.request, 0, scratch, 70), 0);
  ring.map(ring.iova(DRIVER_LINEAR), DRIVER_LINEAR + 0x80000, 0x40000);
  assert.is(
    ring.engine.requestWrite(ring.vq, ring.request, 0, scratch, 70),
    70,
    'translated again, to where it is now',
  );
});

test('a read-only mapping that replaced a writable one is respected', () => {
  const ring = withChain();
  ring.engine.requestTake(ring.vq, ring.request);
  ring.engine.iotlbUnmap(ring.iotlb, 0n, 2n ** 64n - 1n);
  ring.map(ring.iova(DRIVER_LINEAR), DRIVER_LINEAR, 0x40000, layout.IOTLB_ACCESS_READ);
  assert.is(ring.engine.requestWrite(ring.vq, ring.request, 0, ring.allocate(128), 70), 0);
});

test('a request from before a reset is dropped', () => {
  const ring = withChain();
  ring.engine.requestTake(ring.vq, ring.request);
  ring.start();
  assert.is(ring.engine.requestWrite(ring.vq, ring.request, 0, ring.allocate(128), 70), 0);
  ring.engine.requestFinish(ring.vq, ring.request, 70);
  ring.engine.requestPublish(ring.vq, 1);
  assert.equal(ring.usedEntries(), []);
  assert.is(ring.u32(ring.vq + layout.VQ_IN_FLIGHT), 0);
});

test('descriptors are read once: what changes after the take is not seen', () => {
  const ring = withChain();
  ring.engine.requestTake(ring.vq, ring.request);
  for (let i = 0; i < 4; i++) ring.descriptor(i, 0xdead0000n, 0xffffffff, NEXT, 0);
  const scratch = ring.allocate(256);
  assert.is(ring.engine.requestRead(ring.vq, ring.request, 0, scratch, 100), 30);
});

test.run();
