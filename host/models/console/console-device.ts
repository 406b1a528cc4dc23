import { inspect } from 'node:util';
import { RingbellError } from '../../errors.js';
import { checkBoolean, checkInteger, checkOptions } from '../../options.js';
import {
  CONTROL_RECEIVEQ,
  CONTROL_TRANSMITQ,
  type ConsoleSize,
  consoleQueues,
  decodeMessage,
  encodeSize,
  PORTS_LIMIT,
  portOf,
} from '../../uapi/console-message.js';
import {
  VIRTIO_CONSOLE_CONSOLE_PORT,
  VIRTIO_CONSOLE_DEVICE_READY,
  VIRTIO_CONSOLE_F_MULTIPORT,
  VIRTIO_CONSOLE_F_SIZE,
  VIRTIO_CONSOLE_PORT_ADD,
  VIRTIO_CONSOLE_PORT_NAME,
  VIRTIO_CONSOLE_PORT_OPEN,
  VIRTIO_CONSOLE_PORT_READY,
  VIRTIO_CONSOLE_RESIZE,
  VIRTIO_ID_CONSOLE,
  virtioConsoleConfig,
} from '../../uapi/virtio.js';
import type { Chain } from '../chain.js';
import { DeviceModel } from '../device-model.js';
import type { Manifest } from '../manifest.js';
import type { Life } from '../model-host.js';
import type { ModelQueue } from '../model-queue.js';
import { ConsolePort, type ConsolePortOptions } from './console-port.js';
import { ControlQueue } from './control-queue.js';

/** What a console device has. */
export interface ConsoleDeviceOptions {
  /** Its ports, 31 at most, which the driver is told of by messages; if left out one, of which no message tells anything. */
  ports?: readonly ConsolePortOptions[];
  /** Of its terminals; the driver is told of none if left out. */
  size?: ConsoleSize;
}

const OPTION_NAMES = ['ports', 'size'];
const PORT_OPTION_NAMES = ['name', 'console'];
/** Bytes of UTF-8. */
const NAME_LIMIT = 256;
/** Columns, or rows. */
const SIZE_LIMIT = 65_535;
/** Bytes of chains that a queue puts in the model's hands at once. */
const IN_HAND_BYTES = 2 ** 20;

/** A console ("Console Device"): ports, each a stream of bytes in both directions. */
export class ConsoleDevice extends DeviceModel {
  override readonly manifest: Manifest;
  readonly #portOptions: readonly ConsolePortOptions[];
  #ports: readonly ConsolePort[];
  #size: ConsoleSize | undefined;
  readonly #control = new ControlQueue();
  /** Whether the driver takes messages; has asked for them; and which ports it knows all about. */
  #multiport = false;
  #ready = false;
  readonly #announced = new Set<ConsolePort>();

  /** Throws ERR_ARGUMENT for options that make no sense. */
  constructor(options: ConsoleDeviceOptions = {}) {
    super();
    checkOptions('ConsoleDevice', options, OPTION_NAMES);
    const { ports, size } = options;
    if (ports !== undefined) checkPorts(ports);
    if (size !== undefined) checkSize(size);
    this.#portOptions = ports ?? [{ console: true }];
    this.#ports = this.#makePorts();
    this.#size = size;
    const queues = ports ? consoleQueues(ports.length) : 2;
    const features = [
      ...(size ? [VIRTIO_CONSOLE_F_SIZE] : []),
      ...(ports ? [VIRTIO_CONSOLE_F_MULTIPORT] : []),
    ];
    this.manifest = {
      deviceId: VIRTIO_ID_CONSOLE,
      features,
      queues,
      queueGroup: queues,
      limits: { inHandBytes: IN_HAND_BYTES },
    };
  }

  /** Its ports, by number. They end when the device is closed; others take their places for the next time it is served. */
  get ports(): readonly ConsolePort[] {
    return this.#ports;
  }

  /** The port of that number, or name. Throws ERR_ARGUMENT if there is none. */
  port(which: number | string = 0): ConsolePort {
    const port = this.#ports.find(({ id, name }) => which === id || which === name);
    if (!port) throw new RingbellError('ERR_ARGUMENT', `the console has no port ${inspect(which)}`);
    return port;
  }

  /** Of its terminals; undefined for one that was made without. */
  get size(): ConsoleSize | undefined {
    return this.#size;
  }

