import assert from 'node:assert/strict';
import { Bus } from '../bus/index.js';
import type { RingbellError } from '../errors.js';
import type { Model } from '../models/model.js';
import { type ServeOptions, serve } from '../serve.js';
import type { ServedDevice } from '../served/served-device.js';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_RING_F_INDIRECT_DESC } from '../uapi/virtio.js';
import type { ModelContractOptions } from './contract.js';
import { MockDriver, type MockStartOptions } from './mock-driver.js';
import type { MockAnswer, MockRequest } from './mock-queue.js';
import { ObservedModel } from './observed-model.js';
import { until, within } from './waiting.js';

/** A request of a contract, and what its answer has to be. */
export interface ContractRequest extends MockRequest {
  /** Throws unless the answer is right. It must not depend on which other requests came before. */
  check?(answer: MockAnswer): void;
}

/** Rings and threads that a case is played over. */
export interface Variant {
  readonly packed: boolean;
  readonly inOrder: boolean;
  readonly threads: number;
}

/** Entries of the queues of a case. */
export const QUEUE_SIZE = 64;
const NAME = 'contract';

/** A model that is served on a bus of its own, and a driver that runs it: what the cases of one variant share. */
export class ContractScene {
  readonly bus = new Bus();
  readonly model: Model | URL;
  /** Of a model that runs in this thread. */
  readonly observed: ObservedModel | undefined;
  /** What the device has told of. */
  readonly errors: RingbellError[] = [];
  device!: ServedDevice;
  driver!: MockDriver;
  readonly #options: ModelContractOptions;
  readonly #variant: Variant;

  /** Makes a model, serves it, and opens the device. */
  static async open(options: ModelContractOptions, variant: Variant): Promise<ContractScene> {
    const scene = new ContractScene(options, variant, await options.model());
    try {
      await scene.serve();
    } catch (error) {
      await scene.close();
      throw error;
    }
    return scene;
  }

  /** Plays a case for a driver that comes anew, and asserts that nothing was wrong. */
  async play(act: (scene: ContractScene) => Promise<void>): Promise<void> {
    await this.reset();
    this.errors.length = 0;
    await this.start();
    await act(this);
    assert.deepEqual([...this.driver.violations], [], 'the device keeps to the rules of rings');
    assert.equal(this.observed?.disorder, undefined, 'hooks come in the order of a life');
  }

  private constructor(options: ModelContractOptions, variant: Variant, model: Model | URL) {
    this.#options = options;
    this.#variant = variant;
    this.model = model;
    this.observed = ObservedModel.of(model);
  }

  /** Serves the model, again if it was closed, and opens the device. */
  async serve(): Promise<void> {
    const { queues = 1 } = this.#options;
    this.device = await within(serve(this.model, this.#serveOptions({ name: NAME })), 'the device');
    this.device.on('error', (error) => this.errors.push(error));
    this.driver = await MockDriver.open(NAME, { bus: this.bus, queues, queueSize: QUEUE_SIZE });
  }

  /** From status 0 to DRIVER_OK. */
  async start(options: MockStartOptions = {}): Promise<void> {
    const { packed, inOrder } = this.#variant;
    await within(this.driver.start({ packed, inOrder, ...options }), 'DRIVER_OK');
    await until(
      () => (this.device.status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0,
      'the device to know of DRIVER_OK',
    );
  }

  /** Resets the device: what it had to tell of its driver has been told then. */
  async reset(): Promise<void> {
    await within(this.driver.reset(), 'a reset');
    await until(() => this.device.status === 0, 'the device to know of the reset');
  }

  /** Serves another model of the kind, which goes on from `state`, while `act` runs. */
  async another(
    state: Uint8Array,
    act: (name: string, device: ServedDevice) => Promise<void>,
  ): Promise<void> {
    const model = await this.#options.model();
    const name = `${NAME}-2`;
    const device = await within(serve(model, this.#serveOptions({ name, state })), 'the other device');
    try {
      await act(name, device);
      await this.driver.move(NAME, { bus: this.bus });
    } finally {
      await within(device.close(), 'the other device to close');
      await this.#options.released?.(model);
    }
  }

  /** Has the driver go on with another device, with its rings as they are. */
  async moveTo(name: string, bases: readonly number[]): Promise<void> {
    await this.driver.move(name, { bus: this.bus });
    const { packed, inOrder } = this.#variant;
    await within(this.driver.start({ packed, inOrder, bases }), 'DRIVER_OK');
  }

  /** Requests of the contract, one element for those that belong together; those without a queue are dealt out over all. */
  get rounds(): ContractRequest[][] {
    const { queues = 1 } = this.#options;
    return this.#options.requests.map((round, index) =>
      (Array.isArray(round) ? round : [round]).map((request) => ({ queue: index % queues, ...request })),
    );
  }

  /** Makes requests available, kicks, and asserts that each is answered right. */
  async ask(requests: readonly ContractRequest[]): Promise<void> {
    const answers = await within(
      Promise.all(requests.map((request) => this.driver.request(request))),
      'the answers to requests',
    );
    for (const [index, answer] of answers.entries()) requests[index]!.check?.(answer);
  }

  /** Asserts that every request is answered, and that nothing is amiss. */
  async works(): Promise<void> {
    for (const round of this.rounds) await this.ask(round);
    this.sound();
  }

  /** Asserts that the device has told of no error. */
  sound(): void {
    assert.deepEqual(
      this.errors.map(({ code, message }) => `${code}: ${message}`),
      [],
      'the device tells of no error',
    );
  }

  /** Fills the queues with the rounds, over and over, as far as they go: what is on its way. Kicks at the end. */
  fill(most = Number.POSITIVE_INFINITY): Promise<void>[] {
    const { rounds, driver } = this;
    const answers: Promise<void>[] = [];
    for (let turn = 0; answers.length < most; turn++) {
      const round = rounds[turn % rounds.length]!;
      if (!this.#fit(round)) break;
      for (const request of round)
        answers.push(
          driver
            .queue(request.queue)
            .publish(request)
            .then((answer) => request.check?.(answer)),
        );
    }
    for (const queue of driver.queues) queue.kick();
    return answers;
  }

  /** Whether indirect tables can be used. */
  get indirect(): boolean {
    return this.driver.negotiated(VIRTIO_RING_F_INDIRECT_DESC);
  }

  /** Closes all of it, and gives the model back. */
  async close(): Promise<void> {
    await within(Promise.resolve(this.driver?.close()), 'the driver to close');
    await within(Promise.resolve(this.device?.close()), 'the device to close');
    await this.bus.close();
    await this.#options.released?.(this.model);
  }

  #serveOptions(own: { name: string; state?: Uint8Array }): ServeOptions {
    const { queues = 1, modelOptions } = this.#options;
    return {
      ...{ bus: this.bus, queues, queueSize: QUEUE_SIZE, ...this.#variant, ...own },
      ...(modelOptions !== undefined && { modelOptions }),
    };
  }

  #fit(round: readonly ContractRequest[]): boolean {
    // A round's chains are of a few descriptors each; what is left over is not worth a count.
    const needed = (index: number) =>
      round
        .filter(({ queue = 0 }) => queue === index)
        .reduce((sum, request) => sum + descriptorsOf(request), 0);
    return this.driver.queues.every(({ index, ring }) => needed(index) <= ring.free);
  }
}

function descriptorsOf({ readable = [], writable = [], indirect }: MockRequest): number {
  if (indirect) return 1;
  const pieces = (of: unknown) => (Array.isArray(of) ? of.length : 1);
  return pieces(readable) + pieces(writable);
}
