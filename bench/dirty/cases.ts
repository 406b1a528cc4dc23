import type { Module } from '../../host/aperture/web-assembly.js';
import { buildAssembly } from '../build-assembly.js';
import type { Case } from '../case.js';
import { compare } from '../compare.js';
import { Sides } from '../ring/sides.js';
import { Disks } from '../round-trip/disks.js';

const DESCRIPTORS = [1, 2, 3];
/** Requests and bytes: the buffers of both stay within a second-level cache. */
const READS = [
  { batch: 32, bytes: 4096 },
  { batch: 4, bytes: 65536 },
];
const BURST = 32;

/** The one test that tracking costs while it is off, and what the engine without tracking has in its place. */
const TEST = 'return load<u64>(iotlb, IOTLB_DIRTY) != 0;';
const NO_TEST = 'return false;';

/** The module made from bench/assembly/NAME.ts, of an engine that cannot track anything. */
async function withoutTracking(name: string): Promise<Module> {
  let tests = 0;
  const module = await buildAssembly(`bench/assembly/${name}.ts`, {
    edit: (_path, source) => {
      if (source.includes(TEST)) tests++;
      return source.replace(TEST, NO_TEST);
    },
  });
  if (tests !== 1) throw new Error('the test that tracking costs was not found');
  return module;
}

function ringCase(descriptors: number): Case {
  const name = `dirty pages: pop and push, ${descriptors} descriptor${descriptors > 1 ? 's' : ''}, burst ${BURST}`;
  return {
    name,
    quick: true,
    async run(effort) {
      const sides = new Sides({
        descriptors,
        burst: BURST,
        format: 'split',
        indirect: false,
        copied: 0,
        regions: 1,
      });
      const without = sides.variant(false, await withoutTracking('ring'));
      const tracked = sides.variant(true);
      const off = () => sides.slice(sides.engine);
      const comparison = { work: name, unit: 'ns/chain' };
      return [
        await compare({ ...comparison, engine: 'off', rival: 'built without' }, effort, off, () =>
          sides.slice(without),
        ),
        await compare({ ...comparison, engine: 'on', rival: 'off' }, effort, () => sides.slice(tracked), off),
      ];
    },
  };
}

function readCase({ batch, bytes }: (typeof READS)[number]): Case {
  const name = `dirty pages: round trip, reads of ${bytes} B, batch ${batch}`;
  return {
    name,
    quick: true,
    async run(effort) {
      const disks = new Disks({ batch, bytes });
      const without = disks.engineLoop(false, await withoutTracking('round-trip'));
      const loops = { off: disks.engineLoop(), on: disks.engineLoop(true) };
      const off = () => disks.measure(loops.off);
      const comparison = { work: name, unit: 'requests/s' };
      return [
        await compare({ ...comparison, engine: 'off', rival: 'built without' }, effort, off, () =>
          disks.measure(without),
        ),
        await compare(
          { ...comparison, engine: 'on', rival: 'off' },
          effort,
          () => disks.measure(loops.on),
          off,
        ),
      ];
    },
  };
}

/**
 * What tracking costs while it is off, against an engine that was built without it, and while it is on, against off.
 */
export const dirtyCases: Case[] = [...DESCRIPTORS.map(ringCase), ...READS.map(readCase)];
