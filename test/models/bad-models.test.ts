/** Models that are slow, throw, never answer or answer wrongly: what becomes of their device, and of its neighbours. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import type { ErrorCode, RingbellError } from '../../host/errors.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import type { Model } from '../../host/models/model.js';
import { serve } from '../../host/serve.js';
import { type MockAnswer, MockDriver } from '../../host/testing/index.js';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_NEEDS_RESET } from '../../host/uapi/virtio.js';
import { ANSWER, ERROR_STATUS, GOOD, WRONG, type Wrong } from './bad-model.js';
import { until, within } from './fixture.js';

const MODEL = new URL('bad-model.js', import.meta.url);
const BLOCK = 4096;
const DISK_BYTES = 64 * BLOCK;
/** Requests of each neighbour that have to end before, during and after. */
const LOAD = 50;
/** Bytes that the device can write: of a chain in a burst, and of one that goes by itself. */
const ROOM = 8;
const LONG_ROOM = 65_536;

/** What a model does wrong, and the state that its device is left in. */
interface Outcome {
  wrong: Wrong;
  /** Where: on the event loop of the neighbours, or in a queue thread. */
  threads: number[];
  /** Code of the event, and of its cause or the message of that; none if there is no event. */
  event?: ErrorCode;
  cause?: string | RegExp;
  /** What the driver gets; nothing, until the reset, if left out. */
  answer?: (answer: MockAnswer) => void;
  /** Whether the device goes on without a reset, and the queue with other requests. */
  goesOn: boolean;
  room?: number;
}

const answered = ({ written, writable }: MockAnswer) => {
  assert.is(written, 2);
  assert.is(writable.at(-1), ANSWER);
};
const failed = ({ written, writable }: MockAnswer) => {
  assert.is(written, 1);
  assert.is(writable.at(-1), ERROR_STATUS);
};

const OUTCOMES: Outcome[] = [
  { wrong: 'awaits', threads: [0, 1], answer: answered, goesOn: true },
  { wrong: 'blocks', threads: [1], answer: answered, goesOn: true },
  { wrong: 'throws', threads: [0, 1], event: 'ERR_MODEL', cause: /^wrong$/, answer: failed, goesOn: true },
  { wrong: 'rejects', threads: [0, 1], event: 'ERR_MODEL', cause: /^wrong$/, answer: failed, goesOn: true },
  {
    wrong: 'throws outside of its handler',
    threads: [1],
    event: 'ERR_THREAD_LOST',
    cause: /^wrong$/,
    goesOn: false,
  },
  { wrong: 'never answers', threads: [0, 1], goesOn: true },
  {
    wrong: 'answers twice',
    threads: [0, 1],
    event: 'ERR_MODEL',
    cause: /has been given back/,
    answer: answered,
    goesOn: true,
  },
  {
    wrong: 'writes beyond the room',
    threads: [0, 1],
    event: 'ERR_MODEL',
    cause: /wrote 9 bytes/,
    answer: failed,
    goesOn: true,
  },
  { wrong: 'answers after the reset', threads: [0, 1], goesOn: true },
  { wrong: 'refuses what is a request', threads: [0, 1], event: 'ERR_RING_REQUEST', goesOn: false },
  {
    wrong: 'transfers its bytes away',
    threads: [0, 1],
    event: 'ERR_MODEL',
    cause: /transferred away/,
    answer: failed,
    goesOn: true,
    room: LONG_ROOM,
  },
];

/** A disk in an array, on the event loop of the test. */
class Memory extends BlockModel {
  override readonly capacity = DISK_BYTES;
  readonly #bytes = new Uint8Array(DISK_BYTES);

  override read(offset: number, into: Uint8Array): void {
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  override write(offset: number, from: Uint8Array): void {
    this.#bytes.set(from, offset);
  }
}

/** A device under load, every byte of which is checked. */
class Neighbour {
  /** Requests that have ended right. */
  done = 0;
  readonly errors: RingbellError[] = [];
  readonly #stop: () => Promise<void>;

  static async start(model: Model, name: string, bus: Bus): Promise<Neighbour> {
    const device = await within(serve(model, { name, bus, threads: 1 }), 'serve');
    const disk = await within(openBlock(name, { bus }), 'openBlock');
    let running = true;
    const neighbour = new Neighbour(async () => {
      running = false;
      await within(load, 'the load');
      await within(disk.close(), 'closing the disk');
      await within(device.close(), 'closing the neighbour');
    });
    device.on('error', (error) => neighbour.errors.push(error));
    const load = (async () => {
      for (let turn = 0; running; turn++) {
        const block = new Uint8Array(BLOCK).fill(turn);
        const offset = (turn % (DISK_BYTES / BLOCK)) * BLOCK;
        await disk.write(offset, block);
        assert.is(Buffer.compare(await disk.read(offset, BLOCK), block), 0);
        neighbour.done += 2;
      }
    })();
    return neighbour;
  }