  /** Changes the size, and tells the driver: resolves once it has been told. Rejects with ERR_ARGUMENT, and as `configChanged`. */
  async resize(size: ConsoleSize): Promise<void> {
    checkSize(size);
    if (!this.#size)
      throw new RingbellError('ERR_ARGUMENT', 'a console that was made without a size has none');
    this.#size = size;
    for (const port of this.#announced) this.#sendSize(port);
    if (this.shape) await this.configChanged();
  }

  override config(): Uint8Array {
    const { cols = 0, rows = 0 } = this.#size ?? {};
    return virtioConsoleConfig.encode({ cols, rows, max_nr_ports: this.#ports.length });
  }

  override negotiated(life: Life): void {
    this.#multiport = life.negotiated(VIRTIO_CONSOLE_F_MULTIPORT);
  }

  override started(): void {
    // Without messages nobody says so.
    if (!this.#multiport) this.#ports[0]?.connect(true);
  }

  override handle(chains: readonly Chain[], queue: ModelQueue): void {
    const { index } = queue;
    if (!this.#multiport && index >= CONTROL_RECEIVEQ) for (const chain of chains) chain.refuse();
    else if (index === CONTROL_RECEIVEQ) this.#control.give(chains);
    else if (index === CONTROL_TRANSMITQ) for (const chain of chains) this.#received(chain);
    else if (index % 2 === 0) this.#ports[portOf(index)]?.giveRoom(chains);
    else this.#ports[portOf(index)]?.receive(chains);
  }

  override reset(): void {
    this.#ready = false;
    this.#announced.clear();
    this.#control.forget();
    for (const port of this.#ports) port.forgetDriver();
  }

  override closed(): void {
    const ports = this.#ports;
    this.#ports = this.#makePorts();
    for (const port of ports) port.close();
  }

  #makePorts(): ConsolePort[] {
    return this.#portOptions.map((options, id) => new ConsolePort(id, options, (port) => this.#ended(port)));
  }

  /** What a driver says again, for instance that it is ready, it has said: it could have the device pile up answers. */
  #received(chain: Chain): void {
    const message = decodeMessage(chain.read(0, chain.readableBytes));
    if (!message) {
      chain.refuse();
      return;
    }
    chain.complete();
    const { id, event, value } = message;
    const port = this.#ports[id];
    if (event === VIRTIO_CONSOLE_DEVICE_READY && value === 1 && !this.#ready) {
      this.#ready = true;
      for (const { id } of this.#ports) this.#control.send({ id, event: VIRTIO_CONSOLE_PORT_ADD, value: 1 });
    } else if (event === VIRTIO_CONSOLE_PORT_READY && value === 1 && port) this.#announce(port);
    else if (event === VIRTIO_CONSOLE_PORT_OPEN) port?.connect(value === 1);
  }

  /** Tells the driver all about a port that it has set up. */
  #announce(port: ConsolePort): void {
    if (this.#announced.has(port)) return;
    this.#announced.add(port);
    const { id, name, isConsole } = port;
    if (isConsole) this.#control.send({ id, event: VIRTIO_CONSOLE_CONSOLE_PORT, value: 1 });
    this.#sendSize(port);
    if (name !== undefined)
      this.#control.send({ id, event: VIRTIO_CONSOLE_PORT_NAME, value: 1, rest: Buffer.from(name) });
    if (!port.writableEnded) this.#control.send({ id, event: VIRTIO_CONSOLE_PORT_OPEN, value: 1 });
  }

  #sendSize({ id, isConsole }: ConsolePort): void {
    if (this.#size && isConsole)
      this.#control.send({ id, event: VIRTIO_CONSOLE_RESIZE, value: 0, rest: encodeSize(this.#size) });
  }

  #ended(port: ConsolePort): void {
    if (this.#announced.has(port))
      this.#control.send({ id: port.id, event: VIRTIO_CONSOLE_PORT_OPEN, value: 0 });
  }
}

function checkPorts(ports: readonly ConsolePortOptions[]): void {
  if (!Array.isArray(ports) || ports.length === 0 || ports.length > PORTS_LIMIT)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `ports must be 1 to ${PORTS_LIMIT} of them, not ${inspect(ports)}`,
    );
  for (const port of ports) {
    checkOptions('a port', port, PORT_OPTION_NAMES);
    checkBoolean('console of a port', port.console);
    const { name } = port;
    if (name !== undefined && !(typeof name === 'string' && Buffer.byteLength(name) <= NAME_LIMIT))
      throw new RingbellError(
        'ERR_ARGUMENT',
        `name of a port must be a string of at most ${NAME_LIMIT} bytes, not ${inspect(name)}`,
      );
  }
}

function checkSize(size: ConsoleSize): void {
  checkOptions('size', size, ['cols', 'rows']);
  for (const key of ['cols', 'rows'] as const) checkInteger(key, size[key] ?? Number.NaN, 1, SIZE_LIMIT);
}
