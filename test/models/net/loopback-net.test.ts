/** A network device of ours, driven by our driver and by one that says what it likes. */

import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openNet } from '../../../host/drivers/net.js';
import type { Chain } from '../../../host/models/chain.js';
import type { ModelQueue } from '../../../host/models/model-queue.js';
import { LoopbackNet } from '../../../host/models/net/loopback-net.js';
import type { ServeOptions } from '../../../host/serve.js';
import {
  VIRTIO_NET_ERR,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_OK,
  VIRTIO_NET_S_LINK_UP,
} from '../../../host/uapi/virtio.js';
import { testFrame } from '../../drivers/net-fixture.js';
import { rejects, until, within } from '../fixture.js';
import { driven, served } from './fixture.js';
import { RawNetDriver } from './raw-net-driver.js';

const MAC = '52:54:00:aa:bb:cc';
const NONE = {
  ...{
    transmitted: 0,
    received: 0,
    malformed: 0,
    linkDown: 0,
    noBuffer: 0,
    notReceivable: 0,
    notSegmented: 0,
  },
};

for (const options of [
  {},
  { packed: false },
  { threads: 0 },
  { queueSize: 8 },
  { packed: false, queueSize: 4 },
])
  test(`frames of every length come back in order, served with ${inspect(options)}`, () =>
    served(
      new LoopbackNet({ mac: MAC }),
      options as Partial<ServeOptions>,
      async ({ bus, model, device, errors }) => {
        const net = await within(openNet('net0', { bus }), 'openNet');
        assert.equal(net.config, { mac: MAC, mtu: 1500, linkUp: true });
        assert.is(net.features.includes('VIRTIO_F_RING_PACKED'), options.packed !== false);
        const lengths = [14, 15, 60, 64, 1514, 1518];
        const frames = Array.from({ length: 300 }, (_, index) => testFrame(lengths[index % 6]!, index));
        for (let first = 0; first < frames.length; first += 100) {
          const part = frames.slice(first, first + 100);
          const sent = net.send(part);
          const received: Uint8Array[] = [];
          while (received.length < part.length) received.push(...(await within(net.receive(), 'frames')));
          await sent;
          assert.equal(received.map(Buffer.from), part.map(Buffer.from));
        }
        assert.equal(model.stats(), { ...NONE, transmitted: 300, received: 300 });
        const bytes = frames.reduce((sum, frame) => sum + frame.length, 0);
        const { bytesRead, bytesWritten } = device.stats();
        assert.equal([bytesRead, bytesWritten], [bytes, bytes]);
        await net.close();
        assert.equal(errors, []);
      },
    ));

test('the driver is told when the link goes down and up, and no frame passes meanwhile', () =>
  served(new LoopbackNet({ mac: MAC }), {}, async ({ bus, model }) => {
    const net = await openNet('net0', { bus });
    const config = () => within(once(net, 'config'), 'a change of the config space');
    const down = config();
    await model.setLink(false);
    await down;
    assert.is(net.config.linkUp, false);
    await net.send(testFrame(60));
    assert.equal(model.stats(), { ...NONE, linkDown: 1 });
    assert.not.ok(model.receive(testFrame(60)));
    assert.is(model.stats().linkDown, 2);
    const up = config();
    await model.setLink(true);
    await up;
    assert.is(net.config.linkUp, true);
    await net.send(testFrame(61));
    assert.is((await net.receive())[0]!.length, 61);
    await net.close();
  }));

test('the link can be down before anybody is there', async () => {
  const model = new LoopbackNet();
  await model.setLink(false);
  await served(model, {}, async ({ bus }) => {
    const net = await openNet('net0', { bus });
    assert.is(net.config.linkUp, false);
    await net.close();
  });
});

test('a frame that nobody is there for is dropped, and counted', () =>
  served(new LoopbackNet(), {}, async ({ model }) => {
    assert.is(model.receive(testFrame(60)), false);
    assert.equal(model.stats(), { ...NONE, notReceivable: 1 });
  }));

