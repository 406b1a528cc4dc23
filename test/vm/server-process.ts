import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import type { ServerOptions, ServerReport } from './disk-server.js';
import { until } from './fixture.js';

/** Milliseconds; starting Node takes some under emulation. */
const LIMIT_MS = 180_000;
const PROGRAM = fileURLToPath(new URL('disk-server.js', import.meta.url));

/** A process that serves a disk, made to be killed. */
export class ServerProcess {
  readonly reports: ServerReport[] = [];
  readonly #child: ChildProcess;
  #output = '';

  /** Starts it, and waits until it serves, or says that it does not. */
  static async start(options: ServerOptions): Promise<ServerProcess> {
    const server = new ServerProcess(options);
    await until(
      `a server of ${options.name}`,
      () => server.last('serving') || server.last('refused') || server.#ended,
      LIMIT_MS,
    );
    if (server.reports.length === 0) throw new Error(`the server has ended: ${server.#output}`);
    return server;
  }

  private constructor(options: ServerOptions) {
    this.#child = spawn(process.execPath, [PROGRAM, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.reports.push(JSON.parse(line)));
    this.#child.stderr!.on('data', (text) => {
      this.#output += text;
    });
  }

  /** The last report of an event. */
  last<E extends ServerReport['event']>(event: E): Extract<ServerReport, { event: E }> | undefined {
    return this.reports.findLast((report) => report.event === event) as never;
  }

  /** Stops it, so that it answers nothing. */
  freeze(): void {
    this.#child.kill('SIGSTOP');
  }

  /** Kills it where it is. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Has it end by itself, leaving nothing. */
  async close(): Promise<void> {
    await this.#end('SIGTERM');
    if (!this.last('closed') && !this.last('refused'))
      throw new Error(`the server has not closed: ${this.#output}`);
  }

  get #ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (this.#ended) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill(signal);
    await exit;
  }
}

/** Starts a server that has to take its device over from one that was killed. */
export async function takeOver(options: ServerOptions): Promise<ServerProcess> {
  const server = await ServerProcess.start(options);
  assert.equal(server.last('serving'), { event: 'serving', takenOver: true }, JSON.stringify(server.reports));
  return server;
}
