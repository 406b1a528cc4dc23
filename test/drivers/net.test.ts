import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_HDR_SIZE,
} from '../../assembly/virtio.js';
import { Bus } from '../../host/bus/index.js';
import { openNet } from '../../host/drivers/net.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { within } from '../bus/fixture.js';
import { rejects, serveTestDisk } from './block-fixture.js';
import { netScene, serveTestNet, testFrame } from './net-fixture.js';

for (const [mode, eventIdx, bounce] of [
  ['notify', true, false],
  ['notify', false, false],
  ['poll', true, false],
  ['poll', false, false],
  ['notify', true, true],
  ['poll', true, true],
] as const)
  test(`frames of every length come back as they were sent, in order: ${mode}, ${eventIdx}, ${bounce}`, () =>
    netScene(
      async ({ device, net }) => {
        const lengths = [14, 15, 60, 64, 1514, 1518];
        const frames = Array.from({ length: 600 }, (_, index) =>
          testFrame(lengths[index % lengths.length] as number, index),
        );
        const sent = net.send(frames);
        const received: Uint8Array[] = [];
        while (received.length < frames.length) received.push(...(await net.receive()));
        await sent;
        assert.equal(received.map(Buffer.from), frames.map(Buffer.from));
        assert.ok(
          device.arrived.every((frame) => frame.subarray(0, VIRTIO_NET_HDR_SIZE).every((byte) => byte === 0)),
        );
        const { queues, ...sum } = net.stats();
        const bytes = frames.reduce((total, frame) => total + frame.byteLength, 0);
        assert.is(sum.bytesRead, bytes);
        assert.is(sum.bytesWritten, bytes);
        assert.equal(
          queues.map(({ requests, inFlight }) => [requests, inFlight]),
          [
            [600, 256],
            [600, 0],
          ],
        );
      },
      {},
      { mode, eventIdx, bounce },
    ));

test('frames of one turn go to the ring with one kick', () =>
  netScene(async ({ net }) => {
    const { crossings } = net.stats();
    const sends = Array.from({ length: 20 }, (_, index) => net.send(testFrame(60, index)));
    await Promise.resolve();
    const transmit = net.stats().queues[1]!;
    assert.is(transmit.inFlight, 20);
    assert.is(transmit.kicks + transmit.kicksSuppressed, 1);
    assert.ok(net.stats().crossings - crossings <= 3, 'submit, kick and arm');
    await Promise.all(sends);
  }));

test('frames that find the ring full wait, and keep their order', () =>
  netScene(
    async ({ device, net }) => {
      const sends = Array.from({ length: 30 }, (_, index) => net.send(testFrame(60, index)));
      await new Promise(setImmediate);
      assert.is(net.stats().queues[1]!.inFlight, 8);
      device.release();
      const received: Uint8Array[] = [];
      while (received.length < 30) received.push(...(await net.receive()));
      await Promise.all(sends);
      assert.equal(
        received.map((frame) => Buffer.from(frame)),
        Array.from({ length: 30 }, (_, index) => Buffer.from(testFrame(60, index))),
      );
    },
    { hold: true },
    { queueSize: 8 },
  ));

test('frames wait on the ring until somebody receives them', () =>
  netScene(
    async ({ device, net }) => {
      await net.send(Array.from({ length: 8 }, (_, index) => testFrame(60, index)));
      const ninth = net.send(testFrame(60, 8));
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.is(device.arrived.length, 8, 'no room for the answer: the device waits');
      assert.is((await net.receive()).length, 8);
      await ninth;
      assert.is((await net.receive()).length, 1);
    },
    {},
    { queueSize: 8 },
  ));

test('iterates over frames until the interface is closed', () =>
  netScene(async ({ net }) => {
    const received: Uint8Array[] = [];
    const done = (async () => {
      for await (const frame of net) {
        received.push(frame);
        if (received.length === 3) void net.close();
      }
    })();
    await net.send([testFrame(60, 1), testFrame(60, 2), testFrame(60, 3)]);
    await done;
    assert.is(received.length, 3);
  }));

