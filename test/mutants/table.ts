/** Prints the table of seeded bugs of docs/hostile-rings.md: `node dist/test/mutants/table.js`. */
import { pathToFileURL } from 'node:url';
import { mutants } from './mutants.js';

/** The seeded bugs as Markdown. */
export function table(): string {
  const rows = mutants.map(({ name, file, caughtBy }) => `| ${name} | assembly/${file} | ${caughtBy} |`);
  return ['| Bug | In | Found by |', '| --- | --- | --- |', ...rows, ''].join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.stdout.write(table());
