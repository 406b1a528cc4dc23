/** Memory tables that follow each other at random while messages are refused at random: the driver knows what is left. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { FaultOptions } from '../../host/bus/index.js';
import type { RingbellError } from '../../host/errors.js';
import { VDUSE_UPDATE_IOTLB } from '../../host/uapi/vduse.js';
import {
  VHOST_IOTLB_BATCH_BEGIN,
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_UPDATE,
} from '../../host/uapi/vhost.js';
import { describe, nextTable, type Region } from './random-table.js';
import { PAGES, randomNumbers, region, stretchesOf, tableScene, type Way } from './table-scene.js';

/** Tables for each kind of parent, and regions of the largest ones. */
const TABLES = 400;
const REGIONS_MAXIMUM = 24;
/** What is refused: messages of the driver's, but no end of a batch, and messages to the device. */
const FAULTS: readonly FaultOptions[] = [
  { point: 'write', request: VHOST_IOTLB_UPDATE, errno: 'EFAULT' },
  { point: 'write', request: VHOST_IOTLB_INVALIDATE, errno: 'EFAULT' },
  { point: 'write', request: VHOST_IOTLB_BATCH_BEGIN, errno: 'EFAULT' },
  { point: 'message', request: VDUSE_UPDATE_IOTLB, errno: 'EIO' },
];
/** An update that is part of no table, behind all of them. */
const PROBE = region(2 * PAGES, 1, 0, 0);

for (const [way, seed] of [
  ['set_map', 6],
  ['dma_map', 7],
] as const satisfies readonly [Way, number][])
  test(`${way}: whatever is refused, and however often, the driver knows what is mapped`, () =>
    tableScene(way, async ({ bus, device, side }) => {
      const random = randomNumbers(seed);
      let table: Region[] = [];
      const codes = new Set<string | undefined>();
      for (let round = 0; round < TABLES; round++) {
        const next = nextTable(table, random).slice(0, REGIONS_MAXIMUM);
        const fault = bus.faults.inject({
          ...FAULTS[random(FAULTS.length)]!,
          skip: random(12),
          times: 1 + random(random(4) ? 3 : 100),
        });
        const code = await device.setMemTable(next.map(describe)).then(
          () => undefined,
          (error: RingbellError) => error.code,
        );
        fault.remove();
        codes.add(code);
        const known = stretchesOf(device.iotlb.mapped);
        const expected = code === undefined ? next : table;
        if (code !== 'ERR_MEMORY_TABLE')
          assert.equal(known, stretchesOf(expected.map(describe)), `table ${round}: ${code}`);
        // What takes whole tables has the kernel's once it is told of anything.
        await device.map([PROBE]);
        assert.equal(await side.stretches(), [...known, ...stretchesOf([PROBE])], `table ${round}: ${code}`);
        await device.unmap(PROBE);
        if (code === 'ERR_MEMORY_TABLE') await device.setMemTable(expected.map(describe));
        table = expected;
      }
      assert.equal([...codes].sort(), ['ERR_CONTROL_PLANE', 'ERR_MEMORY_TABLE', undefined]);
    }));

test.run();
