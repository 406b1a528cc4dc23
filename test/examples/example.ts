import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { ROOT } from '../docs/markdown.js';
import { within } from '../waiting.js';

/** Milliseconds; npm, and a compiler, on a machine that has other things to do. */
const RUN_MS = 120_000;

/** An example that runs: `npm start` in its folder, as its README says. */
export class Example {
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown[]>;
  #output = '';

  constructor(name: string, environment: NodeJS.ProcessEnv = {}) {
    this.#child = spawn('npm', ['start', '--silent'], {
      cwd: join(ROOT, 'examples', name),
      env: { ...process.env, ...environment },
      stdio: ['pipe', 'pipe', 'pipe'],
      // A group of its own, as in a terminal: Ctrl-C is for all of it.
      detached: true,
    });
    this.#exit = once(this.#child, 'close');
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on('data', (chunk) => (this.#output += chunk));
  }

  /** Types, and ends what is typed. */
  type(text: string): void {
    this.#child.stdin?.end(text);
  }

  /** Ctrl-C. */
  interrupt(): void {
    process.kill(-(this.#child.pid as number), 'SIGINT');
  }

  /** Ends it, whatever it does; nothing if it has ended. */
  kill(): void {
    if (this.#child.exitCode === null && this.#child.signalCode === null)
      process.kill(-(this.#child.pid as number), 'SIGKILL');
  }

  /** What it has printed once that has a part like `pattern`. */
  async printed(pattern: RegExp): Promise<RegExpExecArray> {
    const looked = new Promise<void>((resolve) => {
      const look = () => pattern.test(this.#output) && resolve();
      this.#child.stdout?.on('data', look);
      this.#child.once('close', resolve);
      look();
    });
    await within(looked, `${pattern}`, RUN_MS);
    const match = pattern.exec(this.#output);
    assert.ok(match, `${pattern} in what it has printed:\n${this.#output}`);
    return match;
  }

  /** All that it prints, line by line. It has to end by itself, and well. */
  async ended(): Promise<string[]> {
    try {
      const [status] = await within(this.#exit, 'the end of the example', RUN_MS);
      assert.is(status, 0, this.#output);
      return this.#output.trimEnd().split('\n');
    } finally {
      this.kill();
    }
  }
}