test('frames wait for buffers, as many as may; the rest is dropped, and counted', () =>
  driven(new LoopbackNet(), {}, async ({ model, driver }) => {
    const sent = 300;
    for (let frame = 0; frame < sent; frame++) await driver.send([testFrame(60, frame)]);
    const { received, noBuffer } = model.stats();
    assert.equal([received, noBuffer], [0, 44]);
    assert.not.ok(model.hasRoom());
    let told = 0;
    Object.assign(model, { roomAgain: () => told++ });
    for (let frame = 0; frame < 256; frame++) {
      driver.give(2000);
      assert.equal((await driver.receive()).frame, testFrame(60, frame));
    }
    assert.is(model.stats().received, 256);
    assert.is(told, 1);
  }));

test('a frame lies in as many buffers as it needs, which are used together', () =>
  driven(new LoopbackNet(), { features: [VIRTIO_NET_F_MRG_RXBUF], threads: 0 }, async ({ model, driver }) => {
    driver.give(100, 40);
    for (let round = 0; round < 3; round++) {
      const frame = testFrame(1000, round);
      await driver.send([frame, testFrame(80, round)]);
      const { header, frame: received, buffers } = await driver.receive();
      assert.is(header.num_buffers, 11);
      assert.equal(received, frame);
      assert.equal(buffers, [...new Array(10).fill(100), 12]);
      const short = await driver.receive();
      assert.is(short.header.num_buffers, 1);
      assert.equal(short.frame, testFrame(80, round));
    }
    assert.is(model.stats().received, 6);
  }));

test('frames in many buffers are never published in part, however many come at once', () => {
  /** used.idx of the receive queue, after each time that chains have been given back. */
  const published: number[] = [];
  let look = () => {};
  class Watched extends LoopbackNet {
    override handle(chains: readonly Chain[], queue: ModelQueue): void {
      const { aperture } = queue;
      const { engine } = aperture;
      const requestGiveBurst: typeof engine.requestGiveBurst = (...words) => {
        const result = engine.requestGiveBurst(...words);
        look();
        return result;
      };
      if (published.length === 0)
        Object.defineProperty(aperture, 'engine', { value: { ...engine, requestGiveBurst } });
      super.handle(chains, queue);
    }
  }
  return driven(new Watched(), { features: [VIRTIO_NET_F_MRG_RXBUF] }, async ({ driver }) => {
    look = () => void published.push(driver.queues[0]!.used);
    driver.give(300, 240);
    // Of 3 buffers each: 21 of them, and no more, fit one burst.
    const frames = Array.from({ length: 80 }, (_, index) => testFrame(800, index));
    const sent = driver.send(frames);
    for (const frame of frames) assert.equal((await driver.receive()).frame, frame);
    await sent;
    assert.is(published.at(-1), 240);
    assert.equal(
      published.filter((used) => used % 3 !== 0),
      [],
    );
    assert.ok(new Set(published).size > 3);
  });
});

test('a frame waits until there are buffers enough for it', () =>
  driven(new LoopbackNet(), { features: [VIRTIO_NET_F_MRG_RXBUF] }, async ({ model, driver }) => {
    driver.give(512, 2);
    await driver.send([testFrame(1500)]);
    assert.is(model.stats().received, 0);
    driver.give(512, 1);
    assert.is((await driver.receive()).header.num_buffers, 3);
  }));

test('a frame that no 64 buffers hold is dropped', () =>
  driven(new LoopbackNet(), { features: [VIRTIO_NET_F_MRG_RXBUF] }, async ({ model, driver }) => {
    driver.give(20, 64);
    await driver.send([testFrame(1500)]);
    await driver.send([testFrame(14)]);
    assert.is((await driver.receive()).frame.length, 14);
    assert.equal(model.stats(), { ...NONE, transmitted: 2, received: 1, notReceivable: 1 });
  }));

test('without mergeable buffers a frame that is longer than the next one is dropped, and the buffer kept', () =>
  driven(new LoopbackNet({ mergeable: false }), {}, async ({ model, driver }) => {
    driver.give(100, 2);
    await driver.send([testFrame(500), testFrame(60)]);
    const { header, frame } = await driver.receive();
    assert.is(header.num_buffers, 1);
    assert.equal(frame, testFrame(60));
    assert.is(model.stats().notReceivable, 1);
  }));

