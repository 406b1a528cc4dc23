/**
 * A program that serves a disk until it is told to end (SIGTERM), or killed. Its argument is a ServerOptions in JSON; it
 * writes a ServerReport a line.
 */
import { closeSync, fdatasync, fstatSync, openSync, read, write } from 'node:fs';
import { promisify } from 'node:util';
// Not all of index.js: an emulated CPU takes 40 ms for each module, and tests start this program again and again.
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import { type ServeOptions, serve } from '../../host/serve.js';

/** What the program is started with. */
export interface ServerOptions extends Partial<ServeOptions> {
  name: string;
  /** Path of the image. */
  file: string;
  /** Who serves it: the engine and the addon, or a model in JavaScript, whose requests end in any order. */
  by: 'engine' | 'model';
}

/** What it says. */
export type ServerReport =
  /** It serves, perhaps a device that was there already. */
  | { event: 'serving'; takenOver: boolean }
  /** It does not serve. */
  | { event: 'refused'; code: string; message: string }
  | { event: 'error'; code: string; message: string }
  /** What it has answered so far, said every now and then. */
  | { event: 'progress'; requests: number; replayed: number }
  | { event: 'closed' };

/** Milliseconds between two reports of progress. */
const PROGRESS_INTERVAL_MS = 50;

/** A file, by way of the thread pool of Node. */
class FileModel extends BlockModel {
  readonly #fd: number;
  override readonly capacity: number;

  constructor(path: string) {
    super();
    this.#fd = openSync(path, 'r+');
    this.capacity = fstatSync(this.#fd).size;
  }

  override async read(offset: number, into: Uint8Array): Promise<void> {
    await promisify(read)(this.#fd, into, 0, into.length, offset);
  }

  override async write(offset: number, from: Uint8Array): Promise<void> {
    await promisify(write)(this.#fd, from, 0, from.length, offset);
  }

  override flush(): Promise<void> {
    return promisify(fdatasync)(this.#fd);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

// Whoever started it may be gone: it serves on, so that the harness can take its device away.
process.stdout.on('error', () => {});

const say = (report: ServerReport) => process.stdout.write(`${JSON.stringify(report)}\n`);
const { file, by, ...options } = JSON.parse(process.argv[2]!) as ServerOptions;

try {
  const model = by === 'engine' ? new BlockDevice({ file }) : new FileModel(file);
  const device = await serve(model, { transport: 'vduse', ...options });
  device.on('error', ({ code, message }) => say({ event: 'error', code, message }));
  const progress = setInterval(() => {
    const { requests, replayed } = device.stats();
    say({ event: 'progress', requests, replayed });
  }, PROGRESS_INTERVAL_MS);
  process.once('SIGTERM', async () => {
    clearInterval(progress);
    await device.close();
    if (model instanceof FileModel) model.close();
    say({ event: 'closed' });
  });
  // Last: from now on it may be told to end.
  say({ event: 'serving', takenOver: device.takenOver });
} catch (error) {
  const { code = '', message } = error as { code?: string; message: string };
  say({ event: 'refused', code, message });
}
