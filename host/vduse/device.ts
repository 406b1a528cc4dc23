import { setTimeout as delay } from 'node:timers/promises';
import { VERDICT_THREAD_LOST, VERDICT_UNMAPPED, VQ_IO_ERRORS } from '../../assembly/layout.js';
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
import { ERROR_CODES, type ErrorCode, isSystemError, RingbellError, VERDICT_CODES } from '../errors.js';
import { QueueBlock } from '../queue/queue-block.js';
import { u64 } from '../uapi/codec.js';
import type { Decoded, Initializer } from '../uapi/struct.js';
import {
  VDUSE_API_VERSION_1,
  VDUSE_DEV_GET_FEATURES,
  VDUSE_DEV_INJECT_CONFIG_IRQ,
  VDUSE_F_QUEUE_READY,
  VDUSE_GET_VQ_STATE,
  VDUSE_REQ_RESULT_FAILED,
  VDUSE_REQ_RESULT_OK,
  VDUSE_SET_STATUS,
  VDUSE_SET_VQ_GROUP_ASID,
  VDUSE_SET_VQ_READY,
  VDUSE_SUSPEND,
  VDUSE_UPDATE_IOTLB,
  vduseDevRequest,
  vduseDevResponse,
} from '../uapi/vduse.js';
import { AddressSpaces } from './address-spaces.js';
import type { VduseDeviceLayout, VduseDeviceListener } from './device-layout.js';
import type { VduseFile } from './file.js';
import { LateQueues } from './late-queues.js';
import { speaks } from './protocol.js';
import { setConfig } from './take-over.js';
import { Virtqueue } from './virtqueue.js';

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

type Request = Decoded<typeof vduseDevRequest>;
type Response = Initializer<(typeof vduseDevResponse)['fields']>;

/** How a message is answered: OK, unless the response says otherwise. */
interface Answer {
  response?: Response;
  /** What has to wait until the transport has the answer. */
  after?: () => Promise<void>;
}

