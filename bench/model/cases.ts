import type { Case } from '../case.js';
import { compare } from '../compare.js';
import { type RingWork, Sides } from '../ring/sides.js';
import { builtIn, linked } from './sides.js';

const BURST = 32;
const DESCRIPTORS = [1, 3];

function nullCase(format: RingWork['format'], descriptors: number): Case {
  const name = `model: null, ${format}, ${descriptors} descriptor${descriptors > 1 ? 's' : ''}, burst ${BURST}`;
  return {
    name,
    quick: descriptors === 1,
    async run(effort) {
      const sides = new Sides({ format, descriptors, burst: BURST, indirect: false, regions: 1 });
      const ours = sides.side((ring) => linked(ring, BURST));
      const theirs = sides.side((ring) => builtIn(ring, BURST));
      return [
        await compare(
          { work: name, engine: 'AssemblyScript model', rival: 'built in', unit: 'ns/request' },
          effort,
          () => sides.slice(ours),
          () => sides.slice(theirs),
        ),
      ];
    },
  };
}

/** What it costs a device model to be a module of its own: a null model linked to the engine, against one compiled into it. */
export const modelCases: Case[] = (['split', 'packed', 'in order'] as const).flatMap((format) =>
  DESCRIPTORS.map((descriptors) => nullCase(format, descriptors)),
);