  private constructor(stop: () => Promise<void>) {
    this.#stop = stop;
  }

  /** Resolves once so many more requests have ended right. */
  async goesOn(): Promise<void> {
    const goal = this.done + LOAD;
    await until(() => this.done >= goal, 'the neighbour to go on');
  }

  async stop(): Promise<void> {
    await this.#stop();
    assert.equal(this.errors, []);
  }
}

/** Plays `body` between two neighbours under load, which go on before, meanwhile and afterwards. */
async function between(bus: Bus, body: (neighbours: readonly Neighbour[]) => Promise<void>): Promise<void> {
  const neighbours = [
    await Neighbour.start(new BlockDevice({ memory: DISK_BYTES }), 'thread', bus),
    await Neighbour.start(new Memory(), 'loop', bus),
  ];
  const goOn = () => Promise.all(neighbours.map((each) => each.goesOn()));
  try {
    await goOn();
    await body(neighbours);
    await goOn();
  } finally {
    await Promise.all(neighbours.map((each) => each.stop()));
  }
}

for (const { wrong, threads, event, cause, answer, goesOn, room = ROOM } of OUTCOMES)
  for (const count of threads)
    test(`a model that ${wrong}, on ${count} threads, leaves its device in a defined state, and neighbours alone`, async () => {
      await using bus = new Bus();
      await between(bus, async (neighbours) => {
        const options = { name: 'bad', bus, threads: count, modelOptions: { wrong } };
        const device = await within(serve(MODEL, options), 'serve');
        const errors: RingbellError[] = [];
        device.on('error', (error) => errors.push(error));
        const driver = await MockDriver.open('bad', { bus });
        const ask = (what: number, bytes = ROOM) =>
          driver.request({ readable: Uint8Array.of(what), writable: bytes });
        try {
          await driver.start();
          answered(await within(ask(GOOD), 'an answer'));
          const asked = ask(WRONG, room);
          asked.catch(() => {});
          await Promise.all(neighbours.map((each) => each.goesOn()));
          if (answer) answer(await within(asked, 'the answer'));
          if (event) await until(() => errors.length > 0, 'an error event');
          assert.equal(
            errors.map(({ code }) => code),
            event ? [event] : [],
          );
          if (cause) assert.match((errors[0]!.cause as Error).message, cause as RegExp);
          const status = await driver.device.status();
          assert.is(status & VIRTIO_CONFIG_S_NEEDS_RESET, goesOn ? 0 : VIRTIO_CONFIG_S_NEEDS_RESET);
          if (goesOn) {
            assert.ok(status & VIRTIO_CONFIG_S_DRIVER_OK);
            answered(await within(ask(GOOD), 'an answer'));
          }
          assert.is(driver.queue().inFlight, answer ? 0 : 1);
          await within(driver.reset(), 'the reset');
          await driver.start();
          answered(await within(ask(GOOD), 'an answer of the next life'));
          assert.is(errors.length, event ? 1 : 0);
          assert.equal(driver.violations, []);
        } finally {
          await within(driver.close(), 'closing the driver');
          await within(device.close(), 'closing the device');
        }
      });
    });

test('a model that never returns costs its own thread, which goes with its device, and neighbours nothing', async () => {
  await using bus = new Bus();
  await between(bus, async (neighbours) => {
    const options = { name: 'bad', bus, threads: 1, modelOptions: { wrong: 'never returns' } };
    const device = await within(serve(MODEL, options), 'serve');
    const driver = await MockDriver.open('bad', { bus });
    await driver.start();
    const asked = driver.request({ readable: Uint8Array.of(WRONG), writable: ROOM });
    asked.catch(() => {});
    await Promise.all(neighbours.map((each) => each.goesOn()));
    assert.is(driver.queue().inFlight, 1);
    assert.is((await driver.device.status()) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
    // The control plane does not need the thread: it is in the model's code, and not inside a ring.
    await within(driver.reset(), 'the reset');
    await within(driver.close(), 'closing the driver');
    const closed = within(device.close(), 'closing the device');
    await Promise.all(neighbours.map((each) => each.goesOn()));
    await closed;
  });
});

test.run();
