import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  BlockDevice,
  BlockModel,
  type Model,
  type ServedDevice,
  type ServeOptions,
  serve,
} from '../../../host/index.js';

/** Bytes of a disk unless it says otherwise. */
export const DISK_BYTES = 2 ** 20;
/** What a file's disk answers to GET_ID. */
export const DISK_ID = 'scenes';

/** What a disk is like. */
export interface HostedDiskOptions {
  /** 'engine' (default): a file, served by the engine; 'model': memory, served by a model in TypeScript. */
  by?: 'engine' | 'model';
  /** Requests stay with the model until `release`. */
  held?: boolean;
  /** Offset in bytes of a sector that the model can neither read nor write. */
  bad?: number;
  readOnly?: boolean;
  queues?: number;
  queueSize?: number;
  inOrder?: boolean;
}

/** A disk in memory whose requests can be held. */
class HeldModel extends BlockModel {
  readonly capacity = DISK_BYTES;
  readonly bytes = new Uint8Array(DISK_BYTES);
  #held: Promise<void> = Promise.resolve();
  #release: () => void = () => {};
  readonly #bad: number;

  constructor(bad = Number.POSITIVE_INFINITY) {
    super();
    this.#bad = bad;
  }

  hold(): void {
    this.#held = new Promise((resolve) => {
      this.#release = resolve;
    });
  }

  release(): void {
    this.#release();
  }

  override async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#held;
    this.#judge(offset, into.length);
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  override async write(offset: number, from: Uint8Array): Promise<void> {
    await this.#held;
    this.#judge(offset, from.length);
    this.bytes.set(from, offset);
  }

  #judge(offset: number, length: number): void {
    if (offset <= this.#bad && this.#bad < offset + length) throw new Error('a bad sector');
  }
}

/** A disk that is served by this process. */
export class HostedDisk {
  readonly #device: ServedDevice;
  readonly #model: HeldModel | undefined;
  readonly #held: boolean;
  readonly #file: string;
  #errors: string[] = [];

  /** Serves a disk by a transport. */
  static async serve(
    { by = 'engine', held = false, bad, readOnly, ...queues }: HostedDiskOptions,
    transport: ServeOptions,
  ): Promise<HostedDisk> {
    const folder = mkdtempSync(join(tmpdir(), 'ringbell-'));
    const file = join(folder, 'disk.img');
    writeFileSync(file, new Uint8Array(DISK_BYTES));
    const model = by === 'model' ? new HeldModel(bad) : undefined;
    const engine = () => new BlockDevice({ file, id: DISK_ID, ...(readOnly && { readOnly }) });
    const device: Model = model ?? engine();
    return new HostedDisk(await serve(device, { ...transport, ...queues }), model, held, file);
  }

  private constructor(device: ServedDevice, model: HeldModel | undefined, held: boolean, file: string) {
    this.#device = device;
    this.#model = model;
    this.#held = held;
    this.#file = file;
    device.on('error', ({ code }) => this.#errors.push(code));
  }

  /** Makes it as it is at first, for the next scene. */
  async reset(): Promise<void> {
    this.#errors = [];
    if (statSync(this.#file).size !== DISK_BYTES) await this.resize(DISK_BYTES);
    this.fill(new Uint8Array(DISK_BYTES));
    if (this.#held) this.#model?.hold();
  }

  bytes(): Uint8Array {
    return this.#model?.bytes.slice() ?? Uint8Array.from(readFileSync(this.#file));
  }

  fill(bytes: Uint8Array): void {
    if (this.#model) this.#model.bytes.set(bytes);
    else writeFileSync(this.#file, bytes, { flag: 'r+' });
  }

  async resize(bytes: number): Promise<void> {
    truncateSync(this.#file, bytes);
    await this.#device.resize(bytes);
  }

  release(): void {
    this.#model?.release();
  }

  errors(): string[] {
    return this.#errors;
  }

  async close(): Promise<void> {
    this.release();
    await this.#device.close();
    rmSync(join(this.#file, '..'), { recursive: true });
  }
}
