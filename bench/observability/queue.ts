import {
  COMPLETION_SIZE,
  COMPLETION_TAG,
  DQ_FLIGHT,
  LATENCY_BLOCK_SIZE,
  VQ_FLIGHT,
  VQ_LATENCY,
} from '../../assembly/layout.js';
import { VIRTIO_ID_BLOCK } from '../../assembly/virtio.js';
import type { Aperture } from '../../host/aperture/aperture.js';
import { RequestTimer } from '../../host/drivers/request-timer.js';
import { createDatapath } from '../../host/models/blk/block-datapath.js';
import { FlightRecorder } from '../../host/queue/flight-recorder.js';
import type { Interrupter } from '../../host/queue/interrupter.js';
import { LatencyRecorder } from '../../host/queue/latency-recorder.js';
import { QueueBlock } from '../../host/queue/queue-block.js';
import { QueueRunner } from '../../host/queue/queue-runner.js';
import { Disks, type DisksOptions } from '../round-trip/disks.js';

/** A disk in memory and its driver as they run in a program, the data path behind the gate, on one thread. */
export class ObservedQueue {
  readonly #disks: Disks;
  readonly #batch: number;
  readonly #block: QueueBlock;
  readonly #runner: QueueRunner;
  readonly #driver = LatencyRecorder.create();
  readonly #timer = new RequestTimer(this.#driver);
  readonly #i32: Int32Array;
  /** That of the driver. */
  readonly #flight: FlightRecorder | undefined;

  /** `flightChains` is how many chains the flight recorders of both sides have room for; 0 for none. */
  constructor(options: DisksOptions & { flightChains: number }) {
    this.#disks = new Disks(options);
    this.#batch = options.batch;
    const { ring, disk } = this.#disks;
    const { memory, engine, data } = ring;
    this.#i32 = new Int32Array(memory.buffer);
    const views = {
      i32: this.#i32,
      u32: new Uint32Array(memory.buffer),
      u64: new BigUint64Array(memory.buffer),
    };
    const aperture = {
      memory,
      engine,
      data,
      ...views,
      prepareFileIo: () => () => 0,
      allocate: (bytes: number) => ring.allocate(bytes),
    } as unknown as Aperture;
    data.setUint32(ring.vq + VQ_LATENCY, ring.allocate(LATENCY_BLOCK_SIZE), true);
    if (options.flightChains > 0) {
      const [device, driver] = [0, 1].map(() =>
        FlightRecorder.allocate(aperture, options.flightChains, VIRTIO_ID_BLOCK),
      );
      data.setUint32(ring.vq + VQ_FLIGHT, device!, true);
      data.setUint32(this.#disks.dq + DQ_FLIGHT, driver!, true);
      this.#flight = new FlightRecorder(aperture, driver!);
    }
    const sigbusFlag = ring.allocate(4);
    this.#block = new QueueBlock(aperture, ring.vq);
    const backing = { disk, inMemory: true, fd: -1, ioTable: 0 };
    const attention = () => {};
    const datapath = createDatapath(this.#block, backing, { pollers: 0, bursts: 256, attention });
    const interrupter = { owed: false, interrupt: () => {} } as unknown as Interrupter;
    this.#runner = new QueueRunner(this.#block, datapath as never, interrupter, sigbusFlag, attention);
    this.#block.gate.close();
    this.#block.gate.resume();
  }

  /** Whether some requests are timed, on both sides. */
  set timed(on: boolean) {
    this.#driver.on = on;
    this.#block.latency.on = on;
  }

  /** Requests per second of a slice. */
  measure(): number {
    const { ring, dq } = this.#disks;
    ring.engine.driverStart(dq);
    ring.engine.deviceStart(ring.vq, 0);
    return this.#disks.measure((times) => this.#roundTrips(times));
  }

  #roundTrips(times: number): number {
    const { ring, dq, submissions, completions } = this.#disks;
    const { engine } = ring;
    const keys = (completions + COMPLETION_TAG) / 4;
    let completed = 0;
    for (let time = 0; time < times; time++) {
      const start = this.#timer.start;
      this.#flight?.stamp();
      engine.blkSubmit(dq, submissions, this.#batch);
      this.#timer.offered(start, 0);
      this.#runner.run();
      this.#flight?.stamp();
      const count = engine.blkReap(dq, completions, this.#batch, 0, 0);
      this.#timer.reaped(this.#i32, keys, COMPLETION_SIZE / 4, count);
      completed += count;
    }
    return completed;
  }
}
