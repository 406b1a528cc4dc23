import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Progress, styled, tableLines } from '../../host/cli/terminal.js';

/** A stream that keeps what it was given. */
function recorder(isTTY: boolean) {
  const stream = {
    isTTY,
    text: '',
    write(text: string) {
      stream.text += text;
      return true;
    },
  };
  return stream;
}

test('a table aligns its columns', () => {
  const lines = tableLines(
    [
      { title: 'name', align: 'left' },
      { title: 'n', align: 'right' },
    ],
    [
      ['a', '1'],
      ['longer', '1000'],
    ],
  );
  assert.equal(lines, ['name       n', 'a          1', 'longer  1000']);
});

test('progress is shown on a terminal and nowhere else', () => {
  const terminal = recorder(true);
  new Progress(terminal).step('working');
  assert.match(terminal.text, /working/);
  const file = recorder(false);
  const progress = new Progress(file);
  progress.step('working');
  progress.done(0.5);
  progress.clear();
  assert.is(file.text, '');
});

test('text is styled on a terminal only, and never against NO_COLOR', () => {
  const before = process.env.NO_COLOR;
  delete process.env.NO_COLOR;
  assert.is.not(styled(recorder(true), 'green', 'ok'), 'ok');
  assert.is(styled(recorder(false), 'green', 'ok'), 'ok');
  process.env.NO_COLOR = '1';
  assert.is(styled(recorder(true), 'green', 'ok'), 'ok');
  if (before === undefined) delete process.env.NO_COLOR;
  else process.env.NO_COLOR = before;
});

test.run();
