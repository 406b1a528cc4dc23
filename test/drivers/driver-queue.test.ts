import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PAGE_SIZE } from '../../assembly/layout.js';
import {
  VIRTIO_ID_BLOCK,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTQ_AVAIL_ALIGN,
  VIRTQ_DESC_ALIGN,
  VIRTQ_USED_ALIGN,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_RING,
} from '../../assembly/virtio.js';
import { DriverMemory } from '../../host/drivers/driver-memory.js';
import { DriverQueue, type SlotShape } from '../../host/drivers/driver-queue.js';

const SHAPES: Record<string, SlotShape> = {
  'three descriptors': { descriptors: 3, bytes: 128, holdsData: false },
  'one descriptor': { descriptors: 1, bytes: 1536, holdsData: true },
};

/** Makes a queue in just the memory that it says it takes, and takes it down. */
function withQueue(
  size: number,
  slot: SlotShape,
  features: bigint,
  act: (queue: DriverQueue, memory: DriverMemory) => void,
): void {
  const memory = new DriverMemory({
    name: 'driver-queue-test',
    coherentBytes: DriverQueue.coherentBytes(size, slot),
    bufferBytes: DriverQueue.bufferBytes(size, slot),
    arenaBytes: 0,
    privateBytes: DriverQueue.privateBytes(size, 128),
    doorbellBytes: 0,
    iovaRange: { first: 0n, last: 2n ** 64n - 1n },
    bounce: undefined,
  });
  const shape = { queueSize: size, maxQueueSize: size, slot, flightChains: 128 };
  const queue = new DriverQueue(memory, 0, shape, features, VIRTIO_ID_BLOCK);
  act(queue, memory);
  queue.close();
  memory.close();
}

for (const [name, slot] of Object.entries(SHAPES)) {
  test(`areas are aligned as the specification wants them: ${name}`, () => {
    for (let size = 4; size <= 1024; size *= 2)
      withQueue(size, slot, 0n, ({ rings }) => {
        assert.is(rings.desc % VIRTQ_DESC_ALIGN, 0);
        assert.is(rings.driver % VIRTQ_AVAIL_ALIGN, 0);
        assert.is(rings.device % VIRTQ_USED_ALIGN, 0);
      });
  });

  test(`no used entry lies on two pages: ${name}`, () => {
    for (let size = 4; size <= 1024; size *= 2)
      withQueue(size, slot, 0n, ({ rings }) => {
        for (let entry = 0; entry < size; entry++) {
          const start = rings.device + VIRTQ_USED_RING + entry * VIRTQ_USED_ENTRY_SIZE;
          const last = start + VIRTQ_USED_ENTRY_SIZE - 1;
          assert.is(Math.floor(start / PAGE_SIZE), Math.floor(last / PAGE_SIZE), `entry ${entry} of ${size}`);
        }
      });
  });
}

test('a queue holds as many requests as its descriptors allow', () => {
  const slots = (slot: SlotShape, features: bigint) => {
    let count = 0;
    withQueue(16, slot, features, (queue) => {
      count = queue.slots;
      assert.is(queue.free, count);
    });
    return count;
  };
  assert.is(slots({ descriptors: 3, bytes: 128, holdsData: false }, 0n), 5);
  assert.is(
    slots({ descriptors: 3, bytes: 128, holdsData: false }, 1n << BigInt(VIRTIO_RING_F_INDIRECT_DESC)),
    16,
  );
  assert.is(slots({ descriptors: 1, bytes: 1536, holdsData: true }, 0n), 16);
});

test.run();
