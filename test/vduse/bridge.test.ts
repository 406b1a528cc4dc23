import { MessageChannel } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isSystemError, RingbellError, systemError } from '../../host/errors.js';
import { adoptVduseFile, exposeVduseFile } from '../../host/vduse/bridge.js';
import type { VduseFile } from '../../host/vduse/file.js';
import { until } from '../models/fixture.js';
import { FakeVduseFile } from './fake-file.js';

/** A file at both ends of a bridge. */
async function bridge(body: (far: VduseFile, near: FakeVduseFile) => Promise<void>): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  const near = new FakeVduseFile();
  exposeVduseFile(near, port1);
  const far = adoptVduseFile('disk0', port2);
  try {
    await body(far, near);
  } finally {
    port2.close();
    await until(() => near.closed, 'closing the file');
  }
}

test('an ioctl brings back its result and its argument', async () => {
  await bridge(async (far, near) => {
    near.onIoctl = (request, argument) => {
      assert.equal([...argument!], [1, 2, 3]);
      argument!.set([4, 5, 6]);
      return request + 1;
    };
    const argument = Uint8Array.of(1, 2, 3);
    assert.is(await far.ioctl(41, argument), 42);
    assert.equal([...argument], [4, 5, 6]);
  });
});

test('a system error stays one', async () => {
  await bridge(async (far, near) => {
    near.onIoctl = () => {
      throw systemError('EINVAL', 'ioctl', 'no such region');
    };
    try {
      await far.ioctl(1);
      assert.unreachable();
    } catch (error) {
      assert.ok(isSystemError(error, 'EINVAL'));
      assert.equal([error.errno, error.syscall], [-22, 'ioctl']);
      assert.match(error.message, 'no such region');
    }
  });
});

test('an error of ours stays one, with what the kernel answered', async () => {
  await bridge(async (far, near) => {
    near.onIoctl = () => {
      throw new RingbellError('ERR_CLOSED', 'gone', { errno: -9, syscall: 'ioctl' });
    };
    const error = await far.ioctl(1).catch((caught: unknown) => caught);
    assert.instance(error, RingbellError);
    const { code, message, errno, syscall } = error as RingbellError;
    assert.equal([code, message, errno, syscall], ['ERR_CLOSED', 'gone', -9, 'ioctl']);
  });
});

test('a read waits without holding up other calls', async () => {
  await bridge(async (far, near) => {
    const read = far.read();
    assert.is(await far.kickFd(2, 7), 7);
    assert.is(await far.callFd(2), -1);
    assert.is(await far.needsReset(), true);
    near.send(Uint8Array.of(9));
    assert.equal([...(await read)], [9]);
    await far.write(Uint8Array.of(8));
    assert.equal(near.written, [Uint8Array.of(8)]);
  });
});

test('when the other end goes, calls that wait fail and the file is closed', async () => {
  const { port1, port2 } = new MessageChannel();
  const near = new FakeVduseFile();
  exposeVduseFile(near, port1);
  const far = adoptVduseFile('disk0', port2);
  const read = far.read().catch((error: unknown) => error);
  port1.close();
  assert.ok(isSystemError(await read, 'EBADF'));
  await until(() => near.closed, 'closing the file');
});

test.run();
