/** Tables of regions that follow each other at random. */
import { VHOST_ACCESS_RO, VHOST_ACCESS_RW } from '../../host/uapi/vhost.js';
import { PAGES, region } from './table-scene.js';

/** Regions of the largest tables. */
export const REGIONS_MAXIMUM = 256;

/** A region in pages. */
export type Region = { page: number; pages: number; memory: number; from: number; perm: number };

/** What the driver is given for it. */
export const describe = ({ page, pages, memory, from, perm }: Region) =>
  region(page, pages, memory, from, perm);

/** A table with one change or some to the one before, or a new one. */
export function nextTable(before: readonly Region[], random: (limit: number) => number): Region[] {
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
