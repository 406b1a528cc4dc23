import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CpioArchive } from '../vm/cpio.js';

const S_IFMT = 0o170000;

/** Reads an archive by the format's description: path → type, permissions, device, content. */
function read(bytes: Buffer) {
  const entries: Record<string, { type: number; permissions: number; device: number[]; content: string }> =
    {};
  for (let at = 0; ; ) {
    assert.is(bytes.toString('latin1', at, at + 6), '070701');
    const field = (index: number) =>
      Number.parseInt(bytes.toString('latin1', at + 6 + 8 * index, at + 14 + 8 * index), 16);
    const [mode, size, nameSize] = [field(1), field(6), field(11)];
    const name = bytes.toString('utf8', at + 110, at + 110 + nameSize - 1);
    if (name === 'TRAILER!!!') return entries;
    const start = (at + 110 + nameSize + 3) & ~3;
    const content = bytes.toString('latin1', start, start + size);
    entries[name] = {
      type: mode & S_IFMT,
      permissions: mode & ~S_IFMT,
      device: [field(9), field(10)],
      content,
    };
    at = (start + size + 3) & ~3;
  }
}

const archive = () =>
  new CpioArchive()
    .directory('dev')
    .device('dev/console', 5, 1)
    .file('lib/modules/x/a.ko', Buffer.from('module'))
    .file('lib/modules/x/b.ko', Buffer.from('four'))
    .file('init', Buffer.from('#!'), 0o755);

test('what is put in comes out, with each directory once, in front of its files', () => {
  const entries = read(archive().toBuffer());
  assert.equal(Object.keys(entries), [
    'dev',
    'dev/console',
    'lib',
    'lib/modules',
    'lib/modules/x',
    'lib/modules/x/a.ko',
    'lib/modules/x/b.ko',
    'init',
  ]);
  assert.equal(entries.lib, { type: 0o040000, permissions: 0o755, device: [0, 0], content: '' });
  assert.equal(entries['dev/console'], { type: 0o020000, permissions: 0o600, device: [5, 1], content: '' });
  assert.equal(entries['lib/modules/x/a.ko'], {
    type: 0o100000,
    permissions: 0o644,
    device: [0, 0],
    content: 'module',
  });
  assert.equal(entries.init, { type: 0o100000, permissions: 0o755, device: [0, 0], content: '#!' });
});

test('the same entries make the same bytes, in whole blocks', () => {
  assert.equal(archive().toBuffer(), archive().toBuffer());
  assert.is(archive().toBuffer().length % 512, 0);
});

test.run();
