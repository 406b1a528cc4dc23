import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ErrorCode, RingbellError } from '../../host/errors.js';
import { rejects } from './block-fixture.js';
import { netScene, type TestNet, testFrame } from './net-fixture.js';

/** Bytes of a receive buffer at an MTU of 1500: header and frame, rounded up to whole lines. */
const BUFFER_BYTES = 1536;

const cases: [string, ErrorCode, (device: TestNet) => void][] = [
  ['a frame given back with bytes written', 'ERR_RING_USED_LENGTH', (device) => back(device, 0, 1)],
  ['a slot that there is not', 'ERR_RING_USED_ID', (device) => back(device, 256, 0)],
  ['a slot number that wraps 32 bits', 'ERR_RING_USED_ID', (device) => back(device, 0xffff_ffff, 0)],
  ['a slot that is not in flight', 'ERR_RING_USED_ID', (device) => back(device, 7, 0)],
  [
    'the same slot twice',
    'ERR_RING_USED_ID',
    (device) => {
      device.transmit.give(0, 0);
      back(device, 0, 0);
    },
  ],
  [
    'a used index ahead of what is in flight',
    'ERR_RING_USED_INDEX',
    (device) => {
      device.transmit.used = 2;
      back(device, 0, 0);
    },
  ],
  [
    'a used index that went back',
    'ERR_RING_USED_INDEX',
    (device) => {
      device.transmit.used = 65534;
      back(device, 0, 0);
    },
  ],
  [
    'a received frame beyond its buffer',
    'ERR_RING_USED_LENGTH',
    (device) => device.deliver(testFrame(60), BUFFER_BYTES + 1),
  ],
  [
    'a receive buffer that the device has had already',
    'ERR_RING_USED_ID',
    (device) => {
      device.receive.give(3, 60);
      device.receive.give(3, 60);
      device.receive.interrupt();
    },
  ],
];

function back(device: TestNet, id: number, bytes: number): void {
  device.transmit.give(id, bytes);
  device.transmit.interrupt();
}

for (const mode of ['notify', 'poll'] as const)
  for (const [name, code, act] of cases)
    test(`${name} breaks the interface, mode ${mode}`, () =>
      netScene(
        async ({ device, net }) => {
          const events: RingbellError[] = [];
          net.on('error', (error) => events.push(error));
          const calls = [net.send([testFrame(60, 1), testFrame(60, 2)].slice(0, 2)), net.receive()];
          await new Promise(setImmediate);
          act(device);
          for (const call of calls) {
            const error = await rejects(call, 'ERR_DEVICE_BROKEN', /the device is broken: queue [01]/);
            assert.is((error.cause as RingbellError).code, code);
          }
          await rejects(net.send(testFrame(60)), 'ERR_DEVICE_BROKEN');
          await rejects(net.receive(), 'ERR_DEVICE_BROKEN');
          assert.equal(
            events.map((event) => event.code),
            [code],
          );
        },
        { hold: true },
        { mode },
      ));

test('a buffer too short for its headers is no frame, and is used again', () =>
  netScene(
    async ({ device, net }) => {
      const received = net.receive();
      for (const claimed of [0, 1, 12, 25]) device.deliver(testFrame(26), claimed);
      device.deliver(testFrame(26));
      const frames = await received;
      assert.equal(frames.map(Buffer.from), [Buffer.from(testFrame(26).subarray(12))]);
      const [receive] = net.stats().queues;
      assert.is(receive!.requests, 5);
      assert.is(receive!.bytesRead, 14);
      assert.is(receive!.inFlight, 256);
    },
    { hold: true },
  ));

test('a frame that fills its buffer to the last byte is taken', () =>
  netScene(async ({ device, net }) => {
    device.deliver(testFrame(BUFFER_BYTES));
    assert.equal((await net.receive()).map(Buffer.from), [Buffer.from(testFrame(BUFFER_BYTES).subarray(12))]);
  }));

test('a device that scribbles over frames, descriptors and the available ring cannot confuse the driver', () =>
  netScene(async ({ device, net }) => {
    device.scribbles = true;
    for (let index = 0; index < 300; index++) {
      await net.send(testFrame(60, index));
      await net.receive();
      // The buffers of the receive queue are there already: what is written over of them is lost to the device alone.
      device.transmit.scribble();
    }
    assert.equal(
      device.arrived.map((frame) => Buffer.from(frame)),
      Array.from({ length: 300 }, (_, index) =>
        Buffer.from([...new Uint8Array(12), ...testFrame(60, index)]),
      ),
    );
  }));

test('a device that asks for a reset breaks the interface', () =>
  netScene(async ({ file, net }) => {
    const received = net.receive();
    await file.needsReset();
    await rejects(received, 'ERR_DEVICE_BROKEN', /net0 needs a reset/);
  }));

test.run();
