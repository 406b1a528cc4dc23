import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { NbdDisk, openBlock, serve } from 'ringbell';
import { findServer } from './server.js';

const folder = mkdtempSync(join(tmpdir(), 'nbd-disk-'));
const image = join(folder, 'disk.img');
const socket = join(folder, 'nbd.sock');
writeFileSync(image, '');
truncateSync(image, 64 * 2 ** 20);

const startServer = findServer(image, socket);
let server = await start();

const remote = await NbdDisk.connect(`nbd+unix:///?socket=${socket}`);
remote.events.on('reconnecting', () => console.log('no connection: requests wait'));
remote.events.on('reconnected', () => console.log('connected again'));
const device = await serve(remote, { name: 'remote0' });
const disk = await openBlock('remote0');
console.log(`a disk of ${disk.capacity / 2 ** 20} MiB on ${server.spawnfile}`);

await disk.write(0, Buffer.alloc(4096, 'before '));
await stop();
const written = disk.write(4096, Buffer.alloc(4096, 'meanwhile '));
await once(remote.events, 'reconnecting');
server = await start();
await written;
await disk.flush();
for (const offset of [0, 4096]) {
  const text = Buffer.from(await disk.read(offset, 512)).toString();
  console.log(`at ${offset}: ${text.split(' ', 1)}`);
}

await disk.close();
await device.close();
await remote.close();
await stop();
rmSync(folder, { recursive: true });

async function start() {
  rmSync(socket, { force: true });
  const process = startServer();
  while (!existsSync(socket)) await sleep(20);
  return process;
}

async function stop() {
  server.kill('SIGKILL');
  await once(server, 'exit');
}
