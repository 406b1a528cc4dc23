/** Explores all interleavings, and prints how many states there are: `npm run interleavings`. Exit status 1 after a fault. */
import { cases } from './cases.js';
import { explore } from './explore.js';
import { instrument } from './stepped-engine.js';

const engine = await instrument();
let total = 0;
for (const { name, ...options } of cases) {
  const { states, ends, fault } = explore(engine, options);
  total += states;
  const outcome = fault ?? `${ends.toLocaleString('en')} ends, no fault`;
  process.stdout.write(`${name.padEnd(58)} ${states.toLocaleString('en').padStart(9)} states, ${outcome}\n`);
  if (fault) process.exitCode = 1;
}
process.stdout.write(`${total.toLocaleString('en')} states in all\n`);
