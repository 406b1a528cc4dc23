import { spawn } from 'node:child_process';

/** How a command runs. */
export interface CommandOptions {
  directory?: string;
  /** Milliseconds until it is killed. */
  limitMs: number;
  signal: AbortSignal;
}

/** Runs a command to its end and gives what it wrote to its standard output. Rejects, with all its output, if it fails. */
export function run(command: string, words: readonly string[], options: CommandOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const { signal, limitMs: timeout, directory: cwd } = options;
    const child = spawn(command, words, {
      ...(cwd ? { cwd } : {}),
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
      killSignal: 'SIGKILL',
      timeout,
      signal,
    });
    const output: Buffer[] = [];
    const complaints: Buffer[] = [];
    child.stdout.on('data', (chunk) => output.push(chunk));
    child.stderr.on('data', (chunk) => complaints.push(chunk));
    child.on('error', reject);
    child.on('close', (status, death) => {
      if (status === 0) return resolve(Buffer.concat(output));
      const how = death ? `ended by ${death}` : `exit status ${status}`;
      const text = Buffer.concat([...output, ...complaints]).toString();
      reject(new Error(`${command} ${words.join(' ')}: ${how}\n${text}`));
    });
  });
}
