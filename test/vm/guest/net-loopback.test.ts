import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type OpenNetOptions, openNet } from '../../../host/drivers/net.js';
import type { NetInterface } from '../../../host/drivers/net-interface.js';
import { within } from '../../bus/fixture.js';
import { addSimulator, bindDriver, hasModule, modprobe, removeDevice, shell, skip } from '../fixture.js';

/** Frames of one round: the simulator drops what the receive queue does not hold. And rounds. */
const ROUND = 64;
const ROUNDS = 20;
/** Milliseconds; longer than an interface waits for frames on their way. Removing a device that is open waits for ever. */
const CLOSE_MS = 15_000;
/** Bytes. */
const HEADER = 14;
const SHORTEST = HEADER + 4;

/** A frame from the interface to itself: only those does the simulator hand back. The payload tells it from all others. */
function ownFrame(net: NetInterface, index: number): Uint8Array {
  const bytes = SHORTEST + ((index * 97) % (net.maxFrameBytes - SHORTEST + 1));
  const frame = Uint8Array.from({ length: bytes }, (_, at) => (at * 31 + index * 101 + (at >> 8)) & 0xff);
  const address = (net.config.mac as string).split(':').map((byte) => Number.parseInt(byte, 16));
  frame.set([...address, ...address, 0x88, 0xb5]);
  new DataView(frame.buffer).setUint32(HEADER, index);
  return frame;
}

/** Sends rounds of frames, receives them, and compares every byte. */
async function loop(net: NetInterface, frameCount: number = ROUND): Promise<void> {
  const arrivals = net[Symbol.asyncIterator]();
  for (let round = 0; round < ROUNDS; round++) {
    const frames = Array.from({ length: frameCount }, (_, index) =>
      ownFrame(net, round * frameCount + index),
    );
    const sent = net.send(frames);
    for (const frame of frames) {
      const { value } = await within(arrivals.next(), 'a frame');
      assert.ok(
        Buffer.compare(value as Uint8Array, frame) === 0,
        `frame ${new DataView(frame.buffer).getUint32(HEADER)}`,
      );
    }
    await within(sent, 'the device to give the frames back');
  }
  const { queues } = net.stats();
  assert.equal(
    queues.map(({ requests }) => requests),
    [frameCount * ROUNDS, frameCount * ROUNDS],
  );
  assert.is(queues[0]!.bytesRead, queues[1]!.bytesWritten);
}

/** Adds a simulator, opens it, plays `act` and takes it down. */
async function scene(
  act: (net: NetInterface) => Promise<void>,
  options: OpenNetOptions = {},
  add = () => addSimulator('net', 'loop0'),
): Promise<void> {
  modprobe('vhost_vdpa');
  add();
  try {
    const net = await within(openNet(await bindDriver('loop0', 'vhost_vdpa'), options), 'opening');
    try {
      await within(act(net), 'the scene', 50_000);
    } finally {
      await within(net.close(), 'closing', CLOSE_MS);
    }
  } finally {
    removeDevice('loop0');
  }
}

if (!hasModule('vdpa_sim_net'))
  skip('frames through the kernel’s simulator', 'this kernel has no vdpa_sim_net');
else {
  for (const options of [{ mode: 'notify' }, { mode: 'poll' }, { eventIdx: false }] as const)
    test(`frames come back as they were sent: ${JSON.stringify(options)}`, () => scene(loop, options));

  test('a queue of four entries is enough', () => scene((net) => loop(net, 4), { queueSize: 4 }));

  test('a longer MTU makes longer frames', () =>
    scene(
      async (net) => {
        assert.is(net.config.mtu, 4000);
        assert.is(net.maxFrameBytes, 4018);
        await loop(net);
      },
      {},
      () => {
        addSimulator('net', 'other');
        removeDevice('other');
        shell('vdpa dev add mgmtdev vdpasim_net name loop0 mac 52:54:00:aa:bb:cc mtu 4000');
      },
    ));

  test('says what the device is, and that no queue has a doorbell page', () =>
    scene(async (net) => {
      const refusals: [number, string][] = [];
      net.on('doorbellRefused', (queue, code) => refusals.push([queue, code]));
      assert.equal(net.config, { mac: '52:54:00:aa:bb:cc', mtu: 1500, linkUp: true });
      await new Promise(setImmediate);
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
}

test.run();
