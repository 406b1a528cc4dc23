import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Channel, type Message } from '../vm/channel.js';

/** Messages of a text that arrives in pieces of `size` bytes. */
function messagesOf(text: string, size: number): Message[] {
  const messages: Message[] = [];
  const channel = new Channel((message) => messages.push(message));
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) channel.write(bytes.subarray(at, at + size));
  channel.end();
  return messages;
}

const TEXT =
  '\x01ready\r\n\x01begin guest/a.test.js\nfirst • line\r\nno end\x01end guest/a.test.js 7\n\x01exit 0\nlast';

for (const size of [1, 3, 1000])
  test(`marked lines are told apart from output, in pieces of ${size} bytes`, () => {
    assert.equal(messagesOf(TEXT, size), [
      { kind: 'ready' },
      { kind: 'begin', file: 'guest/a.test.js' },
      { kind: 'text', text: 'first • line' },
      { kind: 'text', text: 'no end' },
      { kind: 'end', file: 'guest/a.test.js', status: 7 },
      { kind: 'exit', status: 0 },
      { kind: 'text', text: 'last' },
    ]);
  });

test('empty lines are output, a mark that nobody knows is too', () => {
  assert.equal(messagesOf('\n\x01other\n', 100), [
    { kind: 'text', text: '' },
    { kind: 'text', text: 'other' },
  ]);
});

test.run();
