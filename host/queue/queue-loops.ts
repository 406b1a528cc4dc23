import type { Aperture } from '../aperture/aperture.js';
import { loadAddon, type Watcher } from '../native/addon.js';
import { DoorbellWatch } from './doorbell-watch.js';
import { Interrupter } from './interrupter.js';
import type { QueueBlock } from './queue-block.js';
import { type LoopDatapath, QueueLoop } from './queue-loop.js';
import { QueueRunner } from './queue-runner.js';
import { threadId } from './thread-id.js';

/** What queues on an event loop share. */
export interface QueueLoopsSurroundings {
  aperture: Aperture;
  /** Linear address of the aperture's SIGBUS counter. */
  sigbusFlag: number;
  /** Eventfd by which the control plane wakes these queues. */
  wakeFd: number;
  /** Eventfd that tells the control plane to look at the queues. */
  attentionFd: number;
  /** Device node for interrupts by ioctl, −1 where there are call eventfds. */
  deviceFd: number;
}

/** Queues that run on the event loop of the calling thread, and are woken together. They do not keep the process alive. */
export class QueueLoops {
  readonly #surroundings: QueueLoopsSurroundings;
  readonly #wake: Watcher;
  readonly #loops: QueueLoop[] = [];

  /** `woken` is called besides, whenever the control plane wakes the queues. */
  constructor(surroundings: QueueLoopsSurroundings, woken?: () => void) {
    this.#surroundings = surroundings;
    const { wakeFd } = surroundings;
    this.#wake = loadAddon().watch(wakeFd, () => {
      loadAddon().eventfdDrain(wakeFd);
      this.wake();
      woken?.();
    });
    this.#wake.unref();
  }

  /** The control plane has, or may have, something new for the queues. */
  wake(): void {
    for (const loop of this.#loops) loop.wake();
  }

  /** Asks the control plane to look at the queues. */
  readonly attention = (): void => {
    loadAddon().eventfdSignal(this.#surroundings.attentionFd);
  };

  /**
   * Runs queue `index`, whose data path `create` makes; what that is given has the queue looked at soon. `doorbells` is the
   * linear address of a list that begins with this queue (`DoorbellWatch.allocate`).
   */
  start(
    index: number,
    block: QueueBlock,
    doorbells: number,
    create: (schedule: () => void) => LoopDatapath,
  ): void {
    const { aperture, sigbusFlag, deviceFd } = this.#surroundings;
    block.thread = threadId();
    const datapath = create(() => loop.schedule());
    const interrupter = new Interrupter(block, index, deviceFd);
    const runner = new QueueRunner(block, datapath, interrupter, sigbusFlag, this.attention);
    const loop = new QueueLoop(block, runner, new DoorbellWatch(aperture, doorbells, block.vq), datapath);
    this.#loops.push(loop);
  }

  /** Stops for good. The queues must be stopped already, or never be touched again. */
  close(): void {
    for (const loop of this.#loops) loop.close();
    this.#wake.close();
  }
}
