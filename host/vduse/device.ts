import { VERDICT_THREAD_LOST, VERDICT_UNMAPPED } from '../../assembly/layout.js';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
} from '../../assembly/virtio.js';
import type { Aperture } from '../aperture/aperture.js';
import { RingbellError } from '../errors.js';
import { Mutex } from '../mutex.js';
import {
  VDUSE_API_VERSION_1,
  VDUSE_F_QUEUE_READY,
  VDUSE_GET_VQ_STATE,
  VDUSE_SET_STATUS,
  VDUSE_SET_VQ_GROUP_ASID,
  VDUSE_SET_VQ_READY,
  VDUSE_SUSPEND,
  VDUSE_UPDATE_IOTLB,
  vduseDevRequest,
} from '../uapi/vduse.js';
import { decodePackedVringBase, decodeSplitVringBase } from '../uapi/vring-base.js';
import { AbandonedDriver, STATUS_RUNNING } from './abandoned-driver.js';
import { Breakdown } from './breakdown.js';
import { interruptConfig, setConfig } from './config-space.js';
import type { VduseDeviceLayout, VduseDeviceListener } from './device-layout.js';
import type { DirtyOperation, DirtyRange } from './dirty-pages.js';
import { driverFeatures, isPacked, judgeFeatures } from './driver-features.js';
import { failureOf } from './failure.js';
import type { VduseFile } from './file.js';
import { LateQueues } from './late-queues.js';
import { Life } from './life.js';
import { VDUSE_SET_LOG } from './log-extension.js';
import { type Answer, DONE, FAILED, give, type Message } from './message.js';
import { speaks } from './protocol.js';
import type { Virtqueue } from './virtqueue.js';
import { Virtqueues } from './virtqueues.js';

/**
 * The control plane of a VDUSE device: answers the messages of its file, follows the driver's status, adopts its rings,
 * maps its memory, and stops everything when a queue breaks. To be run in a thread of its own: whoever waits for one of
 * its answers must not be able to keep it from giving it.
 */
export class VduseDevice {
  readonly #file: VduseFile;
  readonly #aperture: Aperture;
  readonly #layout: VduseDeviceLayout;
  readonly #listener: VduseDeviceListener;
  readonly #queues: Virtqueues;
  /** Operations run one after the other: a message, a miss and a lost thread may come at the same time. */
  readonly #operations = new Mutex();
  readonly #breakdown: Breakdown;
  readonly #life: Life;
  #status = 0;
  #features = 0n;
  /** The driver has suspended the device: nothing runs until it resets. */
  #suspended = false;
  #closed = false;
  readonly #lateQueues: LateQueues;
  readonly #abandoned: AbandonedDriver;

  constructor(file: VduseFile, aperture: Aperture, layout: VduseDeviceLayout, listener: VduseDeviceListener) {
    this.#file = file;
    this.#aperture = aperture;
    this.#layout = layout;
    this.#listener = listener;
    this.#queues = new Virtqueues(file, aperture, layout, listener);
    this.#life = new Life(aperture, layout.life);
    this.#breakdown = new Breakdown(file, this.#queues, listener, () => this.#needsReset());
    this.#abandoned = new AbandonedDriver(file);
    this.#lateQueues = new LateQueues(() => this.#adoptLate());
  }

