/** URIs, and what requests and replies are put together from. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RingbellError } from '../../host/errors.js';
import { Coverage } from '../../host/nbd/coverage.js';
import { parseNbdUri } from '../../host/nbd/uri.js';
import { RangeLock } from '../../host/range-lock.js';
import { generator } from '../engine/random.js';

const TCP = { host: 'example.com', port: 10809 };

for (const [uri, endpoint, exportName] of [
  ['nbd://example.com', TCP, ''],
  ['nbd://example.com/', TCP, ''],
  ['nbd://example.com/disk', TCP, 'disk'],
  ['nbd://example.com//disk', TCP, '/disk'],
  ['nbd://example.com/hello%20world', TCP, 'hello world'],
  ['nbd://example.com/a+b', TCP, 'a+b'],
  ['nbd://example.com:1234/a/b', { host: 'example.com', port: 1234 }, 'a/b'],
  ['nbd://[::1]:1234/', { host: '::1', port: 1234 }, ''],
  ['nbd+unix:///?socket=/run/a%20b.sock', { path: '/run/a b.sock' }, ''],
  ['nbd+unix:///disk?socket=nbd+1.sock', { path: 'nbd+1.sock' }, 'disk'],
] as const)
  test(`${uri} is read`, () => {
    const address = parseNbdUri(uri);
    assert.equal([address.endpoint, address.exportName, address.tls], [endpoint, exportName, undefined]);
  });

test('URIs with TLS say what to check', () => {
  assert.equal(parseNbdUri('nbds://example.com/').tls, {
    rejectUnauthorized: true,
    host: 'example.com',
    servername: 'example.com',
  });
  assert.equal(parseNbdUri('nbds://[::1]/?tls-type=x509&tls-hostname=a.b').tls, {
    rejectUnauthorized: true,
    host: 'a.b',
    servername: 'a.b',
  });
  assert.equal(parseNbdUri('nbds://10.0.0.1/').tls, { rejectUnauthorized: true, host: '10.0.0.1' });
  assert.equal(parseNbdUri('nbds+unix:///?socket=s&tls-verify-peer=0').tls, { rejectUnauthorized: false });
});

for (const [uri, code, message] of [
  ['disk.img', 'ERR_ARGUMENT', /not a URI/],
  ['http://example.com/', 'ERR_ARGUMENT', /begins with nbd:/],
  ['nbd:///disk', 'ERR_ARGUMENT', /the host is missing/],
  ['nbd://example.com:0/', 'ERR_ARGUMENT', /0 is no port/],
  ['nbd://example.com:70000/', 'ERR_ARGUMENT', /not a URI/],
  ['nbd://example.com/#a', 'ERR_ARGUMENT', /no fragment/],
  ['nbd://example.com/?socket=a', 'ERR_ARGUMENT', /no parameter 'socket'/],
  ['nbd://example.com/?tls-type=x509', 'ERR_ARGUMENT', /no parameter 'tls-type'/],
  ['nbd://example.com/%ff', 'ERR_ARGUMENT', /not percent-encoded UTF-8/],
  ['nbd://example.com/a%00b', 'ERR_ARGUMENT', /no NUL/],
  [`nbd://example.com/${'a'.repeat(4097)}`, 'ERR_ARGUMENT', /at most 4096 bytes/],
  ['nbd+unix:///', 'ERR_ARGUMENT', /socket is missing/],
  ['nbd+unix://host/?socket=a', 'ERR_ARGUMENT', /has no host/],
  ['nbd+unix:///?socket=a&socket=b', 'ERR_ARGUMENT', /there twice/],
  ['nbd+unix:///?socket=%00a', 'ERR_ARGUMENT', /named by a path/],
  ['nbds+unix:///?socket=a', 'ERR_ARGUMENT', /give tls-hostname/],
  ['nbds://example.com/?tls-verify-peer=2', 'ERR_ARGUMENT', /must be 0 or 1/],
  ['nbds://example.com/?tls-certificates=/nonexistent', 'ERR_ARGUMENT', /ENOENT.*ca-cert\.pem/],
  ['nbds://user@example.com/', 'ERR_NOT_SUPPORTED', /user names and shared keys/],
  ['nbds://example.com/?tls-type=psk', 'ERR_NOT_SUPPORTED', /only x509/],
] as const)
  test(`${uri.slice(0, 60)} is refused: ${message.source}`, () => {
    try {
      parseNbdUri(uri);
    } catch (error) {
      assert.instance(error, RingbellError);
      assert.equal([(error as RingbellError).code, message.test((error as Error).message)], [code, true]);
      return;
    }
    assert.unreachable();
  });

test('coverage agrees with a set of bytes, over random pieces', () => {
  const below = generator(7);
  for (let round = 0; round < 200; round++) {
    const coverage = new Coverage(64);
    const bytes = new Set<number>();
    for (let step = 0; step < 60; step++) {
      const start = below(100);
      const end = start + 1 + below(12);
      const piece = Array.from({ length: end - start }, (_, index) => start + index);
      const isFree = piece.every((byte) => !bytes.has(byte));
      assert.is(coverage.add(start, end), isFree, `[${start}, ${end})`);
      if (isFree) for (const byte of piece) bytes.add(byte);
      assert.is(coverage.bytes, bytes.size);
    }
  }
});

test('coverage takes no more pieces than it may, and goes on joining those that it has', () => {
  const coverage = new Coverage(3);
  assert.equal([coverage.add(0, 1), coverage.add(10, 11), coverage.add(20, 21)], [true, true, true]);
  assert.equal([coverage.add(30, 31), coverage.add(1, 10), coverage.add(30, 31)], [false, true, true]);
  assert.is(coverage.bytes, 13);
});

test('ranges that overlap take turns in the order of the calls, others do not wait', async () => {
  const lock = new RangeLock();
  const log: string[] = [];
  const ends = new Map<string, () => void>();
  const section = (name: string) => () => {
    log.push(name);
    return new Promise<void>((resolve) => ends.set(name, resolve));
  };
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const all = [
    lock.run(0, 10, section('a')),
    lock.run(20, 30, section('b')),
    lock.run(5, 25, section('c')),
    lock.run(8, 9, section('d')),
    lock.run(10, 20, section('e')),
    lock.run(40, 50, section('f')).catch(() => log.push('f failed')),
  ];
  await turn();
  assert.equal(log, ['a', 'b', 'f']);
  ends.get('a')!();
  await turn();
  assert.equal(log, ['a', 'b', 'f']);
  ends.get('b')!();
  await turn();
  assert.equal(log, ['a', 'b', 'f', 'c']);
  ends.get('c')!();
  await turn();
  assert.equal(log.slice(4).sort(), ['d', 'e']);
  for (const name of ['d', 'e', 'f']) ends.get(name)!();
  await Promise.all(all);
  // A section that fails lets the next one in.
  await lock.run(0, 1, () => Promise.reject(new Error('on purpose'))).catch(() => {});
  await lock.run(0, 1, () => {});
});

test.run();
