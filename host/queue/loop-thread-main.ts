/**
 * The main module of a queue thread whose data paths run code that is not ours: it has an event loop, which that code may use
 * as it likes, until it is asked to leave.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { Aperture } from '../aperture/aperture.js';
import { loadAddon } from '../native/addon.js';
import { createDatapath, type LoopThread } from './datapath.js';
import { QueueBlock } from './queue-block.js';
import type { LoopDatapath } from './queue-loop.js';
import { QueueLoops } from './queue-loops.js';
import type { QueueThreadCommand, QueueThreadData, QueueThreadEvent } from './queue-thread-data.js';

const data = workerData as QueueThreadData;
const port = parentPort!;
const aperture = Aperture.adopt(data.aperture);
if (data.cpu !== undefined) loadAddon().setAffinity([data.cpu]);
const blocks = data.queues.map(({ vq }) => new QueueBlock(aperture, vq));
const lifeListeners: (() => void)[] = [];
const endListeners: (() => unknown)[] = [];
/** Who waits for the driver to be told of a config space, by number. */
const configured = new Map<number, (error?: unknown) => void>();
let lastConfig = 0;

const thread: Omit<LoopThread, 'schedule'> = {
  failed: (error) => tell({ type: 'failed', error }),
  configChanged: (config) =>
    new Promise((resolve, reject) => {
      const id = ++lastConfig;
      configured.set(id, (error) => (error === undefined ? resolve() : reject(error)));
      tell({ type: 'config', id, config });
    }),
  onLife: (listener) => lifeListeners.push(listener),
  onEnd: (listener) => endListeners.push(listener),
};

function tell(event: QueueThreadEvent): void {
  try {
    port.postMessage(event);
  } catch {
    // What a model throws need not be anything that can be sent.
    if (event.type === 'failed') port.postMessage({ type: 'failed', error: new Error(String(event.error)) });
  }
}

/** Looks whether this thread is to leave. */
function look(): void {
  if (blocks.some((block) => block.exitRequested)) void leave();
}

async function leave(): Promise<void> {
  loops.close();
  await Promise.allSettled(endListeners.map(async (end) => end()));
  aperture.close();
  // Whatever the model has left open.
  process.exit();
}

port.on('message', (command: QueueThreadCommand) => {
  if (command.type === 'life') for (const listener of lifeListeners) listener();
  else {
    configured.get(command.id)?.(command.error);
    configured.delete(command.id);
  }
});

const { sigbusFlag, wakeFd, attentionFd, deviceFd } = data;
const loops = new QueueLoops({ aperture, sigbusFlag, wakeFd, attentionFd, deviceFd }, look);
for (const [place, { index, datapath: source }] of data.queues.entries()) {
  const block = blocks[place]!;
  let schedule = () => {};
  const options = {
    ...{ pollers: 0, bursts: 1, attention: loops.attention },
    loop: { ...thread, schedule: () => schedule() },
  };
  const datapath = (await createDatapath(source, block, options)) as LoopDatapath;
  loops.start(index, block, data.doorbells + place * Uint32Array.BYTES_PER_ELEMENT, (scheduleLoop) => {
    schedule = scheduleLoop;
    return datapath;
  });
}
// What the control plane has done before this thread could listen.
loops.wake();
look();