  /** Announces the queues. Afterwards the device can be attached, if it is not already. */
  async start(): Promise<void> {
    if (!this.#layout.takenOver) await this.#queues.setup();
  }

  /** Answers messages until the file is closed. */
  async run(): Promise<void> {
    if (this.#layout.takenOver) await this.#operations.run(() => this.#takeOver());
    for (;;) {
      let request: Uint8Array;
      try {
        request = await this.#file.read();
      } catch (error) {
        if (this.#closed) return;
        // Without its transport a device has no descriptors that it may still use.
        await this.#operations.run(async () => this.#breakdown.stop());
        throw new RingbellError('ERR_CONTROL_PLANE', 'reading a message of the device failed', {
          cause: error,
        });
      }
      await this.#operations.run(() => this.#answer(request));
    }
  }

  /** Looks after the queues: to be called whenever one of them has asked for attention. */
  attend(): Promise<void> {
    return this.#operations.run(async () => {
      for (const queue of this.#queues) {
        if (this.#layout.reportIoErrors) this.#reportIoErrors(queue);
        if (queue.block.miss && !queue.block.verdict) await this.#resolveMiss(queue);
      }
      await this.#breakdown.judge();
    });
  }

  /** The thread that ran queue `index` has ended: the gate has been forced already. */
  threadLost(index: number): Promise<void> {
    return this.#operations.run(async () => {
      const queue = this.#queues.at(index)!;
      this.#aperture.engine.deviceBreak(queue.block.vq, VERDICT_THREAD_LOST);
      await this.#breakdown.break('ERR_THREAD_LOST', queue.describeVerdict());
    });
  }

