import type { Case } from '../case.js';
import { compare } from '../compare.js';
import { type RingWork, type Side, Sides } from './sides.js';

const BURSTS = [1, 2, 8, 32, 64];
/** Bursts of chains in indirect tables. */
const INDIRECT_BURSTS = [1, 2, 32];
const DESCRIPTORS = [1, 2, 3];
/** Bytes of a descriptor that are copied: a short frame or command, a middling one, an Ethernet frame. */
const COPIED = [64, 256, 1500];
/** The burst at which the rarer shapes are measured, and everything in a quick run. */
const USUAL_BURST = 32;

function ringCase(work: RingWork): Case {
  const shape = `${work.descriptors} ${work.indirect ? 'indirect ' : ''}descriptor${work.descriptors > 1 ? 's' : ''}`;
  const copied = work.copied ? `, ${work.copied} B copied of each` : '';
  const spread = work.regions > 1 ? `, ${work.regions} regions in turn` : '';
  const ring =
    work.format === 'split' ? 'ring' : work.format === 'packed' ? 'packed ring' : 'packed ring in order';
  const name = `${ring}: pop and push, ${shape}${copied}${spread}, burst ${work.burst}`;
  return {
    name,
    quick: work.burst === USUAL_BURST && !work.indirect && !work.copied && work.regions === 1,
    async run(effort) {
      const sides = new Sides(work);
      const against = (rival: string, side: Side) =>
        compare(
          { work: name, engine: 'engine.wasm', rival, unit: 'ns/chain' },
          effort,
          () => sides.slice(sides.engine),
          () => sides.slice(side),
        );
      const results = [await against('C++', sides.cpp)];
      if (sides.typescript) results.push(await against('TypeScript', sides.typescript));
      return results;
    },
  };
}

/** Device time of a chain, from the available ring to the used ring, with a handler that only looks at its segments. */
export const ringCases: Case[] = (['split', 'packed', 'in order'] as const).flatMap((format) => [
  ...BURSTS.flatMap((burst) =>
    DESCRIPTORS.map((descriptors) =>
      ringCase({ format, descriptors, burst, indirect: false, copied: 0, regions: 1 }),
    ),
  ),
  ...INDIRECT_BURSTS.flatMap((burst) =>
    DESCRIPTORS.map((descriptors) =>
      ringCase({ format, descriptors, burst, indirect: true, copied: 0, regions: 1 }),
    ),
  ),
  ...COPIED.flatMap((copied) =>
    DESCRIPTORS.map((descriptors) =>
      ringCase({ format, descriptors, burst: USUAL_BURST, indirect: false, copied, regions: 1 }),
    ),
  ),
  ringCase({ format, descriptors: 3, burst: USUAL_BURST, indirect: false, copied: 0, regions: 2 }),
]);
