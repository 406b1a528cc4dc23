import type { Case } from '../case.js';
import { compare } from '../compare.js';
import { Disks } from './disks.js';

function roundTripCase(batch: number, bytes: number, quick: boolean): Case {
  const name = `round trip: driver and device on one thread, reads of ${bytes} B, batch ${batch}`;
  return {
    name,
    quick,
    async run(effort) {
      const disks = new Disks({ batch, bytes });
      const engine = disks.engineLoop();
      const cpp = disks.cppLoop();
      const comparison = { work: name, engine: 'engine.wasm', rival: 'C++', unit: 'requests/s' };
      return [
        await compare(
          comparison,
          effort,
          () => disks.measure(engine),
          () => disks.measure(cpp),
        ),
      ];
    },
  };
}

/** Block requests from submission to completion: chains written and reaped, served from a disk in memory. */
export const roundTripCases: Case[] = [
  roundTripCase(1, 512, false),
  roundTripCase(32, 512, true),
  roundTripCase(1, 4096, false),
  roundTripCase(32, 4096, true),
];