test('what a reset driver had given is given back, and nothing of it reaches the next', () =>
  served(new LoopbackNet(), {}, async ({ bus, model }) => {
    for (let life = 0; life < 5; life++) {
      const driver = await RawNetDriver.open(bus);
      driver.give(2000, 60);
      await driver.send([testFrame(60, life)]);
      assert.equal((await driver.receive()).frame, testFrame(60, life));
      await driver.close();
    }
    assert.is(model.stats().received, 5);
  }));

test('a receive queue that is reset alone forgets its buffers, and takes others', () =>
  served(new LoopbackNet(), { queueSize: 64 }, async ({ bus, errors }) => {
    const net = await openNet('net0', { bus });
    for (let round = 0; round < 4; round++) {
      await net.send(testFrame(60, round));
      assert.equal(await within(net.receive(), 'a frame'), [testFrame(60, round)]);
      await within(net.resetQueue(0), 'resetting the receive queue');
      await within(net.resetQueue(1), 'resetting the transmit queue');
    }
    await net.close();
    assert.equal(errors, []);
  }));

// Offloads.

const OFFLOADS = [VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4];
const GUEST = [VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4];
const SEGMENTED = {
  flags: VIRTIO_NET_HDR_F_NEEDS_CSUM,
  gso_type: VIRTIO_NET_HDR_GSO_TCPV4,
  ...{ hdr_len: 54, gso_size: 1460, csum_start: 34, csum_offset: 16 },
};

test('a frame to be cut into segments passes as it is, through one buffer and through many', () =>
  driven(
    new LoopbackNet({ offloads: true }),
    { features: [...OFFLOADS, ...GUEST, VIRTIO_NET_F_MRG_RXBUF] },
    async ({ driver }) => {
      for (const [bytes, buffers] of [
        [0x11000, 1],
        [4096, 16],
      ] as const) {
        driver.give(bytes, buffers);
        const frame = testFrame(65000, bytes);
        await driver.send([frame], SEGMENTED);
        const received = await driver.receive();
        assert.equal(received.header, { ...SEGMENTED, num_buffers: buffers });
        assert.ok(Buffer.compare(received.frame, frame) === 0);
      }
    },
  ));

test('a driver that wants whole frames gets none to be cut, and checksums that are filled in', () =>
  driven(new LoopbackNet({ offloads: true }), { features: OFFLOADS }, async ({ model, driver }) => {
    driver.give(2000, 2);
    await driver.send([testFrame(3000)], SEGMENTED);
    assert.equal(model.stats(), { ...NONE, transmitted: 1, notSegmented: 1 });
    const frame = new Uint8Array(62).fill(0);
    frame.set([0x45, 0x00, 0x00, 0x30, 0xff, 0xff, 0x01], 34);
    await driver.send([frame], { flags: VIRTIO_NET_HDR_F_NEEDS_CSUM, csum_start: 34, csum_offset: 16 });
    const received = await driver.receive();
    assert.is(received.header.flags, 0);
    // 0x4500 + 0x0030 + 0xffff + 0x0100 = 0x1462f: 0x4630 when the carry is added, 0xb9cf inverted.
    assert.equal([...received.frame.subarray(50, 52)], [0xb9, 0xcf]);
    assert.is(frame[50], 0);
  }));

// What a hostile driver sends.