const DONE: Answer = {};
const FAILED: Answer = { response: { result: VDUSE_REQ_RESULT_FAILED } };

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
  readonly #addressSpaces: AddressSpaces;
  readonly #queues: readonly Virtqueue[];
  readonly #ioErrors: bigint[];
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
    this.#addressSpaces = new AddressSpaces(file, aperture, layout, listener);
    this.#queues = layout.queues.map(
      ({ vq, ...eventfds }, index) =>
        new Virtqueue(file, index, new QueueBlock(aperture, vq), eventfds, layout, (...range) =>
          this.#translate(index, ...range),
        ),
    );
    this.#lateQueues = new LateQueues(() => this.#adoptLate());
    this.#ioErrors = layout.queues.map(() => 0n);
  }

  /** Announces the queues. Afterwards the device can be attached, if it is not already. */
  async start(): Promise<void> {
    if (this.#layout.takenOver) return;
    for (const queue of this.#queues) await queue.setup(this.#addressSpaces.groupOf(queue.index));
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
        await this.#exclusive(async () => this.#stopAll());
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
        const { verdict } = queue.block;
        if (verdict) await this.#break(VERDICT_CODES[verdict]!, this.#describe(queue));
      }
    });
  }

  /** The thread that ran queue `index` has ended: the gate has been forced already. */
  threadLost(index: number): Promise<void> {
    return this.#exclusive(async () => {
      const queue = this.#queues[index]!;
      this.#aperture.engine.deviceBreak(queue.block.vq, VERDICT_THREAD_LOST);
      await this.#break('ERR_THREAD_LOST', this.#describe(queue));
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
    const request = vduseDevRequest.decode(bytes);
    let answer: Answer;
    try {
      answer = await this.#handle(request);
    } catch (error) {
      answer = FAILED;
      await this.#fail(error);
    }
    const response = { request_id: request.request_id, result: VDUSE_REQ_RESULT_OK, ...answer.response };
    try {
      await this.#file.write(vduseDevResponse.encode(response));
    } catch (error) {
      // ENOENT: whoever asked has given up waiting. The rest shows at the next read.
      if (!isSystemError(error)) throw error;
    }
    await answer.after?.();
  }

  async #handle(request: Request): Promise<Answer> {
    switch (request.type) {
      case VDUSE_GET_VQ_STATE:
        return this.#vqState(request.vq_state.index);
      case VDUSE_SET_STATUS:
        return this.#setStatus(request.s.status);
      case VDUSE_UPDATE_IOTLB: {
        // The two forms of the message agree but for the address space, which version 0 has one of.
        const { start, last, asid } = request.iova_v2;
        return this.#updateIotlb(
          this.#layout.protocol.apiVersion < VDUSE_API_VERSION_1 ? 0 : asid,
          start,
          last,
        );
      }
      case VDUSE_SET_VQ_GROUP_ASID:
        return this.#setGroupAsid(request.vq_group_asid.group, request.vq_group_asid.asid);
      case VDUSE_SET_VQ_READY:
        return this.#setVqReady(request.vq_ready.num, request.vq_ready.ready !== 0);
      case VDUSE_SUSPEND:
        return this.#suspend();
      default:
        // Never ignored: the kernel breaks a device for ever that leaves a message unanswered.
        return FAILED;
    }
  }

  async #reconfigure(change: () => Promise<Uint8Array | undefined>): Promise<void> {
    this.#pauseAll();
    try {
      const buffer = await change();
      if (!buffer) return;
      await setConfig(this.#file, buffer);
    } finally {
      this.#resumeAll();
    }
    // No driver yet: it will read the config space when it comes.
    await this.#interruptConfig();
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
    for (const queue of this.#queues)
      if (queue.block.verdict) return this.#break(VERDICT_CODES[queue.block.verdict]!, this.#describe(queue));
    this.#openAdopted();
  }

  async #vqState(index: number): Promise<Answer> {
    const queue = this.#queues[index];
    if (!queue) return FAILED;
    queue.pause();
    try {
      return { response: { vq_state: { index, split: { avail_index: await queue.availIndex() } } } };
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
      if (this.#queues.every((queue) => queue.adopted)) this.#lateQueues.stop();
    }).catch((error) => this.#fail(error));
  }

  /**
   * The driver starts or stops one queue. Before DRIVER_OK there is nothing to do: what is ready is adopted then. Never
   * refused: the kernel would take the device for broken for ever, instead of until a reset.
   */
  async #setVqReady(index: number, ready: boolean): Promise<Answer> {
    const queue = this.#queues[index];
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
    this.#stopAll();
    // Under a stuck thread nothing may be unmapped; the device stays broken.
    if (this.#stuck) return;
    for (const queue of this.#queues) queue.reset();
    await this.#addressSpaces.reset();
    this.#showAddressSpaces();
    if (!this.#layout.memoryLossIsFinal) Atomics.store(this.#aperture.i32, this.#layout.sigbusFlag / 4, 0);
    this.#broken = false;
  }

  /**
   * The transport's table has changed already. Nothing is unmapped under a running queue, and nothing old is reachable
   * once the reply is written; the rings are found again at once, the rest when it is next needed.
   */
  async #updateIotlb(asid: number, first: bigint, last: bigint): Promise<Answer> {
    await this.#remap(() => this.#addressSpaces.drop(asid, first, last));
    return DONE;
  }

  /** A group of queues gets another address space: before DRIVER_OK, as far as kernels go. */
  async #setGroupAsid(group: number, asid: number): Promise<Answer> {
    let known = false;
    await this.#remap(async () => {
      known = this.#addressSpaces.assign(group, asid);
      this.#showAddressSpaces();
    });
    return known ? DONE : FAILED;
  }

  /** Has `change` do something to mappings, and finds the rings of the queues again. */
  async #remap(change: () => Promise<void>): Promise<void> {
    this.#pauseAll();
    try {
      await change();
      for (const queue of this.#queues) {
        if (!(await queue.relocate())) this.#aperture.engine.deviceBreak(queue.block.vq, VERDICT_UNMAPPED);
        // What was missing may be there now: the pop is tried again.
        queue.block.clearMiss();
      }
    } finally {
      this.#resumeAll();
    }
    for (const queue of this.#queues)
      if (queue.block.verdict) await this.#break(VERDICT_CODES[queue.block.verdict]!, this.#describe(queue));
  }

  /** Tells each queue which IOTLB it goes through. All of them must be stopped. */
  #showAddressSpaces(): void {
    for (const { index, block } of this.#queues) block.iotlb = this.#addressSpaces.memoryOf(index).iotlb;
  }

  async #resolveMiss(queue: Virtqueue): Promise<void> {
    try {
      if (await this.#map(queue.index, queue.block.faultIova)) {
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

  async #translate(index: number, iova: bigint, bytes: number, access: number): Promise<number> {
    const memory = this.#addressSpaces.memoryOf(index);
    const linear = memory.translate(iova, bytes, access);
    if (linear !== 0 || !(await this.#map(index, iova))) return linear;
    return memory.translate(iova, bytes, access);
  }

  /** Maps the region that contains `iova` for queue `index`: false if the driver has none there. */
  async #map(index: number, iova: bigint): Promise<boolean> {
    const memory = this.#addressSpaces.memoryOf(index);
    // Another queue was first to miss it.
    if (memory.covers(iova)) return true;
    const region = await memory.fetch(iova);
    if (!region) return false;
    this.#pauseAll();
    try {
      // Overlapping what is mapped: the table has changed, and the message that says so is on its way.
      await memory.add(region);
    } finally {
      this.#resumeAll();
    }
    return true;
  }

  #reportIoErrors(queue: Virtqueue): void {
    const now = Atomics.load(this.#aperture.u64, (queue.block.vq + VQ_IO_ERRORS) / 8);
    const failed = now - this.#ioErrors[queue.index]!;
    this.#ioErrors[queue.index] = now;
    if (failed > 0n)
      this.#listener.error('ERR_IO', `queue ${queue.index}: ${failed} request(s) ended with an I/O error`);
  }

  /** Stops the device until the driver resets it, tells the driver where the transport can, and the listener. */
  async #break(code: ErrorCode, message: string): Promise<void> {
    if (this.#broken) return;
    this.#broken = true;
    this.#stopAll();
    this.#listener.error(code, message);
    const told = await this.#file.needsReset().catch(() => false);
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

  #describe({ index, block }: Virtqueue): string {
    const code = VERDICT_CODES[block.verdict]!;
    return `queue ${index}: ${ERROR_CODES[code]} (chain ${block.verdictHead}, IOVA 0x${block.faultIova.toString(16)})`;
  }

  #sigbusCount(): number {
    return Atomics.load(this.#aperture.i32, this.#layout.sigbusFlag / 4);
  }

  /** All of the queues or none. Throws ERR_THREAD_LOST. */
  #pauseAll(): void {
    const paused: Virtqueue[] = [];
    try {
      for (const queue of this.#queues) {
        queue.pause();
        paused.push(queue);
      }
    } catch (error) {
      for (const queue of paused) queue.resume();
      throw error;
    }
  }

  #resumeAll(): void {
    for (const queue of this.#queues) queue.resume();
  }

  /** A queue that cannot be stopped does not keep the others from being stopped. */
  #stopAll(): void {
    for (const queue of this.#queues) {
      try {
        queue.stop();
      } catch {
        this.#stuck = true;
      }
    }
  }
}
