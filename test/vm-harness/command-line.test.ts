import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { HelpRequest, parseShellCommandLine, parseTestCommandLine, UsageError } from '../vm/command-line.js';
import { MACHINES } from '../vm/machines.js';
import { SERIES } from '../vm/series.js';

const refuses = (parse: () => unknown, pattern: RegExp) =>
  assert.throws(parse, (error: unknown) => error instanceof UsageError && pattern.test(error.message));

test('everything is tested by default', () => {
  const commandLine = parseTestCommandLine([]);
  assert.equal(commandLine.series, SERIES);
  assert.equal(commandLine.machines, MACHINES);
  assert.equal(commandLine.patterns, []);
  assert.not(commandLine.json || commandLine.keep || commandLine.update);
});

test('kernels and machines are chosen by name, what is left is patterns', () => {
  const commandLine = parseTestCommandLine(
    '--kernel 7.2 disk --kernel 6.12 --json --machine doorbell --keep --update crash'.split(' '),
  );
  assert.equal(
    commandLine.series.map(({ name }) => name),
    ['7.2', '6.12'],
  );
  assert.equal(
    commandLine.machines.map(({ name }) => name),
    ['doorbell'],
  );
  assert.equal(commandLine.patterns, ['disk', 'crash']);
  assert.ok(commandLine.json && commandLine.keep && commandLine.update);
});

test('a name that does not exist is refused with those that do', () => {
  refuses(() => parseTestCommandLine(['--kernel', '6.12.117']), /no kernel 6\.12\.117: there are 6\.12, /);
  refuses(() => parseTestCommandLine(['--machine', 'x']), /no machine x: there are guest, /);
  refuses(() => parseTestCommandLine(['--kernels']), /--kernels.*\n.*npm run test:vm/s);
  refuses(() => parseShellCommandLine(['--json']), /--json.*\n.*npm run vm/s);
});

test('help says what there is, and is left to a command that is given it', () => {
  for (const parse of [parseTestCommandLine, parseShellCommandLine])
    assert.throws(
      () => parse(['--help']),
      (error: unknown) =>
        error instanceof HelpRequest && /^usage: npm run .*\nkernels: 6\.12, /.test(error.message),
    );
  assert.is(parseShellCommandLine(['--', 'ls', '--help']).command, 'ls --help');
});

test('a shell takes one kernel and one machine, and a command after two hyphens', () => {
  const interactive = parseShellCommandLine([]);
  assert.is(interactive.series.name, '6.12');
  assert.is(interactive.machine.name, 'guest');
  assert.is(interactive.command, undefined);
  const command = parseShellCommandLine(['--kernel', '7.2', '--', 'ls', '-l', '/dev/vduse']);
  assert.is(command.series.name, '7.2');
  assert.is(command.command, 'ls -l /dev/vduse');
});

test.run();
