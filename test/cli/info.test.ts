import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from './command-line.js';

test('a file that is no vhost-vdpa device is called that', async () => {
  const { status, stdout, stderr } = await run(['info', '/dev/null']);
  assert.is(stderr, 'ringbell: /dev/null is no vhost-vdpa device\n');
  assert.is(stdout, '');
  assert.is(status, 1);
});

test.run();
