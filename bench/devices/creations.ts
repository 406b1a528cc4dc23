import { Bus } from '../../host/index.js';
import { kinds, make, settle } from './kinds.js';
import { type ProcessState, readProcessState } from './process-state.js';

/** What devices have left behind. */
export interface CreationsResult {
  /** Devices that were made and closed in between. */
  readonly devices: number;
  readonly seconds: number;
  readonly before: ProcessState;
  readonly after: ProcessState;
}

/** Devices that are there at the same time. */
const AT_ONCE = 6;
/** Devices that are made first, so that what is made once for all of them is there: threads of libuv and V8, compiled code. */
const WARM_UP = 36;
/** Looks at what is left, while threads that have ended still count. */
const LOOKS = 250;

/** Makes and closes `devices` devices, of every kind in turn, and counts what this process holds before and after. */
export async function creations(devices: number, progress: (done: number) => void): Promise<CreationsResult> {
  const bus = new Bus();
  await makeAndClose(bus, WARM_UP, () => {});
  let last = await readProcessState();
  // Until the warm-up itself has gone.
  const before = await settle(
    readProcessState,
    (state) => {
      const same = state.fds === last.fds && state.threads === last.threads;
      last = state;
      return same;
    },
    LOOKS,
  );
  const start = performance.now();
  await makeAndClose(bus, devices, progress);
  const seconds = (performance.now() - start) / 1000;
  const after = await settle(
    readProcessState,
    ({ fds, threads }) => fds <= before.fds && threads <= before.threads,
    LOOKS,
  );
  await bus.close();
  return { devices, seconds, before, after };
}

/** Whether something is left of each device, or of every few. */
export function leaks({ devices, before, after }: CreationsResult): boolean {
  return (
    after.fds > before.fds ||
    after.threads > before.threads ||
    after.mappings - before.mappings > devices / 10
  );
}

async function makeAndClose(bus: Bus, devices: number, progress: (done: number) => void): Promise<void> {
  for (let done = 0; done < devices; done += AT_ONCE) {
    const count = Math.min(AT_ONCE, devices - done);
    const made = await Promise.all(
      Array.from({ length: count }, (_, i) =>
        make(kinds[(done + i) % kinds.length]!, `device${done + i}`, bus),
      ),
    );
    await Promise.all(made.map((each) => each.close()));
    progress(done + count);
  }
}
