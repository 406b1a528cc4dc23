import { setTimeout as delay } from 'node:timers/promises';
import { VERDICT_THREAD_LOST, VERDICT_UNMAPPED } from '../../assembly/layout.js';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
} from '../../assembly/virtio.js';
import type { Aperture } from '../aperture/aperture.js';
import { type ErrorCode, isSystemError, RingbellError, VERDICT_CODES } from '../errors.js';
import { u64 } from '../uapi/codec.js';
import {
  VDUSE_API_VERSION_1,
  VDUSE_DEV_GET_FEATURES,
  VDUSE_DEV_INJECT_CONFIG_IRQ,
  VDUSE_F_QUEUE_READY,
  VDUSE_GET_VQ_STATE,
  VDUSE_SET_STATUS,
  VDUSE_SET_VQ_GROUP_ASID,
  VDUSE_SET_VQ_READY,
  VDUSE_SUSPEND,
  VDUSE_UPDATE_IOTLB,
  vduseDevRequest,
} from '../uapi/vduse.js';
import type { VduseDeviceLayout, VduseDeviceListener } from './device-layout.js';
import type { VduseFile } from './file.js';
import { LateQueues } from './late-queues.js';
import { type Answer, DONE, FAILED, give, type Message } from './message.js';
import { speaks } from './protocol.js';
import { setConfig } from './take-over.js';
import type { Virtqueue } from './virtqueue.js';
import { Virtqueues } from './virtqueues.js';

