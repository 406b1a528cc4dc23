import { LIFE_BLOCK_SIZE, LIFE_STATUS } from '../../assembly/layout.js';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK } from '../../assembly/virtio.js';
import type { Aperture } from '../../host/aperture/aperture.js';
import type { Chain } from '../../host/models/chain.js';
import { DeviceModel } from '../../host/models/device-model.js';
import { limitsOf, type Manifest } from '../../host/models/manifest.js';
import { ModelQueue } from '../../host/models/model-queue.js';
import { allocateQueueMemory } from '../../host/models/queue-memory.js';
import { QueueBlock } from '../../host/queue/queue-block.js';
import type { Ring } from '../ring/ring.js';
import type { Side } from '../ring/sides.js';

/** Bytes that each chain is said to have been written, as by the other sides. */
const USED_LENGTH = 1;

/** A device that does nothing with its chains but end them. */
class NullModel extends DeviceModel {
  override readonly manifest: Manifest;

  constructor(burst: number) {
    super();
    // No more are taken at once: so bursts are as long as those of the other sides.
    this.manifest = { deviceId: 1, limits: { inHand: burst } };
  }

  override handle(chains: readonly Chain[]): void {
    for (const chain of chains) chain.complete(USED_LENGTH);
  }
}

/** The contract of device models over a ring, without the event loop around it. */
export function modelSide(ring: Ring, burst: number): Side {
  const { memory, engine, data, vq } = ring;
  const aperture = {
    engine,
    memory,
    data,
    u8: new Uint8Array(memory.buffer),
    i32: new Int32Array(memory.buffer),
    u32: new Uint32Array(memory.buffer),
    u64: new BigUint64Array(memory.buffer),
    allocate: (bytes: number) => ring.allocate(bytes),
  } as unknown as Aperture;
  const life = ring.allocate(LIFE_BLOCK_SIZE);
  data.setUint32(life + LIFE_STATUS, VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK, true);
  const model = new NullModel(burst);
  const shape = { queues: 1, queueSize: ring.size };
  const failed = (error: unknown) => {
    throw error;
  };
  const host = model.serveBy({ aperture, shape, life, configChanged: async () => {}, failed });
  const block = new QueueBlock(aperture, vq);
  const memoryOfQueue = allocateQueueMemory(aperture, shape, limitsOf(model.manifest));
  const queue = new ModelQueue(host, 0, block, memoryOfQueue, {
    schedule: () => {},
    attention: () => {},
    failed,
  });
  return {
    start: (base) => engine.deviceStart(vq, base),
    drain: () => {
      let served = 0;
      for (let progress = queue.burst(); progress > 0; progress = queue.burst()) {
        served += progress;
        queue.settle();
      }
      return served;
    },
    takeDigest: () => undefined,
  };
}
