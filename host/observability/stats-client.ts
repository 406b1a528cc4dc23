import { lstatSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { SNAPSHOT_REQUEST } from './expose.js';
import { type ProcessSnapshot, parseProcessSnapshot } from './process-snapshot.js';

/** Milliseconds that a process has to answer. */
const ANSWER_LIMIT_MS = 3000;
/** Characters of an answer at most: some thousands of queues. */
const ANSWER_LIMIT = 2 ** 24;

/** A connection to a stats socket. Whatever is behind it, the worst is that there is no snapshot of it. */
export class StatsClient {
  readonly path: string;
  readonly #socket: Socket;
  /** Pieces of an answer that has not ended yet, and how long they are together. */
  #pieces: string[] = [];
  #length = 0;
  #pending: { resolve(snapshot: ProcessSnapshot): void; reject(error: Error): void } | undefined;
  #failure: Error | undefined;

  /** Connects. Rejects with what keeps it from that: ECONNREFUSED for a socket whose process has ended. */
  static connect(path: string): Promise<StatsClient> {
    return new Promise((resolve, reject) => {
      if (!lstatSync(path).isSocket()) throw new Error('it is no socket');
      const socket = connect(path);
      socket.once('error', reject);
      socket.setTimeout(ANSWER_LIMIT_MS, () => socket.destroy(new Error('it takes no connection')));
      socket.once('connect', () => {
        socket.off('error', reject);
        socket.setTimeout(0);
        resolve(new StatsClient(path, socket));
      });
    });
  }

  private constructor(path: string, socket: Socket) {
    this.path = path;
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('it has closed the connection')));
  }

  /** Asks what the process is doing now. Rejects for one that has gone, says nothing in time, or what is no snapshot. */
  async snapshot(): Promise<ProcessSnapshot> {
    if (this.#failure) throw this.#failure;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<ProcessSnapshot>((resolve, reject) => {
        this.#pending = { resolve, reject };
        timer = setTimeout(() => this.#fail(new Error('it does not answer')), ANSWER_LIMIT_MS);
        this.#socket.write(SNAPSHOT_REQUEST);
      });
    } finally {
      clearTimeout(timer);
      this.#pending = undefined;
    }
  }

  close(): void {
    this.#fail(new Error('the connection was closed'));
  }

  #receive(text: string): void {
    const end = text.indexOf('\n');
    this.#pieces.push(end < 0 ? text : text.slice(0, end));
    this.#length += text.length;
    if (end >= 0) {
      const line = this.#pieces.join('');
      this.#pieces = [];
      this.#length = 0;
      try {
        // An answer is a line, and nothing is said before the next question.
        if (!this.#pending || end < text.length - 1) throw new Error('it was not asked');
        this.#pending.resolve(parseProcessSnapshot(line));
      } catch (error) {
        this.#fail(new Error(`it sends no snapshot: ${(error as Error).message}`));
      }
    } else if (this.#length > ANSWER_LIMIT) this.#fail(new Error('its answer has no end'));
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#socket.destroy();
    this.#pending?.reject(this.#failure);
  }
}
