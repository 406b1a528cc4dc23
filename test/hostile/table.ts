/** Prints the tables of docs/hostile-rings.md: `node dist/test/hostile/table.js`. */
import { pathToFileURL } from 'node:url';
import { chainCases } from './chain-cases.js';
import { changingMemoryCases } from './changing-memory.js';
import { driverCases } from './driver-cases.js';
import { playedElsewhere } from './elsewhere.js';
import { type HostileCase, SIDES } from './hostile-case.js';
import { ringCases } from './ring-cases.js';
import { suppressionCases } from './suppression-cases.js';

/** Every case that is played here, under the headings of the document. */
export const chapters: readonly { title: string; peer: string; cases: readonly HostileCase[] }[] = [
  { title: 'A hostile driver: chains', peer: 'The driver …', cases: chainCases },
  { title: 'A hostile driver: rings', peer: 'The driver …', cases: ringCases },
  { title: 'A hostile device', peer: 'The device …', cases: driverCases },
  { title: 'A hostile peer: notifications', peer: 'The other side …', cases: suppressionCases },
  { title: 'A hostile peer: memory that changes', peer: 'The other side …', cases: changingMemoryCases },
];

/** The tables as Markdown, heading by heading. */
export function tables(): string {
  const played = chapters.map(({ title, peer, cases }) => {
    const sides = SIDES.filter((side) => cases.some(({ outcomes }) => outcomes[side]));
    const rows = cases.map(({ name, rule, outcomes }) => [
      name,
      rule,
      ...sides.map((side) => outcomes[side] ?? '–'),
    ]);
    return chapter(title, [peer, 'Rule', ...sides], rows);
  });
  const head = ['The driver …', 'Rule', 'What happens', 'Played by'];
  const rows = playedElsewhere.map(({ name, rule, outcome, file, test }) => [
    name,
    rule,
    outcome,
    `\`${file}\`: “${test}”`,
  ]);
  return [...played, chapter('A hostile driver: a whole device', head, rows)].join('\n');
}

function chapter(title: string, head: string[], rows: string[][]): string {
  const lines = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  return `## ${title}\n\n${lines.join('\n')}\n`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.stdout.write(tables());