const BAD_HEADERS: [string, object, number[], Uint8Array?][] = [
  ['a checksum to fill in that was not negotiated', { flags: 1, csum_start: 34, csum_offset: 16 }, []],
  ['segmentation that was not negotiated', SEGMENTED, [VIRTIO_NET_F_CSUM]],
  ['an unknown segmentation', { ...SEGMENTED, gso_type: 7 }, OFFLOADS],
  ['ECN without VIRTIO_NET_F_HOST_ECN', { ...SEGMENTED, gso_type: 0x81 }, OFFLOADS],
  ['segments without a size', { ...SEGMENTED, gso_size: 0 }, OFFLOADS],
  ['segments without a checksum', { ...SEGMENTED, flags: 0 }, OFFLOADS],
  ['headers longer than the frame', { ...SEGMENTED, hdr_len: 101 }, OFFLOADS],
  ['a checksum in the Ethernet header', { flags: 1, csum_start: 13, csum_offset: 16 }, OFFLOADS],
  ['a checksum behind the frame', { flags: 1, csum_start: 34, csum_offset: 65 }, OFFLOADS],
  ['a checksum that wraps around', { flags: 1, csum_start: 65535, csum_offset: 65535 }, OFFLOADS],
  ['a frame without an Ethernet header', {}, [], testFrame(13)],
  ['a frame longer than the MTU', {}, [], testFrame(1523)],
  ['a frame longer than any packet', SEGMENTED, OFFLOADS, testFrame(65558)],
];

for (const [what, header, features, frame = testFrame(100)] of BAD_HEADERS)
  test(`${what} is dropped, and counted`, () =>
    driven(new LoopbackNet({ offloads: true }), { features }, async ({ model, driver, errors }) => {
      driver.give(0x11000, 1);
      await driver.send([frame], header);
      assert.equal(model.stats(), { ...NONE, malformed: 1 });
      await driver.send([testFrame(60)], { flags: 0xfe });
      assert.equal((await driver.receive()).frame, testFrame(60));
      assert.equal(errors, []);
    }));

for (const [what, index, pieces] of [
  ['a frame to transmit that is shorter than its header', 1, [new Uint8Array(11)]],
  ['a frame to transmit that can be written to', 1, [new Uint8Array(80), 20]],
  ['a buffer to receive into that is shorter than a header', 0, [11]],
  ['a buffer to receive into that can be read', 0, [new Uint8Array(12), 2000]],
] as const)
  test(`${what} breaks the device`, () =>
    driven(new LoopbackNet(), {}, async ({ driver, errors }) => {
      driver.queues[index]!.offer(pieces);
      driver.queues[index]!.kick();
      await until(() => errors.length > 0, 'an error');
      assert.equal(
        errors.map(({ code }) => code),
        ['ERR_RING_REQUEST'],
      );
    }));

// Pairs of queues.

const MQ = [VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ];
const pairsCommand = (count: number) => Uint8Array.of(4, 0, count & 0xff, count >> 8);

test('a driver uses as many pairs as it says, and a frame comes back by the pair that it went', () =>
  driven(new LoopbackNet(), { queues: 7, features: MQ }, async ({ driver }) => {
    const { status, max_virtqueue_pairs } = await driver.config();
    assert.equal([status, max_virtqueue_pairs], [VIRTIO_NET_S_LINK_UP, 3]);
    for (const pair of [0, 1, 2]) driver.give(2000, 4, pair);
    // Before it says anything it uses one.
    await driver.send([testFrame(60, 9)], {}, 2);
    assert.equal((await driver.receive(0)).frame, testFrame(60, 9));
    assert.is(await driver.command(pairsCommand(3)), VIRTIO_NET_OK);
    for (const pair of [0, 1, 2]) {
      await driver.send([testFrame(60, pair)], {}, pair);
      assert.equal((await driver.receive(pair)).frame, testFrame(60, pair));
    }
    assert.is(await driver.command(pairsCommand(1)), VIRTIO_NET_OK);
    await driver.send([testFrame(60, 8)], {}, 1);
    assert.equal((await driver.receive(0)).frame, testFrame(60, 8));
  }));

for (const [what, bytes] of [
  ['no pair', pairsCommand(0)],
  ['more pairs than there are', pairsCommand(3)],
  ['an unknown class', Uint8Array.of(77, 0, 1, 0)],
  ['an unknown command', Uint8Array.of(4, 9, 1, 0)],
  ['no number', Uint8Array.of(4, 0)],
  ['too long a number', Uint8Array.of(4, 0, 1, 0, 0)],
] as const)
  test(`a command for ${what} is answered with an error`, () =>
    driven(new LoopbackNet(), { queues: 5, features: MQ }, async ({ driver, errors }) => {
      assert.is(await driver.command(bytes), VIRTIO_NET_ERR);
      assert.equal(errors, []);
    }));