test('leaving a loop over frames loses none', () =>
  netScene(async ({ net }) => {
    const sent = [1, 2, 3].map((tag) => testFrame(60, tag));
    await net.send(sent);
    const received: Uint8Array[] = [];
    for (let times = 0; times < 2; times++)
      for await (const frame of net) {
        received.push(frame);
        break;
      }
    received.push(...(await net.receive()));
    assert.equal(
      received.map((frame) => Buffer.from(frame)),
      sent.map((frame) => Buffer.from(frame)),
    );
  }));

test('a frame is copied out: its slot is used again at once', () =>
  netScene(async ({ device, net }) => {
    await net.send(testFrame(60, 1));
    const [frame] = await net.receive();
    for (let index = 2; index < 600; index++) {
      await net.send(testFrame(60, index));
      await net.receive();
    }
    assert.is(device.arrived.length, 599);
    assert.equal(Buffer.from(frame!), Buffer.from(testFrame(60, 1)));
  }));

test('nothing is a send of no frames', () => netScene(({ net }) => net.send([])));

test('refuses frames that are none, before any is sent', () =>
  netScene(async ({ device, net }) => {
    await rejects(net.send(new Uint8Array(13)), 'ERR_ARGUMENT', /a frame has 14 to 1518 bytes, not 13/);
    await rejects(net.send([testFrame(60), new Uint8Array(1519)]), 'ERR_ARGUMENT', /not 1519/);
    for (const frames of ['frame', [1], undefined])
      await net.send(frames as never).then(
        () => assert.unreachable(),
        (error) => assert.instance(error, TypeError),
      );
    await rejects(net.send(testFrame(60), { sginal: 1 } as never), 'ERR_ARGUMENT', /has no option 'sginal'/);
    await new Promise(setImmediate);
    assert.is(device.arrived.length, 0);
  }));

test('a buffer that is detached, or grows, before its frame has a slot fails its send alone', () =>
  netScene(async ({ net }) => {
    const detached = new Uint8Array(new ArrayBuffer(60));
    const first = net.send(detached);
    structuredClone(detached, { transfer: [detached.buffer] });
    // Both calls are ES2024's: newer than the declarations here.
    const buffer = Reflect.construct(SharedArrayBuffer, [60, { maxByteLength: 4096 }]) as SharedArrayBuffer;
    const second = net.send(new Uint8Array(buffer));
    (buffer as unknown as { grow(bytes: number): void }).grow(4096);
    const third = net.send(testFrame(60, 3));
    for (const send of [first, second])
      await send.then(
        () => assert.unreachable(),
        (error) => assert.match(error.message, /detached, or resized/),
      );
    await third;
    assert.is((await net.receive()).length, 1);
  }));

test('signals end calls', () =>
  netScene(
    async ({ device, net }) => {
      await rejects(net.receive({ signal: AbortSignal.abort() }), 'ABORT_ERR');
      const waiting = new AbortController();
      const receive = net.receive({ signal: waiting.signal });
      waiting.abort();
      await rejects(receive, 'ABORT_ERR');
      const sending = new AbortController();
      const send = net.send(
        Array.from({ length: 12 }, (_, index) => testFrame(60, index)),
        { signal: sending.signal },
      );
      await new Promise(setImmediate);
      sending.abort();
      await rejects(send, 'ABORT_ERR');
      device.release();
      assert.ok((await net.receive()).length > 0, 'somebody can wait again');
      await net.send(testFrame(60, 99));
      assert.is(device.arrived.length, 9, 'what was on the ring, and the next; not what waited');
    },
    { hold: true },
    { queueSize: 8 },
  ));

test('one call waits for frames at a time', () =>
  netScene(async ({ net }) => {
    const first = net.receive();
    await rejects(net.receive(), 'ERR_ARGUMENT', /somebody waits already/);
    await net.send(testFrame(60));
    assert.is((await first).length, 1);
  }));

