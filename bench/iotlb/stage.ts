import { SharedMemory } from '../../host/aperture/shared-memory.js';
import { Bus, type ParentKind } from '../../host/bus/index.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1, VIRTIO_ID_BLOCK } from '../../host/uapi/virtio.js';
import type { VduseFile } from '../../host/vduse/file.js';
import { VhostVdpa } from '../../host/vhost-vdpa/device.js';
import type { MemoryRegion } from '../../host/vhost-vdpa/memory-table.js';

/** Regions of a table. */
export const REGIONS = 256;
/** Regions that one table has changed from the other, spread evenly. */
export const CHANGED = 4;

/** Bytes. */
const REGION_BYTES = 4096;
const NAME = 'device';

/** What a change of the table costs. */
export interface Cost {
  microseconds: number;
  /** IOTLB messages. */
  messages: number;
  /** Times that the device's IOTLB was programmed. */
  programmings: number;
}

/** A device that takes whatever it is shown, and a driver that shows it one of two tables and the other in turn. */
export class Stage {
  readonly #bus: Bus;
  readonly #driver: VhostVdpa;
  readonly #counts: { messages: number; programmings: number };
  readonly #memory = SharedMemory.create(2 * REGIONS * REGION_BYTES);
  readonly #tables = [this.#table([]), this.#table(changedRegions())];
  #turn = 0;

  /** Puts the device on a bus of its own. */
  static async open(parent: ParentKind): Promise<Stage> {
    const bus = new Bus();
    const counts = { messages: 0, programmings: 0 };
    const device = await createDevice(bus);
    void answer(device, () => counts.programmings++);
    await bus.attach(NAME, { parent });
    const file = await bus.openVhostVdpa(NAME);
    const write = file.write.bind(file);
    file.write = (message) => {
      counts.messages++;
      return write(message);
    };
    const stage = new Stage(bus, await VhostVdpa.open(file), counts);
    await stage.#driver.setMemTable(stage.#tables[0]!);
    return stage;
  }

  private constructor(bus: Bus, driver: VhostVdpa, counts: { messages: number; programmings: number }) {
    this.#bus = bus;
    this.#driver = driver;
    this.#counts = counts;
  }

  /** Sets the other table by what it differs in. */
  setMemTable(): Promise<Cost> {
    return this.#change(async (table) => {
      await this.#driver.setMemTable(table);
    });
  }

  /** Takes everything away, and maps the other table. */
  mapAnew(): Promise<Cost> {
    return this.#change(async (table) => {
      await this.#driver.iotlb.unmapAll();
      await this.#driver.map(table);
    });
  }

  async close(): Promise<void> {
    await this.#driver.close();
    this.#memory.close();
    await this.#bus.close();
  }

  async #change(act: (table: readonly MemoryRegion[]) => Promise<void>): Promise<Cost> {
    this.#turn ^= 1;
    Object.assign(this.#counts, { messages: 0, programmings: 0 });
    const start = performance.now();
    await act(this.#tables[this.#turn]!);
    return { microseconds: (performance.now() - start) * 1000, ...this.#counts };
  }

  /** Regions with gaps between them. Those of `changed` lie elsewhere in the memory. */
  #table(changed: readonly number[]): MemoryRegion[] {
    return Array.from({ length: REGIONS }, (_, index) => ({
      iova: BigInt(2 * index * REGION_BYTES),
      bytes: BigInt(REGION_BYTES),
      address:
        this.#memory.address + BigInt((index + (changed.includes(index) ? REGIONS : 0)) * REGION_BYTES),
    }));
  }
}

function changedRegions(): number[] {
  return Array.from({ length: CHANGED }, (_, index) => Math.floor(((index + 0.5) * REGIONS) / CHANGED));
}

async function createDevice(bus: Bus): Promise<VduseFile> {
  const control = bus.control();
  await control.ioctl(vduse.VDUSE_SET_API_VERSION, u64.encode(BigInt(vduse.VDUSE_API_VERSION)));
  const features = [VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM].reduce(
    (all, bit) => all | (1n << BigInt(bit)),
    0n,
  );
  const config = {
    name: NAME,
    features,
    device_id: VIRTIO_ID_BLOCK,
    vq_num: 1,
    vq_align: 4096,
    config_size: 8,
  };
  await control.ioctl(
    vduse.VDUSE_CREATE_DEV,
    vduse.vduseDevConfig.encode({ ...config, config: new Uint8Array(config.config_size) }),
  );
  const device = await control.open(NAME);
  await device.ioctl(vduse.VDUSE_VQ_SETUP, vduse.vduseVqConfig.encode({ index: 0, max_size: 256 }));
  return device;
}

/** Answers whatever the device is told, until it is closed. */
async function answer(device: VduseFile, programmed: () => void): Promise<void> {
  for (;;) {
    const request = await device.read().catch(() => undefined);
    if (!request) return;
    const { type, request_id } = vduse.vduseDevRequest.decode(request);
    if (type === vduse.VDUSE_UPDATE_IOTLB) programmed();
    await device.write(vduse.vduseDevResponse.encode({ request_id }));
  }
}
