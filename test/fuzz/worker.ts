import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { CampaignOptions, Result, Tally } from './campaign.js';

/** What a worker is asked to do. */
export interface Order {
  target: string;
  seconds: number;
  seed: number;
  cases?: number;
  coverage?: boolean;
}

/** What it says: how far it is, and in the end what came of it. */
export type Answer =
  | { so: Tally }
  | { result: Omit<Result, 'reached'>; reached: [outcome: string, times: number][] };

const main = fileURLToPath(new URL('./worker-main.js', import.meta.url));

/**
 * Plays a campaign in a process of its own. What ends that process, where it is not a trap (memory that bulk copies must not
 * touch), is a finding without choices: the same seed meets it again.
 */
export async function campaignInWorker(target: string, options: CampaignOptions): Promise<Result> {
  const { signal, onProgress, ...rest } = options;
  const order: Order = { target, ...rest };
  const worker = fork(main, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  let so: Tally = { cases: 0, operations: 0, traps: 0, elapsed: 0 };
  let result: Result | undefined;
  worker.on('message', (answer: Answer) => {
    if ('so' in answer) {
      so = answer.so;
      onProgress?.(so);
    } else result = { ...answer.result, reached: new Map(answer.reached) };
  });
  // A worker ends its campaign when nobody listens any more, and says nothing then: so it is asked.
  const interrupt = () => worker.connected && worker.send('interrupt');
  signal?.addEventListener('abort', interrupt);
  worker.send(order);
  if (signal?.aborted) interrupt();
  const [status, killer] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    worker.once('exit', (code, by) => resolve([code, by])),
  );
  signal?.removeEventListener('abort', interrupt);
  if (result) return result;
  const failure = `the process ended ${killer ? `by ${killer}` : `with status ${status}`}, some time after case ${so.cases}`;
  return { ...so, reached: new Map(), finding: { index: so.cases, failure, choices: [] } };
}
