/** Runs one benchmark, named by the message that its parent sends, and answers with its results. */
import { cases } from './cases.js';
import type { Effort } from './compare.js';

process.once('message', async ({ name, effort }: { name: string; effort: Effort }) => {
  const found = cases.find((candidate) => candidate.name === name);
  if (!found) throw new Error(`no benchmark is called ${name}`);
  process.send?.(await found.run(effort), () => process.disconnect());
});
