import { channel } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import { ETH_HLEN, VIRTIO_NET_RECEIVEQ1, VIRTIO_NET_TRANSMITQ1 } from '../../assembly/virtio.js';
import { abortError, RingbellError } from '../errors.js';
import { type CaptureStats, type FrameCapture, FrameTap } from '../observability/frame-capture.js';
import { type Direction, INBOUND, OUTBOUND } from '../observability/pcapng.js';
import { checkOptions, checkSignal } from '../options.js';
import type { CompletionMode } from './completion-watch.js';
import { DrivenDevice } from './driven-device.js';
import type { DriverLane } from './driver-lane.js';
import type { DriverQueue } from './driver-queue.js';
import { maxFrameBytes, type NetConfig, readNetConfig } from './net-config.js';
import { ReceiveQueue } from './receive-queue.js';
import { Transmission } from './transmission.js';
import { TransmitQueue } from './transmit-queue.js';
import type { VirtioDriver } from './virtio-driver.js';

const CALL_OPTION_NAMES = ['signal'];

const channels = {
  key: 'net',
  open: channel('ringbell:net:open'),
  doorbell: channel('ringbell:net:doorbell'),
  config: channel('ringbell:net:config'),
  error: channel('ringbell:net:error'),
  close: channel('ringbell:net:close'),
};

/** Of `send` and `receive`. */
export interface NetCallOptions {
  /** Rejects the call with an AbortError. Frames of a `send` that have reached the ring are sent all the same. */
  signal?: AbortSignal | undefined;
}

/** What an interface keeps from the options it was opened with. */
export interface NetInterfaceOptions {
  mode: CompletionMode;
  /** Where frames are written that pass. */
  capture: FrameCapture | undefined;
}

/**
 * A virtio-net device, driven: Ethernet frames out and in, without their frame check sequence. It offers no offloads, and
 * uses one pair of queues. Calls reject with ERR_CLOSED, ERR_DEVICE_BROKEN, an AbortError. Whoever sends or receives keeps
 * the process alive, an idle interface does not.
 */
export class NetInterface extends DrivenDevice<NetConfig> {
  /**
   * Bytes of the longest frame, at the MTU that the device was opened with: the MTU, an Ethernet header and one VLAN tag.
   * The shortest is an Ethernet header alone.
   */
  readonly maxFrameBytes: number;
  /** @internal */
  protected override readonly lanes: readonly DriverLane[];
  readonly #receiveQueue: ReceiveQueue;
  readonly #transmitQueue: TransmitQueue;
  readonly #capture: FrameCapture | undefined;

  /**
   * For `openNet`: a driver that is set up and not yet started.
   * @internal
   */
  constructor(driver: VirtioDriver, config: NetConfig, { mode, capture }: NetInterfaceOptions) {
    super(driver, config, channels);
    this.maxFrameBytes = maxFrameBytes(config.mtu);
    this.#capture = capture;
    const lane = { mode, onBroken: (error: RingbellError) => this.breakDevice(error) };
    const queue = (index: number) => driver.queues[index] as DriverQueue;
    const tap = (direction: Direction, index: number) =>
      capture && new FrameTap(capture, 0, direction, index);
    this.#receiveQueue = new ReceiveQueue(queue(VIRTIO_NET_RECEIVEQ1), {
      ...lane,
      tap: tap(INBOUND, VIRTIO_NET_RECEIVEQ1),
    });
    this.#transmitQueue = new TransmitQueue(queue(VIRTIO_NET_TRANSMITQ1), {
      ...lane,
      tap: tap(OUTBOUND, VIRTIO_NET_TRANSMITQ1),
    });
    this.lanes = [this.#receiveQueue, this.#transmitQueue];
  }

  /**
   * For `openNet`: sets DRIVER_OK, and lets frames come.
   * @internal
   */
  override async start(): Promise<void> {
    await super.start();
    this.#receiveQueue.start();
  }

  /** What has come of the capture; undefined for an interface that was opened without. */
  get capture(): CaptureStats | undefined {
    return this.#capture?.stats;
  }

  /**
   * Sends one frame, or several in order. Resolves when the device has taken all of them; whether anybody got them is not
   * its to say. Frames of one turn of the event loop go to the ring together; where the ring is full they wait, so await
   * before sending much more. Buffers must be left alone until then. Rejects with ERR_ARGUMENT for a frame that is too short
   * or too long, of which none is sent then.
   */
  async send(frames: Uint8Array | readonly Uint8Array[], options: NetCallOptions = {}): Promise<void> {
    const { signal } = this.#check('send', options);
    const transmission = new Transmission(this.#framesOf(frames));
    if (signal) transmission.abortOn(signal);
    this.#transmitQueue.submit(transmission);
    await transmission.promise;
  }

  /**
   * Resolves to frames that have come, in order, at least one: all that there are, but no more than fit the ring. Nothing is
   * lost between calls until the ring is full; then the device drops what comes. One call at a time: ERR_ARGUMENT.
   */
  async receive(options: NetCallOptions = {}): Promise<Uint8Array[]> {
    const { signal } = this.#check('receive', options);
    const { promise, cancel } = this.#receiveQueue.receive();
    if (!signal) return promise;
    const abort = () => cancel(abortError(signal));
    signal.addEventListener('abort', abort, { once: true });
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** Frames as they come, one by one, until the interface is closed. Leaving the loop loses none that it has not given. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    while (!this.closing) {
      let frames: Uint8Array[];
      try {
        frames = await this.receive();
      } catch (error) {
        if (this.closing) return;
        throw error;
      }
      let given = 0;
      try {
        for (; given < frames.length; ) yield frames[given++] as Uint8Array;
      } finally {
        this.#receiveQueue.giveBack(frames.slice(given));
      }
    }
  }

  /** @internal */
  protected override readConfig(): Promise<NetConfig> {
    return readNetConfig(this.driver);
  }

  /** @internal */
  protected override async released(): Promise<void> {
    await this.#capture?.close();
  }

  #check(call: string, options: NetCallOptions): NetCallOptions {
    this.checkOpen();
    checkOptions(call, options, CALL_OPTION_NAMES);
    checkSignal(options.signal);
    if (options.signal?.aborted) throw abortError(options.signal);
    return options;
  }

  #framesOf(frames: Uint8Array | readonly Uint8Array[]): readonly Uint8Array[] {
    const list = frames instanceof Uint8Array ? [frames] : frames;
    if (!Array.isArray(list) || !list.every((frame) => frame instanceof Uint8Array))
      throw new TypeError('frames must be a Uint8Array, or an array of them');
    const wrong = list.find(({ byteLength }) => byteLength < ETH_HLEN || byteLength > this.maxFrameBytes);
    if (wrong)
      throw new RingbellError(
        'ERR_ARGUMENT',
        `a frame has ${ETH_HLEN} to ${this.maxFrameBytes} bytes, not ${wrong.byteLength}`,
      );
    return list;
  }

  [inspect.custom](): string {
    const { mac, mtu, linkUp } = this.config;
    const state = this.closing ? 'closed' : this.broken ? 'broken' : linkUp ? 'link up' : 'link down';
    return `NetInterface { ${this.name}, ${mac ?? 'no address'}, MTU ${mtu}, ${state} }`;
  }
}
