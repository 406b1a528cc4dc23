import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VHOST_ACCESS_RO, VHOST_ACCESS_RW } from '../../host/uapi/vhost.js';
import {
  endOf,
  type Mapping,
  memoryTable,
  type TableDifference,
  tableDifference,
} from '../../host/vhost-vdpa/memory-table.js';

const PAGE = 4096n;
/** Process addresses of two memories. */
const MEMORIES = { a: 0x7f00_0000_0000n, b: 0x7e00_0000_0000n };
const LAST_PAGE = 2n ** 64n - PAGE;

/**
 * A table in letters, a page each: a letter names the memory that is mapped there, at the same page of it; a capital begins a
 * mapping; a dot is a page without one.
 */
function parse(letters: string): Mapping[] {
  const mappings: Mapping[] = [];
  for (const [page, letter] of [...letters].entries()) {
    if (letter === '.') continue;
    const memory = letter.toLowerCase() as 'a' | 'b';
    const iova = BigInt(page) * PAGE;
    const begun = letter === memory ? mappings.pop() : undefined;
    const empty = { iova, bytes: 0n, address: MEMORIES[memory] + iova, perm: VHOST_ACCESS_RW };
    const { bytes, ...rest } = begun ?? empty;
    mappings.push({ ...rest, bytes: bytes + PAGE });
  }
  return mappings;
}

/** The messages in short: `+` maps, `!` maps what stays, `-` takes; then first and last page. */
function describe({ steps }: TableDifference): string {
  return steps
    .map((step) => {
      const range = step.kind === 'update' ? step.mapping : step;
      const sign = step.kind === 'invalidation' ? '-' : step.stays ? '!' : '+';
      return `${sign}${range.iova / PAGE}${range.bytes > PAGE ? `…${endOf(range) / PAGE - 1n}` : ''}`;
    })
    .join(' ');
}

for (const [name, from, to, messages] of [
  ['nothing of nothing', '...', '...', ''],
  ['the same', 'AaB', 'AaB', ''],
  ['two regions of one that goes on in the same memory', 'Aaaa', 'AaAa', ''],
  ['one region of two', 'AaAa', 'Aaaa', ''],
  ['a region that moved into its neighbour', 'AaaA', 'AAaa', ''],
  ['two regions with the same memory stay two mappings', '....', 'AaAa', '+0…1 +2…3'],
  ['a region that grows', 'Aa..', 'Aaaa', '+2…3'],
  ['a region that grows on both sides', '.A.', 'Aaa', '+0 +2'],
  ['a region that goes', 'ABA', 'A.A', '-1'],
  ['neighbours that go with one message', 'A.BA', '....', '-0…3'],
  ['what stays between them keeps them apart', 'BAB', '.A.', '-0 -2'],
  ['another memory', 'ABA', 'AAA', '-1 +1'],
  ['a region that is cut off', 'Aaaa', 'Aa..', '-0…3 !0…1'],
  ['a region that loses its middle', 'Aaa', 'ABA', '-0…2 !0 !2 +1'],
  ['what stays of a cut region comes back first', 'Aaa', 'BAa', '-0…2 !1…2 +0'],
  ['what is new where nothing goes comes before', '..AB', 'BB.A', '+0 +1 -2…3 +3'],
] as const)
  test(`${name}: ${from} to ${to}`, () => {
    assert.is(describe(tableDifference(parse(from), parse(to))), messages);
  });

test('a region with another permission is another region', () => {
  const [mapping] = parse('Aa');
  const difference = tableDifference([mapping!], [{ ...mapping!, perm: VHOST_ACCESS_RO }]);
  assert.is(describe(difference), '-0…1 +0…1');
  assert.equal(difference.cut, []);
});

test('what stays of a region that is cut is named', () => {
  const { cut } = tableDifference(parse('Aaa'), parse('A.A'));
  assert.equal(cut, parse('A.A'));
});

test('the end of the address space is an IOVA as any other', () => {
  const top: Mapping = { iova: LAST_PAGE, bytes: PAGE, address: MEMORIES.a, perm: VHOST_ACCESS_RW };
  assert.is(tableDifference([], memoryTable([top], Number(PAGE))).steps.length, 1);
  assert.is(tableDifference([top], memoryTable([top], Number(PAGE))).steps.length, 0);
  assert.is(tableDifference([top], []).steps.length, 1);
});

for (const [name, regions] of [
  ['overlaps', [...parse('.Aa'), ...parse('..A')]],
  ['half a page', [{ ...parse('A')[0]!, bytes: 2048n }]],
  ['no page', [{ ...parse('A')[0]!, bytes: 0n }]],
  ['an address inside of a page', [{ ...parse('A')[0]!, address: MEMORIES.a + 1n }]],
  ['an IOVA inside of a page', [{ ...parse('A')[0]!, iova: 512n }]],
  ['an end past 2^64', [{ ...parse('A')[0]!, iova: LAST_PAGE, bytes: 2n * PAGE }]],
  ['no permission', [{ ...parse('A')[0]!, perm: 0 }]],
  ['an unknown permission', [{ ...parse('A')[0]!, perm: 4 }]],
] as const)
  test(`a table with ${name} is none`, () => {
    assert.throws(
      () => memoryTable(regions, Number(PAGE)),
      (error: { code?: string }) => error.code === 'ERR_ARGUMENT',
    );
  });

