import { systemError } from '../../host/errors.js';
import type { VduseFile } from '../../host/vduse/file.js';

/** A VduseFile whose kernel is the test. */
export class FakeVduseFile implements VduseFile {
  readonly name = 'disk0';
  readonly written: Uint8Array[] = [];
  closed = false;
  resets = 0;
  onIoctl: (request: number, argument?: Uint8Array) => number = () => 0;
  readonly #requests: Uint8Array[] = [];
  #answered = () => {};
  #reader: { resolve: (request: Uint8Array) => void; reject: (error: Error) => void } | undefined;

  /** Lets the device read a message. */
  send(request: Uint8Array): void {
    if (!this.#reader) {
      this.#requests.push(request);
      return;
    }
    this.#reader.resolve(request);
    this.#reader = undefined;
  }

  async ioctl(request: number, argument?: Uint8Array): Promise<number> {
    if (this.closed) throw systemError('EBADF', 'ioctl');
    return this.onIoctl(request, argument);
  }

  read(): Promise<Uint8Array> {
    const request = this.#requests.shift();
    if (request) return Promise.resolve(request);
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  async write(response: Uint8Array): Promise<void> {
    this.written.push(response);
    this.#answered();
  }

  /** Resolves at the next answer. */
  nextAnswer(): Promise<void> {
    return new Promise((resolve) => {
      this.#answered = resolve;
    });
  }

  async kickFd(_index: number, fd: number): Promise<number> {
    return fd;
  }

  async callFd(): Promise<number> {
    return -1;
  }

  async doorbell(): Promise<undefined> {
    return undefined;
  }

  async needsReset(): Promise<boolean> {
    this.resets++;
    return true;
  }

  async close(): Promise<void> {
    this.closed = true;
    this.#reader?.reject(systemError('EBADF', 'read'));
    this.#reader = undefined;
  }
}