/** Milliseconds that a transport gets to act on our reply before a queue opens that it does not take for ready yet. */
const READY_LIMIT_MS = 100;
/** Milliseconds between looks at a device that was taken over while its driver was on the way to DRIVER_OK. */
const DRIVER_OK_INTERVAL_MS = 200;
/** What a driver has written that runs. */
const STATUS_RUNNING =
  VIRTIO_CONFIG_S_ACKNOWLEDGE |
  VIRTIO_CONFIG_S_DRIVER |
  VIRTIO_CONFIG_S_FEATURES_OK |
  VIRTIO_CONFIG_S_DRIVER_OK;

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
  /** The end of the chain of operations: each starts when the one before has ended. */
  #last: Promise<unknown> = Promise.resolve();
  #status = 0;
  #features = 0n;
  /** A queue broke: nothing runs until the driver resets. */
  #broken = false;
  /** A thread is stuck inside a ring: nothing runs ever again, and nothing may be unmapped. */
  #stuck = false;
  /** The driver has suspended the device: nothing runs until it resets. */
  #suspended = false;
  #closed = false;
  readonly #lateQueues: LateQueues;
  #driverOk: NodeJS.Timeout | undefined;

  constructor(file: VduseFile, aperture: Aperture, layout: VduseDeviceLayout, listener: VduseDeviceListener) {
    this.#file = file;
    this.#aperture = aperture;
    this.#layout = layout;
    this.#listener = listener;
    this.#queues = new Virtqueues(file, aperture, layout, listener);
    this.#lateQueues = new LateQueues(() => this.#adoptLate());
  }

  /** Announces the queues. Afterwards the device can be attached, if it is not already. */
  async start(): Promise<void> {
    if (!this.#layout.takenOver) await this.#queues.setup();
  }

  /** Answers messages until the file is closed. */
  async run(): Promise<void> {
    if (this.#layout.takenOver) await this.#exclusive(() => this.#takeOver());
    for (;;) {
      let request: Uint8Array;
      try {
        request = await this.#file.read();
      } catch (error) {
        if (this.#closed) return;
        // Without its transport a device has no descriptors that it may still use.
        await this.#exclusive(async () => this.#stop());
        throw new RingbellError('ERR_CONTROL_PLANE', 'reading a message of the device failed', {
          cause: error,
        });
      }
      await this.#exclusive(() => this.#answer(request));
    }
  }

  /** Looks after the queues: to be called whenever one of them has asked for attention. */
  attend(): Promise<void> {
    return this.#exclusive(async () => {
      for (const queue of this.#queues) {
        if (this.#layout.reportIoErrors) this.#reportIoErrors(queue);
        if (queue.block.miss && !queue.block.verdict) await this.#resolveMiss(queue);
      }
      await this.#judge();
    });
  }

  /** The thread that ran queue `index` has ended: the gate has been forced already. */
  threadLost(index: number): Promise<void> {
    return this.#exclusive(async () => {
      const queue = this.#queues.at(index)!;
      this.#aperture.engine.deviceBreak(queue.block.vq, VERDICT_THREAD_LOST);
      await this.#break('ERR_THREAD_LOST', queue.describeVerdict());
    });
  }

  /**
   * Pauses the queues, has `change` do something to the device, and tells the driver of the config space it returns. Throws
   * what keeps it from that, after having reported it.
   */
  reconfigure(change: () => Promise<Uint8Array | undefined>): Promise<void> {
    return this.#exclusive(async () => {
      try {
        await this.#reconfigure(change);
      } catch (error) {
        await this.#fail(error);
        throw error;
      }
    });
  }

  /** Stops the queues, gives the driver's memory back, and closes the file. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#exclusive(() => this.#reset());
    await this.#file.close();
  }

  /** Runs operations one after the other: a message, a miss and a lost thread may come at the same time. */
  #exclusive<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#last.then(operation);
    this.#last = result.catch(() => {});
    return result;
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
      await this.#fail(error);
    }
    await give(answer, message, this.#file);
  }

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
      default:
        // Never ignored: the kernel breaks a device for ever that leaves a message unanswered.
        return FAILED;
    }
  }

  async #reconfigure(change: () => Promise<Uint8Array | undefined>): Promise<void> {
    const changed = await this.#queues.paused(async () => {
      const buffer = await change();
      if (!buffer) return false;
      await setConfig(this.#file, buffer);
      return true;
    });
    // No driver yet: it will read the config space when it comes.
    if (changed) await this.#interruptConfig();
  }

  /** Tells the driver that the config space has changed: false if there is none that runs. */
  async #interruptConfig(): Promise<boolean> {
    try {
      await this.#file.ioctl(VDUSE_DEV_INJECT_CONFIG_IRQ);
      return true;
    } catch (error) {
      if (!isSystemError(error, 'EINVAL')) throw error;
      return false;
    }
  }

  /**
   * Goes on where another process has stopped. No message says whether the driver runs, nor does any ioctl, but the
   * transport passes interrupts on to those that do; and the driver is to see the config space as it is now.
   */
  async #takeOver(): Promise<void> {
    try {
      if (await this.#interruptConfig()) await this.#resume();
      else if (await this.#getFeatures()) this.#watchDriverOk();
    } catch (error) {
      await this.#fail(error);
    }
  }

  /**
   * Waits for a driver that has got as far as features. If it has written DRIVER_OK, the other process has died between its
   * reply and the moment at which the transport took the status over; otherwise its next message says how it goes on.
   */
  #watchDriverOk(): void {
    this.#driverOk = setInterval(() => {
      this.#exclusive(async () => {
        if (this.#status || this.#closed || !(await this.#interruptConfig())) return;
        clearInterval(this.#driverOk);
        await this.#resume();
      }).catch((error) => this.#fail(error));
    }, DRIVER_OK_INTERVAL_MS);
    this.#driverOk.unref();
  }

  /** Runs the queues of a driver that runs. A queue that cannot be run breaks the device: only a reset helps. */
  async #resume(): Promise<void> {
    this.#features = await this.#getFeatures();
    this.#status = STATUS_RUNNING;
    this.#listener.status(this.#status);
    try {
      // Watched on any transport: the message that says that a queue is ready may have been answered already.
      await this.#watchLate(await this.#adoptReady());
    } catch (error) {
      const code = error instanceof RingbellError ? error.code : 'ERR_CONTROL_PLANE';
      return this.#break(code, error instanceof Error ? error.message : String(error));
    }
    await this.#judge();
    if (!this.#broken) this.#openAdopted();
  }

  async #vqState(index: number): Promise<Answer> {
    const queue = this.#queues.at(index);
    if (!queue) return FAILED;
    queue.pause();
    try {
      const avail_index = await queue.availIndex(await this.#getFeatures());
      return { response: { vq_state: { index, split: { avail_index } } } };
    } finally {
      queue.resume();
    }
  }

  /** The message comes before the kernel's own status changes: what needs the new status is done after the reply. */
  async #setStatus(status: number): Promise<Answer> {
    // Whatever it says, it says how the driver goes on.
    clearInterval(this.#driverOk);
    if (status === 0) {
      await this.#reset();
      // From here on no other server must believe what the log says of this driver's queues.
      for (const queue of this.#queues) queue.block.idle();
      this.#listener.status(0);
      return DONE;
    }
    const added = status & ~this.#status;
    if (added & VIRTIO_CONFIG_S_FEATURES_OK) await this.#acceptFeatures();
    if (added & VIRTIO_CONFIG_S_DRIVER_OK) await this.#adopt();
    this.#status = status;
    this.#listener.status(status);
    if (!(added & VIRTIO_CONFIG_S_DRIVER_OK)) return DONE;
    return { after: async () => this.#openAdopted() };
  }

  #openAdopted(): void {
    for (const queue of this.#queues) if (queue.adopted) queue.open();
  }

  async #acceptFeatures(): Promise<void> {
    this.#features = await this.#getFeatures();
    for (const [bit, name] of [
      [VIRTIO_F_VERSION_1, 'VIRTIO_F_VERSION_1'],
      [VIRTIO_F_ACCESS_PLATFORM, 'VIRTIO_F_ACCESS_PLATFORM'],
    ] as const)
      if (!((this.#features >> BigInt(bit)) & 1n))
        throw new RingbellError('ERR_FEATURES', `the driver did not accept ${name}`);
  }

  async #getFeatures(): Promise<bigint> {
    const features = new Uint8Array(u64.size);
    await this.#file.ioctl(VDUSE_DEV_GET_FEATURES, features);
    return u64.decode(features);
  }

  async #adopt(): Promise<void> {
    if (this.#stuck)
      throw new RingbellError(
        'ERR_DEVICE_BROKEN',
        'a thread of the device hangs inside a ring, which no reset ends: close the device and serve another one',
      );
    if (this.#broken)
      throw new RingbellError(
        'ERR_DEVICE_BROKEN',
        'the device is broken and cannot be started without a reset',
      );
    if (this.#layout.memoryLossIsFinal && this.#sigbusCount())
      throw new RingbellError(
        'ERR_MEMORY_LOST',
        "the file of the device was truncated: its contents can't be served",
      );
    // What the in-flight log says of another driver's queues ends here.
    for (const queue of this.#queues) queue.block.idle();
    const late = await this.#adoptReady();
    if (!speaks(this.#layout.protocol, VDUSE_F_QUEUE_READY)) await this.#watchLate(late);
  }

  /** Adopts the queues that are ready: the rest. */
  async #adoptReady(): Promise<Virtqueue[]> {
    const late: Virtqueue[] = [];
    for (const queue of this.#queues) {
      if (await queue.isReady()) await queue.adopt(this.#features);
      else late.push(queue);
    }
    return late;
  }

  async #watchLate(late: readonly Virtqueue[]): Promise<void> {
    if (late.length === 0) return;
    this.#lateQueues.watch(await Promise.all(late.map((queue) => queue.watchKicks())));
  }

  /** Adopts queues that have become ready since DRIVER_OK. */
  #adoptLate(): void {
    this.#exclusive(async () => {
      if (!this.#runs) return;
      for (const queue of this.#queues) {
        if (queue.adopted || !(await queue.isReady())) continue;
        await queue.adopt(this.#features);
        queue.open();
      }
      if ([...this.#queues].every((queue) => queue.adopted)) this.#lateQueues.stop();
    }).catch((error) => this.#fail(error));
  }

  /**
   * The driver starts or stops one queue. Before DRIVER_OK there is nothing to do: what is ready is adopted then. Never
   * refused: the kernel would take the device for broken for ever, instead of until a reset.
   */
  async #setVqReady(index: number, ready: boolean): Promise<Answer> {
    const queue = this.#queues.at(index);
    if (!queue || !this.#runs) return DONE;
    if (!ready) {
      queue.stop();
      queue.abandon();
      return DONE;
    }
    try {
      queue.block.idle();
      await queue.adopt(this.#features);
    } catch (error) {
      await this.#fail(error);
      return DONE;
    }
    return { after: () => this.#openOnceReady(queue) };
  }

  /**
   * A queue becomes ready for the kernel only after our reply, and an interrupt of a queue that is not goes nowhere, with no
   * error (vduse_vq_irq_inject): what it serves from the start might never be noticed.
   */
  async #openOnceReady(queue: Virtqueue): Promise<void> {
    for (let waitedMs = 0; waitedMs < READY_LIMIT_MS && !(await queue.isReady()); waitedMs++) await delay(1);
    queue.open();
  }

  /** From the answer on the transport passes no kick and no interrupt; the position of each queue stays to be asked for. */
  async #suspend(): Promise<Answer> {
    for (const queue of this.#queues) queue.stop();
    this.#suspended = true;
    return DONE;
  }

  /** Whether queues may run: a driver is there, and has neither broken nor suspended the device. */
  get #runs(): boolean {
    return (this.#status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0 && !this.#broken && !this.#suspended;
  }

  /** Idempotent: opening, resetting and closing each send status 0. */
  async #reset(): Promise<void> {
    this.#lateQueues.stop();
    clearInterval(this.#driverOk);
    this.#status = 0;
    this.#features = 0n;
    this.#suspended = false;
    this.#stop();
    // Under a stuck thread nothing may be unmapped; the device stays broken.
    if (this.#stuck) return;
    await this.#queues.reset();
    if (!this.#layout.memoryLossIsFinal) Atomics.store(this.#aperture.i32, this.#layout.sigbusFlag / 4, 0);
    this.#broken = false;
  }

  /** The driver's mappings have changed. */
  async #updateIotlb(asid: number, first: bigint, last: bigint): Promise<Answer> {
    await this.#queues.unmap(asid, first, last);
    await this.#judge();
    return DONE;
  }

  /** A group of queues gets another address space: before DRIVER_OK, as far as kernels go. */
  async #setGroupAsid(group: number, asid: number): Promise<Answer> {
    if (!(await this.#queues.assign(group, asid))) return FAILED;
    await this.#judge();
    return DONE;
  }

  /** Breaks the device if one of its queues is broken. */
  async #judge(): Promise<void> {
    for (const queue of this.#queues)
      if (queue.block.verdict)
        await this.#break(VERDICT_CODES[queue.block.verdict]!, queue.describeVerdict());
  }

  async #resolveMiss(queue: Virtqueue): Promise<void> {
    try {
      if (await this.#queues.map(queue.index, queue.block.faultIova)) {
        queue.pause();
        queue.block.clearMiss();
        queue.resume();
        return;
      }
    } catch (error) {
      await this.#fail(error);
    }
    this.#aperture.engine.deviceBreak(queue.block.vq, VERDICT_UNMAPPED);
  }

  #reportIoErrors(queue: Virtqueue): void {
    const failed = queue.takeIoErrors();
    if (failed > 0n)
      this.#listener.error('ERR_IO', `queue ${queue.index}: ${failed} request(s) ended with an I/O error`);
  }

  /** Stops the device until the driver resets it, tells the driver where the transport can, and the listener. */
  async #break(code: ErrorCode, message: string): Promise<void> {
    if (this.#broken) return;
    this.#broken = true;
    this.#stop();
    const told = await this.#file.needsReset().catch(() => false);
    this.#listener.error(
      code,
      told ? message : `${message}; the driver does not know: its transport has no DEVICE_NEEDS_RESET`,
    );
    if (!told) return;
    this.#status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.#listener.status(this.#status);
  }

  /** An operation failed. A stuck thread breaks the device; anything else is reported, and it goes on. */
  async #fail(error: unknown): Promise<void> {
    if (error instanceof RingbellError && error.code === 'ERR_THREAD_LOST') {
      this.#stuck = true;
      await this.#break(error.code, error.message);
    } else if (error instanceof RingbellError) this.#listener.error(error.code, error.message);
    else this.#listener.error('ERR_CONTROL_PLANE', error instanceof Error ? error.message : String(error));
  }

  #sigbusCount(): number {
    return Atomics.load(this.#aperture.i32, this.#layout.sigbusFlag / 4);
  }

  /** Stops the queues. Under a thread that does not leave its ring nothing may be unmapped ever after. */
  #stop(): void {
    if (!this.#queues.stop()) this.#stuck = true;
  }
}