  /**
   * Pauses the queues, has `change` do something to the device, and tells the driver of the config space it returns. Throws
   * what keeps it from that, after having reported it.
   */
  reconfigure(change: () => Promise<Uint8Array | undefined>): Promise<void> {
    return this.#reported(async () => {
      const changed = await this.#queues.paused(async () => {
        const buffer = await change();
        if (buffer) await setConfig(this.#file, buffer);
        return buffer !== undefined;
      });
      // No driver yet: it will read the config space when it comes.
      if (changed) await interruptConfig(this.#file);
    });
  }

  /** Does something with the pages that the device has written: those that were fetched. Throws what keeps it from that. */
  dirtyPages(operation: DirtyOperation): Promise<DirtyRange[]> {
    return this.#reported(() => this.#queues.dirtyPages(operation));
  }

  /** Stops the queues, gives the driver's memory back, and closes the file. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#operations.run(() => this.#reset());
    await this.#file.close();
  }

  /** Runs what somebody in this process asks for, and is told of its failure besides. */
  #reported<T>(operation: () => Promise<T>): Promise<T> {
    return this.#operations.run(async () => {
      try {
        return await operation();
      } catch (error) {
        await this.#breakdown.fail(error);
        throw error;
      }
    });
  }

  async #answer(bytes: Uint8Array): Promise<void> {
    // A device that has let go of everything takes nothing up again: its transport keeps the message for the next one.
    if (this.#closed) return;
    const message = vduseDevRequest.decode(bytes);
    let answer: Answer;
    try {
      answer = await this.#handle(message);
    } catch (error) {
      answer = FAILED;
      await this.#breakdown.fail(error);
    }
    await give(answer, message, this.#file);
  }

  /**
   * Of the thirteen messages of VDUSE's RFC three have stayed, and VDUSE_SET_VQ_READY has come back. What the others said is
   * asked for when it is needed: see Virtqueue, driverFeatures, setConfig.
   */
  async #handle(message: Message): Promise<Answer> {
    const { apiVersion } = this.#layout.protocol;
    switch (message.type) {
      case VDUSE_GET_VQ_STATE:
        return this.#vqState(message.vq_state.index);
      case VDUSE_SET_STATUS:
        return this.#setStatus(message.s.status);
      case VDUSE_UPDATE_IOTLB: {
        // The two forms of the message agree but for the address space, which version 0 has one of.
        const { start, last, asid } = message.iova_v2;
        return this.#updateIotlb(apiVersion < VDUSE_API_VERSION_1 ? 0 : asid, start, last);
      }
      case VDUSE_SET_VQ_GROUP_ASID:
        return this.#setGroupAsid(message.vq_group_asid.group, message.vq_group_asid.asid);
      case VDUSE_SET_VQ_READY:
        return this.#setVqReady(message.vq_ready.num, message.vq_ready.ready !== 0);
      case VDUSE_SUSPEND:
        return this.#suspend();
      case VDUSE_SET_LOG:
        await this.#queues.followLog();
        return DONE;
      default:
        // Never ignored: the kernel breaks a device for ever that leaves a message unanswered.
        return FAILED;
    }
  }

  /** Goes on where another process has stopped. */
  async #takeOver(): Promise<void> {
    try {
      // The message that speaks of it was the other process's.
      await this.#queues.followLog();
      if (await this.#abandoned.runs()) await this.#resume();
      else await this.#abandoned.watch(() => this.#lookAtAbandoned());
    } catch (error) {
      await this.#breakdown.fail(error);
    }
  }

  #lookAtAbandoned(): void {
    this.#operations
      .run(async () => {
        if (this.#status || this.#closed || !(await this.#abandoned.runs())) return;
        this.#abandoned.stop();
        await this.#resume();
      })
      .catch((error) => this.#breakdown.fail(error));
  }

  /** Runs the queues of a driver that runs. A queue that cannot be run breaks the device: only a reset helps. */
  async #resume(): Promise<void> {
    this.#features = await driverFeatures(this.#file);
    this.#status = STATUS_RUNNING;
    this.#life.set(this.#status, this.#features);
    this.#listener.status(this.#status);
    try {
      // Watched on any transport: the message that says that a queue is ready may have been answered already.
      await this.#watchLate(await this.#queues.adoptReady(this.#features));
    } catch (error) {
      const { code, message } = failureOf(error);
      return this.#breakdown.break(code, message);
    }
    await this.#breakdown.judge();
    if (!this.#breakdown.broken) this.#queues.openAdopted();
  }

  async #vqState(index: number): Promise<Answer> {
    const queue = this.#queues.at(index);
    if (!queue) return FAILED;
    const features = await driverFeatures(this.#file);
    const base = await queue.base(features);
    const state = isPacked(features)
      ? { packed: decodePackedVringBase(base) }
      : { split: decodeSplitVringBase(base) };
    return { response: { vq_state: { index, ...state } } };
  }

  /** The message comes before the kernel's own status changes: what needs the new status is done after the reply. */
  async #setStatus(status: number): Promise<Answer> {
    // Whatever it says, it says how the driver goes on.
    this.#abandoned.stop();
    if (status === 0) {
      await this.#reset();
      // From here on no other server must believe what the log says of this driver's queues.
      for (const queue of this.#queues) queue.block.idle();
      this.#listener.status(0);
      return DONE;
    }
    const added = status & ~this.#status;
    if (added & VIRTIO_CONFIG_S_FEATURES_OK) {
      this.#features = await driverFeatures(this.#file);
      judgeFeatures(this.#features, this.#layout.features);
    }
    if (added & VIRTIO_CONFIG_S_DRIVER_OK) await this.#adopt();
    this.#status = status;
    this.#life.set(status, this.#features);
    this.#listener.status(status);
    if (!(added & VIRTIO_CONFIG_S_DRIVER_OK) || this.#suspended) return DONE;
    return { after: async () => this.#queues.openAdopted() };
  }

  async #adopt(): Promise<void> {
    this.#breakdown.check();
    if (this.#layout.memoryLossIsFinal && Atomics.load(this.#aperture.i32, this.#layout.sigbusFlag / 4))
      throw new RingbellError(
        'ERR_MEMORY_LOST',
        "the file of the device was truncated: its contents can't be served",
      );
    // What the in-flight log says of another driver's queues ends here.
    for (const queue of this.#queues) queue.block.idle();
    const late = await this.#queues.adoptReady(this.#features);
    if (!speaks(this.#layout.protocol, VDUSE_F_QUEUE_READY)) await this.#watchLate(late);
  }

  async #watchLate(late: readonly Virtqueue[]): Promise<void> {
    if (late.length === 0) return;
    this.#lateQueues.watch(await Promise.all(late.map((queue) => queue.watchKicks())));
  }

  /** Adopts queues that have become ready since DRIVER_OK. */
  #adoptLate(): void {
    this.#operations
      .run(async () => {
        if (!this.#runs) return;
        for (const queue of this.#queues) {
          if (queue.adopted || !(await queue.isReady())) continue;
          await queue.adopt(this.#features);
          queue.open();
        }
        if ([...this.#queues].every((queue) => queue.adopted)) this.#lateQueues.stop();
      })
      .catch((error) => this.#breakdown.fail(error));
  }

  /**
   * The driver starts or stops one queue. Before DRIVER_OK there is nothing to do: what is ready is adopted then. Never
   * refused: the kernel would take the device for broken for ever, instead of until a reset. A queue that stops is reset by
   * that ("Virtqueue Reset"): when the answer is given nothing of it is touched any more, what a model still holds of it is
   * stale, its log is empty, and it begins wherever the driver says next.
   */
  async #setVqReady(index: number, ready: boolean): Promise<Answer> {
    const queue = this.#queues.at(index);
    if (!queue || !this.#runs) return DONE;
    if (!ready) {
      queue.stop();
      queue.abandon();
      queue.block.idle();
      return DONE;
    }
    try {
      queue.block.idle();
      await queue.adopt(this.#features);
    } catch (error) {
      await this.#breakdown.fail(error);
      return DONE;
    }
    return { after: () => queue.openOnceReady() };
  }

  /** From the answer on the transport passes no kick and no interrupt; the position of each queue stays to be asked for. */
  async #suspend(): Promise<Answer> {
    for (const queue of this.#queues) queue.stop();
    this.#suspended = true;
    this.#life.suspend();
    this.#listener.status(this.#status);
    return DONE;
  }

  /** Whether queues may run: a driver is there, and has neither broken nor suspended the device. */
  get #runs(): boolean {
    return (this.#status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0 && !this.#breakdown.broken && !this.#suspended;
  }

  /** Idempotent: opening, resetting and closing each send status 0. */
  async #reset(): Promise<void> {
    this.#lateQueues.stop();
    this.#abandoned.stop();
    this.#status = 0;
    this.#features = 0n;
    this.#suspended = false;
    this.#breakdown.stop();
    // Not before: what a queue takes belongs to the life in which it is taken, and to no later one.
    this.#life.reset();
    // Under a stuck thread nothing may be unmapped; the device stays broken.
    if (this.#breakdown.stuck) return;
    await this.#queues.reset();
    if (!this.#layout.memoryLossIsFinal) Atomics.store(this.#aperture.i32, this.#layout.sigbusFlag / 4, 0);
    this.#breakdown.mend();
  }

  /** The driver's mappings have changed. */
  async #updateIotlb(asid: number, first: bigint, last: bigint): Promise<Answer> {
    await this.#queues.unmap(asid, first, last);
    await this.#breakdown.judge();
    return DONE;
  }

  /** A group of queues gets another address space: before DRIVER_OK, as far as kernels go. */
  async #setGroupAsid(group: number, asid: number): Promise<Answer> {
    if (!(await this.#queues.assign(group, asid))) return FAILED;
    await this.#breakdown.judge();
    return DONE;
  }

  async #resolveMiss(queue: Virtqueue): Promise<void> {
    try {
      if (await this.#queues.resolveMiss(queue)) return;
    } catch (error) {
      await this.#breakdown.fail(error);
    }
    this.#aperture.engine.deviceBreak(queue.block.vq, VERDICT_UNMAPPED);
  }

  #reportIoErrors(queue: Virtqueue): void {
    const failed = queue.takeIoErrors();
    if (failed > 0n)
      this.#listener.error('ERR_IO', `queue ${queue.index}: ${failed} request(s) ended with an I/O error`);
  }

  #needsReset(): void {
    this.#status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.#listener.status(this.#status);
  }
}
