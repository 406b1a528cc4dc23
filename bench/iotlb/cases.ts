import type { ParentKind } from '../../host/bus/index.js';
import type { Case } from '../case.js';
import { type Effort, type Pair, type Result, summarize } from '../compare.js';
import { CHANGED, type Cost, REGIONS, Stage } from './stage.js';

/** Figures of a change, with their units and what they are. */
const FIGURES: readonly [keyof Cost, string, string][] = [
  ['microseconds', 'µs', 'time'],
  ['messages', 'messages', 'IOTLB messages'],
  ['programmings', 'times', 'IOTLB programmed'],
];

async function measure(name: string, parent: ParentKind, effort: Effort): Promise<Result[]> {
  const stage = await Stage.open(parent);
  const pairs: { ours: Cost; theirs: Cost }[] = [];
  const pair = async () => ({ ours: await stage.setMemTable(), theirs: await stage.mapAnew() });
  try {
    const start = performance.now();
    const elapsed = () => (performance.now() - start) / 1000;
    while (elapsed() < effort.warmUpSeconds) await pair();
    while (elapsed() < effort.warmUpSeconds + effort.seconds) pairs.push(await pair());
  } finally {
    await stage.close();
  }
  return FIGURES.map(([figure, unit, what]) => {
    const samples = pairs.map(({ ours, theirs }): Pair => ({ ours: ours[figure], theirs: theirs[figure] }));
    const comparison = { work: `${name}: ${what}`, engine: 'the difference', rival: 'everything anew', unit };
    return { ...comparison, ...summarize(samples, unit), samples };
  });
}

/** A memory table set by what it differs in, against all of it unmapped and mapped again, on each kind of parent. */
export const iotlbCases: Case[] = (['set_map', 'dma_map'] as const).map((parent) => {
  const name = `iotlb: ${CHANGED} of ${REGIONS} regions change, ${parent}`;
  return { name, quick: true, run: (effort) => measure(name, parent, effort) };
});
