import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ROOT } from '../docs/markdown.js';
import { Example } from './example.js';

test('a disk whose content is computed has what the function says, and nothing stored', async () => {
  assert.equal(await new Example('computed-disk').ended(), [
    '1 TiB, of which nothing is stored',
    '96 = 2 x 48',
    '1000000 = 2 x 500000',
    '2147483647 is prime',
  ]);
});

test('two network devices on a switch hear each other', async () => {
  assert.equal(await new Example('switch').ended(), [
    'bert hears: is anybody there?',
    'anna hears: yes, bert is',
    '1 frame went to everybody, 1 to one of 2 known addresses',
  ]);
});

test('a console gives back what is typed', async () => {
  const example = new Example('console-echo');
  example.type('hello\nis anybody there?\n');
  assert.equal((await example.ended()).slice(1), ['echo: hello', 'echo: is anybody there?']);
});

test('a disk on an NBD server outlives the server', async () => {
  if (['nbdkit', 'qemu-nbd'].every((program) => spawnSync(program, ['--version']).error)) {
    console.log('skipped: there is neither nbdkit nor qemu-nbd');
    return;
  }
  const lines = await new Example('nbd-disk').ended();
  assert.match(lines[0]!, /^a disk of 64 MiB on (nbdkit|qemu-nbd)$/);
  const isRead = (line: string) => line.startsWith('at ');
  assert.equal(lines.filter(isRead), ['at 0: before', 'at 4096: meanwhile']);
  // A server that is only just there may refuse, or hang up, once more.
  const [first, ...others] = lines.slice(1).filter((line) => !isRead(line));
  assert.is(first, 'no connection: requests wait');
  assert.ok(others.includes('connected again'), lines.join('\n'));
  for (const line of others) assert.match(line, /^(no connection: requests wait|connected again)$/);
});

test('a model in AssemblyScript is compiled, and rolls dice', async () => {
  const [first, rolls] = await new Example('assemblyscript-model').ended();
  // SplitMix64's first number of seed 0.
  assert.is(first, 'the first number is always e220a8397b1dcdaf');
  assert.match(rolls!, /^60000 rolls: (\d{4,5} ?){6}$/);
});

test('tests with faults pass', async () => {
  const lines = await new Example('faults').ended();
  assert.ok(
    lines.some((line) => /pass 4$/.test(line)),
    lines.join('\n'),
  );
});

test('disks over HTTP are created, listed, resized and deleted, and Ctrl-C closes those that are left', async () => {
  const example = new Example('http-disks', { PORT: '0' });
  try {
    const [, url] = await example.printed(/^(http:.*\/disks), until Ctrl-C$/m);
    const ask = async (method: string, path = '', body?: object) => {
      const options = { method, ...(body && { body: JSON.stringify(body) }) };
      const response = await fetch(`${url}${path}`, options);
      const said = (await response.json()) as Record<string, unknown>;
      return [
        response.status,
        Array.isArray(said) ? said.map(({ name }) => name) : (said.bytes ?? said.code),
      ];
    };
    assert.equal(await ask('POST', '', { name: 'disk0', bytes: 2 ** 20 }), [201, 2 ** 20]);
    assert.equal(await ask('POST', '', { name: 'disk1', bytes: 2 ** 20 }), [201, 2 ** 20]);
    assert.equal(await ask('GET'), [200, ['disk0', 'disk1']]);
    assert.equal(await ask('PATCH', '/disk0', { bytes: 2 ** 21 }), [200, 2 ** 21]);
    assert.equal(await ask('DELETE', '/disk1'), [200, 2 ** 20]);
    assert.equal(await ask('DELETE', '/disk1'), [404, undefined]);
    assert.equal(await ask('POST', '', { name: 'disk2', bytes: 100 }), [400, 'ERR_ARGUMENT']);
    assert.equal(await ask('POST', '', { name: 'disk0', bytes: 2 ** 20 }), [400, 'EEXIST']);
    assert.equal(await ask('PUT'), [404, undefined]);
    example.interrupt();
    await example.printed(/^disk0 is closed$/m);
  } finally {
    example.kill();
  }
});

test('every example is in the list, starts by npm start, and names the package it needs', () => {
  const folders = readdirSync(join(ROOT, 'examples'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== 'node_modules')
    .map((entry) => entry.name);
  assert.ok(folders.length >= 7);
  const list = readFileSync(join(ROOT, 'examples/README.md'), 'utf8');
  for (const folder of folders) {
    assert.match(list, `(${folder})`, folder);
    const read = (file: string) => readFileSync(join(ROOT, 'examples', folder, file), 'utf8');
    assert.match(read('README.md'), 'npm start');
    assert.equal(JSON.parse(read('package.json')).dependencies, { ringbell: 'file:../..' });
  }
});

test.run();
