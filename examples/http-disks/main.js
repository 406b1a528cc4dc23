import { once } from 'node:events';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { createDisk, deleteDisk, listDisks, resizeDisk } from './disks.js';

/** Each gives a status, and what to say. */
const routes = {
  'GET /disks': async () => [200, listDisks()],
  'POST /disks': async (_, { name, bytes }) => [201, await createDisk(name, bytes)],
  'PATCH /disks/': async (name, { bytes }) => [200, await resizeDisk(name, bytes)],
  'DELETE /disks/': async (name) => [200, await deleteDisk(name)],
};

async function answer(request) {
  const [, path, name] = /^(\/disks\/?)(.*)$/.exec(decodeURI(request.url)) ?? [];
  const route = routes[`${request.method} ${path}`];
  if (!route) return [404, { error: 'GET or POST /disks, PATCH or DELETE /disks/NAME' }];
  try {
    const body = ['POST', 'PATCH'].includes(request.method) ? await json(request) : {};
    return await route(name, body);
  } catch (error) {
    // Whoever asks for what cannot be is told, by the codes of docs/errors.md.
    return [error.status ?? 400, { error: error.message, code: error.code }];
  }
}

const server = createServer(async (request, response) => {
  const [status, said] = await answer(request);
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(said)}\n`);
});
server.listen(Number(process.env.PORT ?? 8080));
await once(server, 'listening');
console.log(`http://localhost:${server.address().port}/disks, until Ctrl-C`);

await once(process, 'SIGINT');
server.close();
for (const { name } of listDisks()) {
  await deleteDisk(name);
  console.log(`${name} is closed`);
}
