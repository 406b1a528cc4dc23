import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import type { Model } from '../../host/models/model.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import * as vhost from '../../host/uapi/vhost.js';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_WRITE,
} from '../../host/uapi/virtio.js';
import { nextError, until, within } from './fixture.js';
import { DATA, HEADER, IOVA, MEMORY_BYTES, RawDriver, STATUS_BYTE } from './raw-driver.js';

class Zeroes extends BlockModel {
  capacity = 2 ** 20;
  read() {}
  override write() {}
}

const MODELS: [string, () => Model, Partial<ServeOptions>][] = [
  ['a disk in memory on a queue thread', () => new BlockDevice({ memory: 2 ** 20 }), {}],
  ['a disk in memory, polling', () => new BlockDevice({ memory: 2 ** 20 }), { mode: 'poll' }],
  ['a disk in memory on the event loop', () => new BlockDevice({ memory: 2 ** 20 }), { threads: 0 }],
  ['a disk in JavaScript', () => new Zeroes(), {}],
];

/** A device, and a driver that does as it likes. */
async function attack(
  [, model, options]: (typeof MODELS)[number],
  body: (driver: RawDriver, device: ServedDevice) => Promise<void>,
): Promise<void> {
  const bus = new Bus();
  const device = await within(serve(model(), { name: 'disk0', bus, ...options }), 'serve');
  const other = await within(serve(new BlockDevice({ memory: 65536 }), { name: 'other', bus }), 'serve');
  const driver = await RawDriver.open(bus);
  const neighbour = await RawDriver.open(bus, 'other');
  try {
    assert.ok((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
    await neighbour.start();
    await body(driver, device);
    assert.ok(await neighbour.works(), 'the neighbour goes on');
  } finally {
    await driver.close();
    await neighbour.close();
    await within(Promise.all([device.close(), other.close()]), 'closing the devices');
    await within(bus.close(), 'closing the bus');
  }
}

const header = { addr: IOVA + BigInt(HEADER), len: 16 };
const status = { addr: IOVA + BigInt(STATUS_BYTE), len: 1, flags: VIRTQ_DESC_F_WRITE };

/** What a driver may do wrong, and what it is called. */
const ATTACKS: [string, string, (driver: RawDriver) => void | Promise<void>][] = [
  ['jumps ahead with avail.idx', 'ERR_RING_AVAIL_INDEX', (driver) => driver.offer(0, 1000)],
  ['names a head that there is not', 'ERR_RING_HEAD', (driver) => driver.offer(16)],
  [
    'names a next that there is not',
    'ERR_RING_NEXT',
    (driver) => {
      driver.describe([{ ...header, next: 99 }, status]);
      driver.offer(0);
    },
  ],
  [
    'chains in a circle',
    'ERR_RING_CHAIN_TOO_LONG',
    (driver) => {
      driver.describe([header, { ...header, next: 0 }, status]);
      driver.offer(0);
    },
  ],
  [
    'names memory that it has not mapped',
    'ERR_RING_UNMAPPED',
    (driver) => {
      driver.describe([header, { ...status, addr: 0x1000n }]);
      driver.offer(0);
    },
  ],
  [
    'names memory across the end of what it has mapped',
    'ERR_RING_UNMAPPED',
    (driver) => {
      driver.describe([header, { ...status, addr: IOVA + BigInt(MEMORY_BYTES) - 100n, len: 512 }]);
      driver.offer(0);
    },
  ],
  [
    'has it write to memory that is mapped read-only',
    'ERR_RING_PERMISSION',
    async (driver) => {
      const readOnly = 0x1000_0000n;
      await driver.map(vhost.VHOST_ACCESS_RO, readOnly);
      driver.describe([header, { ...status, addr: readOnly + BigInt(STATUS_BYTE) }]);
      driver.offer(0);
    },
  ],
  [
    'sends no header',
    'ERR_RING_REQUEST',
    (driver) => {
      driver.describe([status]);
      driver.offer(0);
    },
  ],
  [
    'sends an indirect table of an odd length',
    'ERR_RING_INDIRECT_LENGTH',
    (driver) => {
      driver.describe([{ addr: IOVA + BigInt(DATA), len: 17, flags: VIRTQ_DESC_F_INDIRECT }]);
      driver.offer(0);
    },
  ],
];

for (const model of MODELS)
  for (const [what, code, act] of ATTACKS) {
    test(`${model[0]} survives a driver that ${what}: ${code}, and starts clean after a reset`, async () => {
      await attack(model, async (driver, device) => {
        assert.ok(await driver.works());
        const error = nextError(device);
        await act(driver);
        assert.is((await error).code, code);
        await until(() => (device.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0, 'NEEDS_RESET');
        assert.ok((await driver.status()) & VIRTIO_CONFIG_S_NEEDS_RESET);
        assert.is(device.stats().hostileChains, 1);
        await driver.reset();
        assert.is(await driver.status(), 0);
        assert.ok((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
        assert.ok(await driver.works(), 'works after the reset');
      });
    });
  }

for (const model of MODELS) {
  test(`${model[0]} refuses rings that it cannot write`, async () => {
    await attack(model, async (driver, device) => {
      await driver.reset();
      const error = nextError(device);
      assert.not((await driver.start({ perm: vhost.VHOST_ACCESS_RO })) & VIRTIO_CONFIG_S_DRIVER_OK);
      assert.is((await error).code, 'ERR_CONTROL_PLANE');
      await driver.reset();
      await driver.start();
      assert.ok(await driver.works());
    });
  });

  test(`${model[0]} goes on while the driver changes its mappings, which drops them all`, async () => {
    await attack(model, async (driver) => {
      for (let round = 0n; round < 5n; round++) {
        assert.ok(await driver.works());
        await driver.map(vhost.VHOST_ACCESS_RW, 0x1000_0000n + round * 0x1000_0000n);
      }
      assert.ok(await driver.works());
    });
  });

  test(`${model[0]} breaks when the driver takes its rings away`, async () => {
    await attack(model, async (driver, device) => {
      assert.ok(await driver.works());
      const error = nextError(device);
      await driver.unmap();
      assert.is((await error).code, 'ERR_RING_UNMAPPED');
      await driver.reset();
      await driver.start();
      assert.ok(await driver.works());
    });
  });

  test(`${model[0]} follows its driver to another kick eventfd`, async () => {
    await attack(model, async (driver) => {
      for (let round = 0; round < 3; round++) {
        assert.ok(await driver.works());
        await driver.rebindKick();
      }
      assert.ok(await driver.works());
    });
  });

  test(`${model[0]} is undisturbed by kicks that mean nothing`, async () => {
    await attack(model, async (driver, device) => {
      for (let kick = 0; kick < 1000; kick++) driver.kick();
      assert.ok(await driver.works());
      assert.is(device.stats().hostileChains, 0);
      await driver.reset();
      for (let kick = 0; kick < 1000; kick++) driver.kick();
      await driver.start();
      assert.ok(await driver.works());
    });
  });

  test(`${model[0]} serves a driver whose kick eventfd is full`, async () => {
    await attack(model, async (driver, device) => {
      for (let round = 0; round < 3; round++) {
        driver.saturateKick();
        assert.ok(await driver.works());
      }
      assert.is(device.stats().hostileChains, 0);
    });
  });
}

test('a driver that does not accept VERSION_1 or ACCESS_PLATFORM does not get FEATURES_OK', async () => {
  for (const feature of [VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM])
    await attack(MODELS[0]!, async (driver, device) => {
      await driver.reset();
      const error = nextError(device);
      assert.not((await driver.start({ features: [feature] })) & VIRTIO_CONFIG_S_FEATURES_OK);
      assert.is((await error).code, 'ERR_FEATURES');
    });
});

test('rings that are misaligned or not mapped are refused at DRIVER_OK, with a reason', async () => {
  await attack(MODELS[0]!, async (driver, device) => {
    for (const [desc, message] of [
      [IOVA + 8n, /descriptor area at 0x7f1200000008 is not aligned to 16 bytes/],
      [0x10_0000n, /descriptor area at 0x100000 is not mapped in one piece/],
      [IOVA + BigInt(MEMORY_BYTES) - 16n, /not mapped in one piece/],
      [2n ** 64n - 16n, /passes 2\^64/],
    ] as const) {
      await driver.reset();
      const error = nextError(device);
      assert.not((await driver.start({ desc })) & VIRTIO_CONFIG_S_DRIVER_OK);
      assert.is((await error).code, 'ERR_CONTROL_PLANE');
      assert.match((await error).message, message);
    }
    await driver.reset();
    await driver.start();
    assert.ok(await driver.works());
  });
});

test.run();
