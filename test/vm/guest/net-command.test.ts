/** `ringbell serve net`: a network device of the kernel, until SIGTERM. */
import { existsSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Running, start } from '../../cli/command-line.js';
import { isEmulated, skip, until } from '../fixture.js';
import {
  answers,
  bringUp,
  HERE,
  moveThere,
  prepareNamespace,
  removeNamespace,
  THERE,
  there,
} from '../net-fixture.js';

/** Milliseconds for the command to say something, and for a ping. */
const LIMIT_MS = 150_000;

const NAME = 'ringbell serve net --tap makes an interface of the kernel at a tap, until SIGTERM';

const traffic = async () => {
  prepareNamespace();
  let command: Running | undefined;
  try {
    command = start(['serve', 'net', '--name', 'net9', '--tap', 'tap9', '--attach', 'virtio', '--json']);
    const { said } = command;
    await until('the device is served', () => said.stdout.includes('\n'), LIMIT_MS);
    const { event, node, tap, mtu, queues } = JSON.parse(said.stdout.split('\n')[0]!);
    assert.equal([event, tap, mtu, queues], ['serving', 'tap9', 1500, 2]);
    await bringUp('tap9', HERE);
    await moveThere(node);
    await bringUp(node, THERE, there);
    await until('a ping', () => answers(THERE), LIMIT_MS);
    command.kill('SIGTERM');
    assert.is((await command.outcome).status, 0);
    assert.not.ok(existsSync('/dev/vduse/net9'));
    assert.not.ok(existsSync('/sys/class/net/tap9'));
    assert.match(said.stdout, /"event":"ended"/);
  } finally {
    command?.kill('SIGKILL');
    removeNamespace();
  }
};

if (isEmulated()) skip(NAME, 'an emulated processor stalls for longer than its limits allow');
else test(NAME, traffic);

test.run();
