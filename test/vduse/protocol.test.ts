import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import * as vduse from '../../host/uapi/vduse.js';
import { negotiate, speaks } from '../../host/vduse/protocol.js';

/** A bus of one's own, closed at the end. */
function onBus(name: string, body: (bus: Bus) => Promise<void>): void {
  test(name, async () => {
    await using bus = new Bus();
    await body(bus);
  });
}

onBus('the newest version and all features are agreed on', async (bus) => {
  const protocol = await negotiate(bus.control());
  assert.is(protocol.apiVersion, vduse.VDUSE_API_VERSION_1);
  assert.ok(speaks(protocol, vduse.VDUSE_F_QUEUE_READY) && speaks(protocol, vduse.VDUSE_F_SUSPEND));
});

onBus('an older version is set, although asking has latched the newer one', async (bus) => {
  const control = bus.control();
  assert.is((await negotiate(control, vduse.VDUSE_API_VERSION)).apiVersion, vduse.VDUSE_API_VERSION);
  const version = new Uint8Array(8);
  await control.ioctl(vduse.VDUSE_GET_API_VERSION, version);
  assert.equal([...version], [0, 0, 0, 0, 0, 0, 0, 0]);
});

onBus('a transport from before the features has none', async (bus) => {
  bus.faults.inject({ point: 'ioctl', request: vduse.VDUSE_GET_FEATURES, errno: 'EINVAL' });
  assert.is((await negotiate(bus.control())).features, 0n);
});

onBus('another failure is one', async (bus) => {
  bus.faults.inject({ point: 'ioctl', request: vduse.VDUSE_GET_FEATURES, errno: 'EPERM' });
  const error = await negotiate(bus.control()).catch((reason) => reason);
  assert.is(error.code, 'EPERM');
});

test.run();
