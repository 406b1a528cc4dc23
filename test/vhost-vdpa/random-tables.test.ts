/** Memory tables that follow each other at random: what the device sees is what each of them says, and no message too many. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VHOST_ACCESS_RO, VHOST_ACCESS_RW } from '../../host/uapi/vhost.js';
import { describe, nextTable, REGIONS_MAXIMUM, type Region } from './random-table.js';
import { BASE, PAGE, PAGES, randomNumbers, stretchesOf, tableScene, type Way } from './table-scene.js';

/** Tables for each way that mappings can go: more than ten thousand in all. */
const TABLES = 3334;
/** Pages of each table that are read through the device's aperture. */
const READS = 2;

for (const [way, seed] of [
  ['set_map', 3],
  ['dma_map', 4],
  ['vhost_mdev', 5],
] as const satisfies readonly [Way, number][])
  test(`${way}: ${TABLES} tables, one after the other, are what the device sees`, () =>
    tableScene(way, ({ device, side }) =>
      tableScene('set_map', async (fresh) => {
        const random = randomNumbers(seed);
        let table: Region[] = [];
        let [largest, messages, afresh] = [0, 0, 0];
        for (let round = 0; round < TABLES; round++) {
          table = nextTable(table, random).slice(0, REGIONS_MAXIMUM);
          const regions = table.map(describe);
          const before = { programmings: side.programmings, mappings: device.iotlb.mapped.length };
          const change = await device.setMemTable(regions);
          const programmings = side.programmings - before.programmings;
          const taken = before.mappings + change.updates - device.iotlb.mapped.length;
          if (way === 'set_map')
            assert.ok(programmings <= 2, 'a whole table is programmed once, and confirmed');
          else assert.is(programmings, change.updates + taken, 'mapping by mapping');
          const seen = await side.stretches();
          assert.equal(seen, stretchesOf(regions), `table ${round}`);
          assert.equal(stretchesOf(device.iotlb.mapped), seen, `what the driver thinks of table ${round}`);
          // Another device, whose map is built anew each time.
          await fresh.device.iotlb.unmapAll();
          await fresh.device.map(regions);
          assert.equal(await fresh.side.stretches(), seen, `table ${round} afresh`);
          for (let reads = 0; reads < READS; reads++) {
            const iova = BASE + BigInt(random(PAGES) * PAGE);
            const stretch = seen.find(({ start, last }) => start <= iova && iova <= last);
            const expected = stretch && stretch.word + Number((iova - stretch.start) / BigInt(PAGE));
            assert.is(await side.read(iova, VHOST_ACCESS_RO), expected, `page ${iova} of table ${round}`);
            const writable = stretch?.perm === VHOST_ACCESS_RW ? expected : undefined;
            assert.is(await side.read(iova, VHOST_ACCESS_RW), writable);
          }
          largest = Math.max(largest, table.length);
          messages += change.messages;
          afresh += table.length + 1;
        }
        assert.is(largest, REGIONS_MAXIMUM);
        assert.ok(messages < afresh / 2, `${messages} messages, ${afresh} to map everything anew`);
      }),
    ));

test.run();
