import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from './command-line.js';

const packageFile = new URL('../../../package.json', import.meta.url);

test('--help lists the commands', async () => {
  const { status, stdout, stderr } = await run(['--help']);
  assert.is(status, 0);
  assert.is(stderr, '');
  assert.match(stdout, /^usage: ringbell COMMAND/);
  assert.match(stdout, /^ {2}demo /m);
  for (const command of ['serve', 'info', 'top', 'inspect', 'doctor', 'new-model'])
    assert.match(stdout, new RegExp(`^ {2}${command} `, 'm'));
});

test('every command has a help of its own with its options', async () => {
  for (const [command, option] of [
    ['demo', '--block-size BYTES'],
    ['serve blk\\|net', '--attach vhost|virtio'],
    ['info \\[DEVICE\\]', '--json'],
    ['top \\[SOCKET\\]', '--interval SECONDS'],
    ['inspect FILE', '--last N'],
    ['doctor', '--json'],
    ['new-model NAME', '--language assemblyscript|typescript'],
  ] as const) {
    const { status, stdout, stderr } = await run([command.split(' ')[0]!, '--help']);
    assert.is(status, 0);
    assert.is(stderr, '');
    assert.match(stdout, new RegExp(`^usage: ringbell ${command} `));
    assert.ok(stdout.includes(option), stdout);
    assert.ok(stdout.includes('--help'), stdout);
  }
});

test('--version prints the version of the package', async () => {
  const { status, stdout } = await run(['--version']);
  assert.is(status, 0);
  assert.is(stdout.trim(), JSON.parse(readFileSync(packageFile, 'utf8')).version);
});

test.run();
