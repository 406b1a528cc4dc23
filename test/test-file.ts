import { spawn } from 'node:child_process';
import { judge, type Verdict } from './outcome.js';

/** Milliseconds; a file that takes longer is killed and counts as failed, also if only what it left behind runs on. */
const FILE_LIMIT_MS = 180_000;

/** Runs one compiled test file in a process of its own; how it ended is the last line of `text`. */
export function runTestFile(path: string, environment: NodeJS.ProcessEnv = {}): Promise<Verdict> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--expose-gc', path], {
      env: { ...process.env, FORCE_COLOR: '0', ...environment },
    });
    let output = '';
    let overdue = false;
    const timer = setTimeout(() => {
      overdue = true;
      output += `\nkilled after ${FILE_LIMIT_MS / 1000} s\n`;
      child.kill('SIGKILL');
      // Processes that it started may hold them, and would be waited for.
      child.stdout.destroy();
      child.stderr.destroy();
    }, FILE_LIMIT_MS);
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      const verdict = judge(output, overdue ? null : status);
      verdict.text += `\n${signal ? `ended by ${signal}` : `exit status ${status}`}\n`;
      resolve(verdict);
    });
  });
}
