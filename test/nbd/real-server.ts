import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import { findTool } from '../vm/requirements.js';

/** NBD servers of others, with the Debian package of each. */
const PACKAGES = { nbdkit: 'nbdkit', 'qemu-nbd': 'qemu-utils' } as const;
/** Milliseconds for a server to come up, between two looks. */
const START_LIMIT_MS = 20_000;
const LOOK_MS = 10;

/** Declares a test that needs one of these servers: skipped, with the reason, where it is not installed. */
export function testWith(server: keyof typeof PACKAGES, name: string, body: () => Promise<void>): void {
  if (findTool(server)) {
    test(name, body);
    return;
  }
  process.stdout.write(`skipped: ${name}: ${server} is missing: apt-get install ${PACKAGES[server]}\n`);
  test.skip(name);
}

/** A server of somebody else's, in a process of its own, made to be killed and started again. */
export class RealServer {
  readonly folder = mkdtempSync(join(tmpdir(), 'ringbell-nbd-'));
  readonly #command: string[];
  #child: ChildProcess | undefined;
  #output = '';

  /** Runs a command; SOCKET in it stands for the path of the socket, FOLDER for a folder that goes with the server. */
  static async start(...command: string[]): Promise<RealServer> {
    const server = new RealServer(command);
    await server.start();
    return server;
  }

  /** The same, started by `start` later. */
  constructor(command: string[]) {
    this.#command = command.map((word) => word.replace('SOCKET', this.socket).replace('FOLDER', this.folder));
  }

  get socket(): string {
    return join(this.folder, 'socket');
  }

  /** URI of the export of a name. */
  uri(name = ''): string {
    return `nbd+unix:///${name}?socket=${this.socket}`;
  }

  /** Starts it (again), and waits until it takes connections. */
  async start(): Promise<void> {
    // A server that was killed has left it behind.
    rmSync(this.socket, { force: true });
    const [program, ...words] = this.#command;
    const child = spawn(program!, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (text) => {
        this.#output += text;
      });
    const end = performance.now() + START_LIMIT_MS;
    while (!existsSync(this.socket) || !(await takesConnections(this.socket))) {
      if (child.exitCode !== null || performance.now() > end)
        throw new Error(`${this.#command.join(' ')} does not start: ${this.#output}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** Ends it on the spot. */
  async kill(): Promise<void> {
    const child = this.#child!;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }

  async close(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function takesConnections(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}
