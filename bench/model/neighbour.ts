import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import type { BlockDisk } from '../../host/drivers/block-disk.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { serve } from '../../host/serve.js';
import { MockDriver } from '../../host/testing/index.js';
import type { Case } from '../case.js';
import { type Pair, quantile, summarize } from '../compare.js';
import type { Wrong } from './bad-model.js';

const MODEL = new URL('bad-model.js', import.meta.url);
const DISK_BYTES = 2 ** 20;
const READ_BYTES = 4096;
/** Rounds of three slices each. */
const ROUNDS = 5;
/** Milliseconds between two chains for the bad model. */
const INTERVAL_MS = 1;

/** Reads for so many milliseconds, one at a time: how long each took, in µs. */
async function latencies(disk: BlockDisk, milliseconds: number): Promise<number[]> {
  const taken: number[] = [];
  for (const end = performance.now() + milliseconds; performance.now() < end; ) {
    const start = performance.now();
    await disk.read(0, READ_BYTES);
    taken.push((performance.now() - start) * 1000);
  }
  return taken;
}

/** Keeps a bad model busy until the result is called: with one chain at a time, or as many as it never answers. */
async function harass(driver: MockDriver): Promise<() => Promise<void>> {
  await driver.start();
  const timer = setInterval(() => {
    if (driver.queue().fits({ writable: 1 })) driver.request({ writable: 1 }).catch(() => {});
  }, INTERVAL_MS);
  return async () => {
    clearInterval(timer);
    await driver.reset();
  };
}

function neighbourCase(wrong: Wrong, quick: boolean): Case {
  const name = `neighbour: a disk beside a model that ${wrong}`;
  return {
    name,
    quick,
    async run({ seconds, warmUpSeconds }) {
      const bus = new Bus();
      const bad = await serve(MODEL, { name: 'bad', bus, threads: 1, modelOptions: { wrong } });
      const device = await serve(new BlockDevice({ memory: DISK_BYTES }), { name: 'disk', bus, threads: 1 });
      const disk = await openBlock('disk', { bus });
      const driver = await MockDriver.open('bad', { bus });
      const slice = (seconds * 1000) / ROUNDS / 3;
      await latencies(disk, warmUpSeconds * 1000);
      const rounds: Record<'before' | 'during' | 'after', number[]>[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const before = await latencies(disk, slice);
        const stop = await harass(driver);
        const during = await latencies(disk, slice);
        await stop();
        rounds.push({ before, during, after: await latencies(disk, slice) });
      }
      await driver.close();
      await disk.close();
      await Promise.all([device.close(), bad.close()]);
      await bus.close();
      return (['during', 'after'] as const).flatMap((when) =>
        ([0.5, 0.99] as const).map((q) => {
          const samples = rounds.map(
            (round): Pair => ({ ours: quantile(round[when], q), theirs: quantile(round.before, q) }),
          );
          const work = `${name}, p${q * 100}`;
          const comparison = { work, engine: when, rival: 'before', unit: 'µs' };
          return { ...comparison, ...summarize(samples, comparison.unit), samples };
        }),
      );
    },
  };
}

/** What a model that is slow, throws, never answers or answers wrongly costs a disk beside it: latency before, during, after. */
export const neighbourCases: Case[] = [
  neighbourCase('blocks', true),
  neighbourCase('throws', false),
  neighbourCase('never answers', false),
  neighbourCase('answers twice', false),
];
