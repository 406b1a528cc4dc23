import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { bounceBufferText } from '../../host/cli/serve-report.js';

test('where the bounce buffer is, is said', () => {
  assert.is(bounceBufferText('umem', undefined), 'bounce buffer: memory of this process (umem)');
  assert.is(bounceBufferText('fd', undefined), "bounce buffer: the kernel's own pages (fd)");
});

test('a limit on locked memory comes with its remedy, another reason without', () => {
  for (const reason of ['ENOMEM: not enough memory, ioctl', 'EPERM: operation not permitted, setrlimit']) {
    const text = bounceBufferText('fd', reason);
    assert.ok(text.includes(`(${reason}): raise RLIMIT_MEMLOCK`), text);
  }
  const text = bounceBufferText('fd', 'EINVAL: invalid argument, ioctl');
  assert.ok(text.endsWith('(EINVAL: invalid argument, ioctl)'), text);
});

test.run();
