/**
 * One process that runs into one fault: `node scenario.js NAME`. Two devices are served; the first one's driver, file or
 * thread goes bad, the second one is used before and after. Prints {"code", "needsReset", "survivor"} and ends by itself.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { VIRTIO_CONFIG_S_NEEDS_RESET, VIRTQ_DESC_F_WRITE } from '../../assembly/virtio.js';
import {
  BlockDevice,
  type BlockDisk,
  Bus,
  openBlock,
  RingbellError,
  type ServedDevice,
  serve,
} from '../../host/index.js';
import { VHOST_ACCESS_RO } from '../../host/uapi/vhost.js';
import { HEADER, IOVA, RawDriver, STATUS_BYTE } from '../models/raw-driver.js';

const MIB = 2 ** 20;
const READ_ONLY_IOVA = 0x6000_0000_0000n;
const bus = new Bus();

/** Runs a driver that writes its own ring, and lets it do something bad. */
async function withRawDriver(act: (driver: RawDriver) => void | Promise<void>): Promise<Outcome> {
  const device = await serve(new BlockDevice({ memory: MIB }), { name: 'victim', bus });
  const driver = await RawDriver.open(bus, 'victim');
  await driver.start();
  const error = nextError(device);
  await act(driver);
  const { code } = await error;
  const needsReset = await seen(driver, VIRTIO_CONFIG_S_NEEDS_RESET);
  await driver.close();
  await device.close();
  return { code, needsReset };
}

interface Outcome {
  code: string;
  needsReset: boolean;
}

async function nextError(device: ServedDevice): Promise<RingbellError> {
  const [error] = await once(device, 'error');
  return error as RingbellError;
}

/** Whether the driver sees a status bit, within five seconds: the event may come before the status has reached it. */
async function seen(driver: RawDriver, bit: number): Promise<boolean> {
  for (let attempt = 0; attempt < 500; attempt++) {
    if ((await driver.status()) & bit) return true;
    await setTimeout(10);
  }
  return false;
}

/** Whether the driver of a broken device is told: its next request is refused. */
async function refused(disk: BlockDisk): Promise<boolean> {
  return disk.read(0, 512).then(
    () => false,
    (error) => error instanceof RingbellError && error.code === 'ERR_DEVICE_BROKEN',
  );
}

const header = { addr: IOVA + BigInt(HEADER), len: 16 };
const status = { addr: IOVA + BigInt(STATUS_BYTE), len: 1, flags: VIRTQ_DESC_F_WRITE };

const SCENARIOS: Record<string, () => Promise<Outcome>> = {
  'hostile descriptor': () =>
    withRawDriver((driver) => {
      driver.describe([{ ...header, next: 999 }, status]);
      driver.offer(0);
    }),

  'read-only window': () =>
    withRawDriver(async (driver) => {
      // The same memory once more, for reading only: the status byte must not be written there.
      await driver.map(VHOST_ACCESS_RO, READ_ONLY_IOVA);
      driver.describe([header, { ...status, addr: READ_ONLY_IOVA + BigInt(STATUS_BYTE) }]);
      driver.offer(0);
    }),

  'unmapped IOVA': () =>
    withRawDriver((driver) => {
      driver.describe([header, { ...status, addr: 0xdead_0000_0000n }]);
      driver.offer(0);
    }),

  'truncated backing file': async () => {
    const directory = mkdtempSync(join(tmpdir(), 'ringbell-faults-'));
    try {
      const file = join(directory, 'disk.img');
      writeFileSync(file, Buffer.alloc(MIB, 1));
      const device = await serve(new BlockDevice({ file, mapped: true }), { name: 'victim', bus });
      const disk = await openBlock('victim', { bus });
      await disk.read(0, 4096);
      const error = nextError(device);
      truncateSync(file, 0);
      await disk.read(MIB / 2, 4096).catch(() => {});
      const { code } = await error;
      const needsReset = await refused(disk);
      await disk.close();
      await device.close();
      return { code, needsReset };
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },

  'worker killed in mid-request': async () => {
    const device = await serve(new BlockDevice({ memory: MIB }), { name: 'victim', bus, mode: 'poll' });
    const disk = await openBlock('victim', { bus });
    await disk.read(0, 4096);
    const error = nextError(device);
    const requests = Array.from({ length: 200 }, (_, i) => disk.read((i % 200) * 4096, 4096).catch(() => {}));
    await device.queueThreads[0]?.terminate();
    const { code } = await error;
    await Promise.all(requests);
    const needsReset = await refused(disk);
    await disk.close();
    await device.close();
    return { code, needsReset };
  },
};

/** The neighbour: written to before the fault, read after it. */
const neighbour = await serve(new BlockDevice({ memory: MIB }), { name: 'neighbour', bus });
const disk = await openBlock('neighbour', { bus });
await disk.write(0, Buffer.alloc(4096, 'before'));
const outcome = await SCENARIOS[process.argv[2] as string]!();
await disk.write(4096, Buffer.alloc(4096, 'after'));
const survivor = Buffer.from(await disk.read(0, 8192));
const sound = survivor.equals(Buffer.concat([Buffer.alloc(4096, 'before'), Buffer.alloc(4096, 'after')]));
await disk.close();
await neighbour.close();
await bus.close();
console.log(JSON.stringify({ ...outcome, survivor: sound }));
