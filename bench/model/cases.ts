import type { Case } from '../case.js';
import { compare } from '../compare.js';
import { type RingWork, type Side, Sides } from '../ring/sides.js';
import { modelSide } from './device-model.js';
import { builtIn, linked } from './sides.js';
import { V86_FOLDER, v86Side } from './v86.js';

const BURST = 32;
const BURSTS = [1, BURST, 64];
const DESCRIPTORS = [1, 3];

function nullCase(format: RingWork['format'], descriptors: number): Case {
  const name = `model: null, ${format}, ${descriptors} descriptor${descriptors > 1 ? 's' : ''}, burst ${BURST}`;
  return {
    name,
    quick: descriptors === 1,
    async run(effort) {
      const sides = new Sides({ format, descriptors, burst: BURST, indirect: false, copied: 0, regions: 1 });
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

function contractCase(format: 'split' | 'packed', burst: number): Case {
  const descriptors = 3;
  const name = `model: null in TypeScript, ${format}, ${descriptors} descriptors, burst ${burst}`;
  return {
    name,
    quick: burst === BURST,
    async run(effort) {
      // A ring for each rival: they do not look at the same things of a chain.
      const against = (rival: string, sideOf: (sides: Sides) => Side) => {
        const sides = new Sides({ format, descriptors, burst, indirect: false, copied: 0, regions: 1 });
        const ours = sides.side((ring) => modelSide(ring, burst));
        const theirs = sideOf(sides);
        return compare(
          { work: name, engine: 'DeviceModel', rival, unit: 'ns/request' },
          effort,
          () => sides.slice(ours),
          () => sides.slice(theirs),
        );
      };
      const results = [await against('built in', (sides) => sides.side((ring) => builtIn(ring, burst)))];
      if (format === 'split') {
        results.push(await against('ring in TypeScript', ({ typescript }) => typescript!));
        const folder = V86_FOLDER;
        if (folder)
          results.push(await against('v86', (sides) => sides.side((ring) => v86Side(ring, burst, folder))));
      }
      return results;
    },
  };
}

/**
 * What it costs a device model to be a module of its own: a null model linked to the engine, against one compiled into it. And what
 * the contract of models in TypeScript costs a chain, its bytes copied, against that one and a ring in plain TypeScript, neither of
 * which copies anything; and against the virtqueue of v86, if V86 in the environment says where its checkout is.
 */
export const modelCases: Case[] = [
  ...(['split', 'packed', 'in order'] as const).flatMap((format) =>
    DESCRIPTORS.map((descriptors) => nullCase(format, descriptors)),
  ),
  ...(['split', 'packed'] as const).flatMap((format) => BURSTS.map((burst) => contractCase(format, burst))),
];