test('closing waits for frames on their way, and ends those who wait', () =>
  netScene(async ({ device, net }) => {
    const sends = [net.send(testFrame(60, 1)), net.send(testFrame(60, 2))];
    const outcome = net.receive().then(
      (frames) => frames.length,
      (error) => error.code,
    );
    await net.close();
    await Promise.all(sends);
    assert.is(device.arrived.length, 2);
    assert.ok([2, 'ERR_CLOSED'].includes(await outcome));
    await rejects(net.send(testFrame(60)), 'ERR_CLOSED');
    await rejects(net.receive(), 'ERR_CLOSED');
    assert.is(net.stats().queues[1]!.requests, 2);
  }));

test('reads the config space by what was negotiated', async () => {
  await netScene(
    async ({ net }) => {
      assert.equal(net.config, { mac: '52:54:00:aa:bb:cc', mtu: 9000, linkUp: false });
      assert.is(net.maxFrameBytes, 9018);
      assert.is(inspect(net), 'NetInterface { net0, 52:54:00:aa:bb:cc, MTU 9000, link down }');
      await net.send(testFrame(9018));
      assert.equal((await net.receive()).map(Buffer.from), [Buffer.from(testFrame(9018))]);
    },
    { config: { mtu: 9000, status: 0 } },
  );
  await netScene(async ({ net }) => assert.equal(net.config, { mac: undefined, mtu: 1500, linkUp: true }), {
    config: { mtu: 9000, status: 0 },
    without: [VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS],
  });
});

test('follows the link', () =>
  netScene(async ({ file, net }) => {
    const changed = new Promise((resolve) => net.once('config', resolve));
    await file.ioctl(
      vduse.VDUSE_DEV_SET_CONFIG,
      vduse.vduseConfigData.encode({ offset: 6, length: 2, buffer: new Uint8Array(2) }),
    );
    await file.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
    await within(changed, 'the config event');
    assert.is(net.config.linkUp, false);
  }));

test('a queue without a doorbell page says so in stats and by an event, once', () =>
  netScene(async ({ net }) => {
    const refusals: [number, string][] = [];
    net.on('doorbellRefused', (queue, code) => refusals.push([queue, code]));
    await net.send(testFrame(60));
    assert.equal(refusals, [
      [0, 'ENOTSUPP'],
      [1, 'ENOTSUPP'],
    ]);
    assert.equal(
      net.stats().queues.map(({ doorbell, doorbellRefused }) => [doorbell, doorbellRefused]),
      [
        [false, 'ENOTSUPP'],
        [false, 'ENOTSUPP'],
      ],
    );
  }));

test('a device of which one queue has a page rings that, and kicks the other', async () => {
  const { bus, device } = await serveTestNet({ doorbell: 'page-per-vq' });
  bus.faults.inject({ point: 'mmap', errno: 'EINVAL' });
  const net = await openNet('net0', { bus });
  const refusals: [number, string][] = [];
  net.on('doorbellRefused', (queue, code) => refusals.push([queue, code]));
  await new Promise(setImmediate);
  assert.equal(refusals, [[0, 'EINVAL']]);
  assert.equal(
    net.stats().queues.map(({ doorbell, doorbellRefused }) => [doorbell, doorbellRefused]),
    [
      [false, 'EINVAL'],
      [true, undefined],
    ],
  );
  await net.close();
  await bus.close();
  device.close();
});

test('tells what cannot be opened', async () => {
  const bus = new Bus();
  await rejects(openNet('nothing', { bus }), 'ERR_NO_DEVICE');
  for (const [options, message] of [
    [{ queueSize: 3 }, /queueSize must be a power of two, not 3/],
    [{ queueSize: 0 }, /queueSize must be an integer from 1 to 32768, not 0/],
    [{ mode: 'fast' }, /mode must be 'notify' or 'poll', not 'fast'/],
    [{ queues: 2 }, /openNet has no option 'queues'/],
  ] as const)
    await rejects(openNet('net0', options as never), 'ERR_ARGUMENT', message);
  await bus.close();
  const disk = await serveTestDisk();
  await rejects(
    openNet('disk0', { bus: disk.bus }),
    'ERR_NOT_SUPPORTED',
    /device id 2, this driver is for 1/,
  );
  await disk.bus.close();
  disk.device.close();
  const { bus: small, device } = await serveTestNet({ queueSize: 16, config: { mtu: 60 } });
  await rejects(openNet('net0', { bus: small }), 'ERR_NOT_SUPPORTED', /the MTU is 60 bytes, less than 68/);
  assert.is(small.list()[0]?.driven, false);
  await small.close();
  device.close();
  await netScene(async () => {}, { queueSize: 16 });
  const few = await serveTestNet({ queueSize: 16 });
  await rejects(
    openNet('net0', { bus: few.bus, queueSize: 32 }),
    'ERR_NOT_SUPPORTED',
    /queues of net0 have at most 16 entries, not 32/,
  );
  await few.bus.close();
  few.device.close();
});

