/** Memory tables that follow each other at random: what the device sees is what each of them says, and no message too many. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VHOST_ACCESS_RO, VHOST_ACCESS_RW } from '../../host/uapi/vhost.js';
import {
  BASE,
  PAGE,
  PAGES,
  randomNumbers,
  region,
  stretchesOf,
  tableScene,
  type Way,
} from './table-scene.js';

/** Tables for each way that mappings can go: more than ten thousand in all. */
const TABLES = 3500;
/** Regions of the largest ones. */
const REGIONS_MAXIMUM = 256;
/** Tables between two that are compared with a map built afresh, in another device. */
const FRESH_INTERVAL = 20;
/** Pages of each table that are read through the device's aperture. */
const READS = 3;

type Region = { page: number; pages: number; memory: number; from: number; perm: number };

const describe = ({ page, pages, memory, from, perm }: Region) => region(page, pages, memory, from, perm);

/** A table with one change or some to the one before, or a new one. */
function nextTable(before: readonly Region[], random: (limit: number) => number): Region[] {
  if (!before.length || random(50) === 0) return newTable(random);
  const table = before.map((each) => ({ ...each }));
  for (let changes = 1 + random(4); changes > 0; changes--) change(table, random);
  return table.filter(({ pages }) => pages > 0).sort((a, b) => a.page - b.page);
}

function newTable(random: (limit: number) => number): Region[] {
  const count = random(5) ? random(16) : random(REGIONS_MAXIMUM + 1);
  const borders = [...new Set(Array.from({ length: 2 * count }, () => random(PAGES)))].sort((a, b) => a - b);
  const table: Region[] = [];
  for (const [index, page] of borders.slice(0, -1).entries()) {
    if (random(4) === 0) continue;
    const pages = Math.min(borders[index + 1]! - page, 1 + random(24));
    table.push({ page, pages, memory: random(2), from: page, perm: VHOST_ACCESS_RW });
  }
  return table.slice(0, REGIONS_MAXIMUM);
}

/** One thing that happens to a table. Regions stay in order, and apart. */
function change(table: Region[], random: (limit: number) => number): void {
  const index = random(table.length);
  const chosen = table[index];
  if (!chosen) return;
  const next = table[index + 1];
  const room = (next?.page ?? PAGES) - chosen.page - chosen.pages;
  switch (random(8)) {
    case 0:
      table.splice(index, 1);
      break;
    case 1:
      chosen.memory ^= 1;
      break;
    case 2:
      chosen.perm ^= VHOST_ACCESS_RW ^ VHOST_ACCESS_RO;
      break;
    case 3:
      chosen.from = random(PAGES - chosen.pages);
      break;
    case 4:
      chosen.pages += Math.min(random(room + 1), PAGES - chosen.from - chosen.pages);
      break;
    case 5:
      chosen.pages -= random(chosen.pages + 1);
      break;
    case 6: {
      const first = random(chosen.pages + 1);
      const rest = { ...chosen, page: chosen.page + first, from: chosen.from + first };
      rest.pages -= first;
      chosen.pages = first;
      table.splice(index + 1, 0, rest);
      break;
    }
    default: {
      const goesOn =
        next && room === 0 && next.memory === chosen.memory && next.from === chosen.from + chosen.pages;
      if (!goesOn || next.perm !== chosen.perm) {
        if (room > 0) table.splice(index + 1, 0, { ...chosen, page: chosen.page + chosen.pages, pages: 1 });
        break;
      }
      // The border between the two moves, or disappears.
      const moved = random(next.pages + 1);
      chosen.pages += moved;
      next.pages -= moved;
      next.page += moved;
      next.from += moved;
    }
  }
}

for (const [way, seed] of [
  ['set_map', 3],
  ['dma_map', 4],
  ['vhost_mdev', 5],
] as const satisfies readonly [Way, number][])
  test(`${way}: ${TABLES} tables, one after the other, are what the device sees`, () =>
    tableScene(way, ({ device, side }) =>
      tableScene(way, async (fresh) => {
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
          if (round % FRESH_INTERVAL === 0) {
            await fresh.device.iotlb.unmapAll();
            await fresh.device.map(regions);
            assert.equal(seen, await fresh.side.stretches(), `table ${round} afresh`);
          }
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