test('without VIRTIO_NET_F_MQ the control queue is the third, and there is one pair', () =>
  driven(new LoopbackNet(), { queues: 5, features: [VIRTIO_NET_F_CTRL_VQ] }, async ({ driver, errors }) => {
    assert.is(await driver.command(pairsCommand(1), 2), VIRTIO_NET_OK);
    assert.is(await driver.command(pairsCommand(2), 2), VIRTIO_NET_ERR);
    driver.queues[3]!.offer([new Uint8Array(80)]);
    driver.queues[3]!.kick();
    await until(() => errors.length > 0, 'an error');
    assert.is(errors[0]!.code, 'ERR_RING_REQUEST');
  }));

test('several pairs need a control queue, and every device needs a pair', async () => {
  await rejects(
    served(new LoopbackNet(), { queues: 4 }, async () => {}),
    'ERR_ARGUMENT',
    /5 queues, not 4/,
  );
  await rejects(
    served(new LoopbackNet(), { queues: 1 }, async () => {}),
    'ERR_ARGUMENT',
  );
});

for (const threads of [1, 2])
  test(`all pairs are in one queue thread, of ${threads}`, () =>
    driven(
      new URL('threaded-loopback.js', import.meta.url),
      { queues: 5, threads, modelOptions: { mac: MAC }, features: [...MQ, VIRTIO_NET_F_MRG_RXBUF] },
      async ({ device, driver, errors }) => {
        assert.is(device.queueThreads.length, 1);
        assert.is(await driver.command(pairsCommand(2)), VIRTIO_NET_OK);
        for (const pair of [0, 1, 0]) {
          driver.give(600, 4, pair);
          await driver.send([testFrame(1500, pair)], {}, pair);
          assert.equal((await driver.receive(pair)).frame, testFrame(1500, pair));
        }
        assert.equal(errors, []);
      },
    ));

// Options.

test('options that make no sense are refused', () => {
  for (const options of [
    { mac: 'no address' },
    { mac: '01:00:00:00:00:00' },
    { mac: '00:00:00:00:00:00' },
    { mtu: 67 },
    { mtu: 65536 },
    { mergeable: 1 },
    { offloads: 'yes' },
    { nothing: 1 },
  ])
    assert.throws(
      () => new LoopbackNet(options as never),
      (error: { code: string }) => error.code === 'ERR_ARGUMENT',
    );
  const { mac } = new LoopbackNet();
  assert.match(mac, /^.[26ae](:[0-9a-f]{2}){5}$/);
});

test('a longer MTU makes longer frames', () =>
  served(new LoopbackNet({ mtu: 9000 }), {}, async ({ bus }) => {
    const net = await openNet('net0', { bus });
    assert.is(net.maxFrameBytes, 9018);
    await net.send(testFrame(9018));
    assert.equal(await net.receive(), [testFrame(9018)]);
    await net.close();
  }));

test('every frame that passes is captured', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-'));
  const path = join(folder, 'net.pcapng');
  try {
    await served(new LoopbackNet({ capture: path }), {}, async ({ bus, model }) => {
      const net = await openNet('net0', { bus });
      await net.send(testFrame(60, 7));
      await net.receive();
      assert.equal(model.capture, { frames: 2, dropped: 0, error: undefined });
      await net.close();
    });
    await until(() => readFileSync(path).includes('LoopbackNet'), 'the file');
    const bytes = readFileSync(path);
    const first = bytes.indexOf(testFrame(60, 7));
    assert.ok(first > 0);
    assert.ok(bytes.indexOf(testFrame(60, 7), first + 1) > 0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('says what it is', () => {
  assert.is(inspect(new LoopbackNet({ mac: MAC })), `LoopbackNet { ${MAC}, MTU 1500, link up }`);
});

test.run();
