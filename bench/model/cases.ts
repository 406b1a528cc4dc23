import type { Case } from '../case.js';
import { compare } from '../compare.js';
import { type Side, Sides } from '../ring/sides.js';

const BURSTS = [1, 32, 64];
/** Of a request of a disk: header, data, status. */
const DESCRIPTORS = 3;
const USUAL_BURST = 32;

function modelCase(format: 'split' | 'packed', burst: number): Case {
  const name = `model: null model in TypeScript, ${format} ring, ${DESCRIPTORS} descriptors, burst ${burst}`;
  return {
    name,
    quick: burst === USUAL_BURST,
    async run(effort) {
      const sides = new Sides({ format, descriptors: DESCRIPTORS, burst, indirect: false, regions: 1 });
      const against = (rival: string, side: Side) =>
        compare(
          { work: name, engine: 'DeviceModel', rival, unit: 'ns/chain' },
          effort,
          () => sides.slice(sides.model),
          () => sides.slice(side),
        );
      const results = [await against('engine.wasm', sides.engine)];
      if (sides.typescript) results.push(await against('TypeScript', sides.typescript));
      return results;
    },
  };
}

/**
 * What the contract of device models costs a chain: taken, its bytes copied, given to a model, ended by it, given back; against
 * a handler in WASM, and against a ring in plain TypeScript, neither of which copies anything.
 */
export const modelCases: Case[] = (['split', 'packed'] as const).flatMap((format) =>
  BURSTS.map((burst) => modelCase(format, burst)),
);
