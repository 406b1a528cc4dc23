import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A directory that is gone when the process is: also after an exception, process.exit or an aborted clean-up. */
export class TemporaryDirectory {
  readonly path: string;
  readonly #remove = () => this.remove();

  constructor() {
    this.path = mkdtempSync(join(tmpdir(), 'ringbell-'));
    process.on('exit', this.#remove);
  }

  /** Path of a file in it. */
  file(name: string): string {
    return join(this.path, name);
  }

  /** Bytes that its file system has left. */
  free(): number {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize;
  }

  remove(): void {
    process.off('exit', this.#remove);
    // A child that was killed a moment ago may still be creating files: then the directory is not empty at first.
    rmSync(this.path, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
  }
}
