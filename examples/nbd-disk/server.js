import { spawn, spawnSync } from 'node:child_process';

/** How each server serves a raw image at a socket. */
const SERVERS = {
  nbdkit: (image, socket) => ['-f', '-U', socket, 'file', image],
  'qemu-nbd': (image, socket) => ['-t', '-k', socket, '-f', 'raw', '-e', '8', image],
};

/** Starts the first NBD server that this machine has. Ends the process, and says what to install, where there is none. */
export function findServer(image, socket) {
  const program = Object.keys(SERVERS).find((name) => !spawnSync(name, ['--version']).error);
  if (!program) {
    console.error('there is no NBD server: install nbdkit, or qemu-utils');
    process.exit(1);
  }
  return () => {
    const server = spawn(program, SERVERS[program](image, socket), {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    process.once('exit', () => server.kill('SIGKILL'));
    return server;
  };
}