test('a device past the IOMMU is refused', async () => {
  const { bus, device } = await serveTestNet();
  const open = bus.openVhostVdpa.bind(bus);
  bus.openVhostVdpa = async (name) => {
    const file = await open(name);
    const ioctl = file.ioctl.bind(file);
    file.ioctl = async (request, argument) => {
      const result = await ioctl(request, argument);
      // The bus itself, as VDUSE, takes no such device.
      if (request === vhost.VHOST_GET_FEATURES)
        argument!.set(u64.encode(u64.decode(argument!) & ~(1n << BigInt(VIRTIO_F_ACCESS_PLATFORM))));
      return result;
    };
    return file;
  };
  await rejects(openNet('net0', { bus }), 'ERR_FEATURES', /net0 lacks VIRTIO_F_ACCESS_PLATFORM/);
  await bus.close();
  device.close();
});

for (const bounce of [false, true])
  test(`both queues are reset and given other sizes under traffic, and frames keep their order (bounce: ${bounce})`, () =>
    netScene(
      async ({ net }) => {
        const sent = Array.from({ length: 300 }, (_, index) => testFrame(60, index));
        const received: Uint8Array[] = [];
        const receive = async () => {
          while (received.length < sent.length) received.push(...(await net.receive()));
        };
        const resize = async () => {
          for (const queueSize of [4, 32, 1, 16]) {
            await net.resetQueue(1, { queueSize });
            await net.resetQueue(0, { queueSize });
            assert.equal(
              net.stats().queues.map(({ size }) => size),
              [queueSize, queueSize],
            );
          }
        };
        const send = async () => {
          for (const frame of sent) await net.send(frame);
        };
        await Promise.all([receive(), send(), resize()]);
        assert.equal(
          received.map((frame) => Buffer.from(frame)),
          sent.map((frame) => Buffer.from(frame)),
        );
      },
      {},
      { queueSize: 8, maxQueueSize: 32, bounce },
    ));

test('frames that the device holds are sent on the new ring, in order, and once each if it had sent none', () =>
  netScene(
    async ({ device, net }) => {
      const sends = Array.from({ length: 20 }, (_, index) => net.send(testFrame(60, index)));
      await new Promise(setImmediate);
      assert.is(net.stats().queues[1]!.inFlight, 8);
      await net.resetQueue(1, { queueSize: 4 });
      assert.is(net.stats().queues[1]!.inFlight, 4);
      device.release();
      const received: Uint8Array[] = [];
      while (received.length < 20) received.push(...(await net.receive()));
      await Promise.all(sends);
      assert.equal(
        received.map((frame) => Buffer.from(frame)),
        Array.from({ length: 20 }, (_, index) => Buffer.from(testFrame(60, index))),
      );
    },
    { hold: true },
    { queueSize: 8 },
  ));

test('frames that have come before the receive queue is reset are received after it', () =>
  netScene(
    async ({ net }) => {
      await net.send([testFrame(60, 1), testFrame(60, 2)]);
      await net.resetQueue(0);
      assert.equal(
        (await net.receive()).map((frame) => Buffer.from(frame)),
        [Buffer.from(testFrame(60, 1)), Buffer.from(testFrame(60, 2))],
      );
      const waiting = net.receive();
      await net.resetQueue(0);
      await net.send(testFrame(60, 3));
      assert.equal(
        (await waiting).map((frame) => Buffer.from(frame)),
        [Buffer.from(testFrame(60, 3))],
      );
    },
    {},
    { queueSize: 8 },
  ));

test.run();
