/** Plays one campaign for worker.ts, which it ends with. */
import { campaign } from './campaign.js';
import { findTarget } from './targets/index.js';
import type { Answer, Order } from './worker.js';

const interruption = new AbortController();
const say = (answer: Answer) => new Promise((resolve) => process.send?.(answer, resolve));

// A terminal interrupts all of its processes: this one is told by the one that has started it.
process.on('SIGINT', () => {});
process.once('disconnect', () => interruption.abort());
process.on('message', (message: Order | 'interrupt') => {
  if (message === 'interrupt') interruption.abort();
  else void play(message);
});

async function play({ target, ...options }: Order): Promise<void> {
  const { reached, ...result } = await campaign(findTarget(target), {
    ...options,
    signal: interruption.signal,
    onProgress: (so) => void say({ so }),
  });
  if (process.connected) await say({ result, reached: [...reached] });
  process.exit(0);
}
