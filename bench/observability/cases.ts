import type { Case } from '../case.js';
import { compare } from '../compare.js';
import { ObservedQueue } from './queue.js';

function timedCase(batch: number, quick: boolean): Case {
  const name = `observability: reads of 512 B, batch ${batch}, driver and device on one thread, some timed`;
  return {
    name,
    quick,
    async run(effort) {
      const queue = new ObservedQueue({ batch, bytes: 512, flightChains: 0 });
      const slice = (timed: boolean) => () => {
        queue.timed = timed;
        return queue.measure();
      };
      const sides = { engine: 'somebody looks', rival: 'nobody looks', unit: 'requests/s' };
      return [await compare({ work: name, ...sides }, effort, slice(true), slice(false))];
    },
  };
}

function recordedCase(batch: number, bytes: number, quick: boolean): Case {
  const name = `observability: reads of ${bytes} B, batch ${batch}, driver and device on one thread, flight recorders`;
  return {
    name,
    quick,
    async run(effort) {
      const recorded = new ObservedQueue({ batch, bytes, flightChains: FLIGHT_CHAINS });
      const plain = new ObservedQueue({ batch, bytes, flightChains: 0 });
      const sides = { engine: 'recorded', rival: 'not recorded', unit: 'requests/s' };
      const [ours, theirs] = [() => recorded.measure(), () => plain.measure()];
      return [await compare({ work: name, ...sides }, effort, ours, theirs)];
    },
  };
}

/** Chains of a flight recorder of the default length. */
const FLIGHT_CHAINS = 128;

/** What it costs to be looked at, and to be recorded: the same driver and device, with and without. */
export const observabilityCases: Case[] = [
  timedCase(1, false),
  timedCase(32, true),
  recordedCase(1, 512, false),
  recordedCase(32, 512, true),
  recordedCase(32, 4096, false),
];
