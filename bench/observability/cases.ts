import type { Case } from '../case.js';
import { compare } from '../compare.js';
import { ObservedQueue } from './queue.js';

function timedCase(batch: number, quick: boolean): Case {
  const name = `observability: reads of 512 B, batch ${batch}, driver and device on one thread, some timed`;
  return {
    name,
    quick,
    async run(effort) {
      const queue = new ObservedQueue({ batch, bytes: 512 });
      const slice = (timed: boolean) => () => {
        queue.timed = timed;
        return queue.measure();
      };
      const sides = { engine: 'somebody looks', rival: 'nobody looks', unit: 'requests/s' };
      return [await compare({ work: name, ...sides }, effort, slice(true), slice(false))];
    },
  };
}

/** What it costs to be looked at: the same driver and device, looked at and not. */
export const observabilityCases: Case[] = [timedCase(1, false), timedCase(32, true)];