/** Every table of so many pages, in letters. */
function allTables(pages: number): string[] {
  if (pages === 0) return [''];
  return allTables(pages - 1).flatMap((start) => {
    const last = start.at(-1);
    const more = last === undefined || last === '.' ? [] : [last.toLowerCase()];
    return ['.', 'A', 'B', ...more].map((letter) => start + letter);
  });
}

const pageOf = (iova: bigint) => Number(iova / PAGE);
const without = (table: string, range: { iova: bigint; bytes: bigint }) =>
  [...table].map((letter, page) =>
    page >= pageOf(range.iova) && page < pageOf(endOf(range)) ? '.' : letter,
  );

/** What an INVALIDATE of pages [start, end) leaves: whatever it touches goes whole. */
function invalidate(table: string, start: number, end: number): string {
  const range = { iova: BigInt(start) * PAGE, bytes: BigInt(end - start) * PAGE };
  return parse(table)
    .filter((mapping) => mapping.iova < endOf(range) && range.iova < endOf(mapping))
    .reduce((left, mapping) => without(left, mapping).join(''), table);
}

/** What an UPDATE of pages [start, end) makes; undefined for an overlap, which is EEXIST. */
function update(table: string, start: number, end: number, letter: string): string | undefined {
  if (/[^.]/.test(table.slice(start, end))) return undefined;
  return `${table.slice(0, start)}${letter.toUpperCase()}${letter.repeat(end - start - 1)}${table.slice(end)}`;
}

/** Mappings that a new table leaves alone: all of their pages are the same there. */
function sound(from: string, to: string): Mapping[] {
  return parse(from).filter(({ iova, bytes }) =>
    from
      .slice(pageOf(iova), pageOf(iova + bytes))
      .split('')
      .every((letter, index) => letter.toLowerCase() === to[pageOf(iova) + index]!.toLowerCase()),
  );
}

/** The fewest messages from one table to another, found by trying all of them. */
function fewest(from: string, to: string): number {
  const pages = from.length;
  const kept = sound(from, to);
  const regions = parse(to);
  let tables = new Set([from]);
  const seen = new Set(tables);
  for (let messages = 0; ; messages++) {
    const next = new Set<string>();
    for (const table of tables) {
      if (table.toLowerCase() === to.toLowerCase()) return messages;
      for (let start = 0; start < pages; start++)
        for (let end = start + 1; end <= pages; end++) {
          const range = { iova: BigInt(start) * PAGE, bytes: BigInt(end - start) * PAGE };
          const touches = (other: Mapping) => other.iova < endOf(range) && range.iova < endOf(other);
          const candidates = [
            kept.some(touches) ? undefined : invalidate(table, start, end),
            ...(regions.filter(touches).length > 1
              ? []
              : [update(table, start, end, 'a'), update(table, start, end, 'b')]),
          ];
          for (const candidate of candidates)
            if (candidate !== undefined && !seen.has(candidate)) {
              seen.add(candidate);
              next.add(candidate);
            }
        }
    }
    tables = next;
  }
}

/** Sends the messages of a difference to a table, as the kernel would take them. */
function play(from: string, to: string, { steps }: TableDifference): string {
  const kept = sound(from, to);
  return steps.reduce((table, step) => {
    const range = step.kind === 'update' ? step.mapping : step;
    const [start, end] = [pageOf(range.iova), pageOf(endOf(range))];
    const letter = step.kind === 'update' && step.mapping.address < MEMORIES.a ? 'b' : 'a';
    const result = step.kind === 'update' ? update(table, start, end, letter) : invalidate(table, start, end);
    assert.ok(result !== undefined, `${from} to ${to}: no overlap`);
    for (const { iova, bytes } of kept)
      assert.is(
        result.slice(pageOf(iova), pageOf(iova + bytes)),
        from.slice(pageOf(iova), pageOf(iova + bytes)),
        `${from} to ${to}: what stays is not touched`,
      );
    return result;
  }, from);
}

test('of every table of three pages every other is made, by the fewest messages that there are', () => {
  const tables = allTables(3);
  for (const from of tables)
    for (const to of tables) {
      const difference = tableDifference(parse(from), parse(to));
      assert.is(play(from, to, difference).toLowerCase(), to.toLowerCase());
      assert.is(difference.steps.length, fewest(from, to), `${from} to ${to}: ${describe(difference)}`);
    }
});

test('and of five pages, for every hundredth pair', () => {
  const tables = allTables(5);
  for (let pair = 0; pair < tables.length ** 2; pair += 997) {
    const [from, to] = [tables[pair % tables.length]!, tables[Math.floor(pair / tables.length)]!];
    const difference = tableDifference(parse(from), parse(to));
    assert.is(play(from, to, difference).toLowerCase(), to.toLowerCase());
    assert.is(difference.steps.length, fewest(from, to), `${from} to ${to}: ${describe(difference)}`);
  }
});

test.run();
