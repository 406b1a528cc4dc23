import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import type { DrivenConsole } from '../../host/drivers/driven-console.js';
import type { OpenOptions } from '../../host/drivers/open-driven.js';
import type { RingbellError } from '../../host/errors.js';
import { ConsoleDevice, type ConsoleDeviceOptions } from '../../host/models/console/console-device.js';
import { openConsole } from '../../host/open-console.js';
import { serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import { encodeMessage } from '../../host/uapi/console-message.js';
import { VIRTIO_CONSOLE_DEVICE_READY, VIRTIO_CONSOLE_PORT_READY } from '../../host/uapi/virtio.js';
import { pattern, rejects } from '../drivers/block-fixture.js';
import { until, within } from './fixture.js';
import { DATA, IOVA, RawDriver } from './raw-driver.js';

interface Scene {
  bus: Bus;
  model: ConsoleDevice;
  device: ServedDevice;
  driven: DrivenConsole;
  errors: RingbellError[];
}

/** Serves a console, opens it, and leaves nothing behind. */
async function scene(
  options: ConsoleDeviceOptions,
  body: (scene: Scene) => Promise<void>,
  open: OpenOptions = {},
): Promise<void> {
  const bus = new Bus();
  const model = new ConsoleDevice(options);
  const device = await within(serve(model, { name: 'con0', bus }), 'serve');
  const errors: RingbellError[] = [];
  device.on('error', (error) => errors.push(error));
  try {
    const driven = await within(openConsole('con0', { bus, ...open }), 'openConsole');
    try {
      await within(body({ bus, model, device, driven, errors }), 'the scene');
    } finally {
      await within(driven.close(), 'closing the console');
    }
  } finally {
    await within(device.close(), 'closing the device');
    await within(bus.close(), 'closing the bus');
  }
}

/** The next `bytes` bytes of a stream. */
async function take(stream: Duplex, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let taken = 0; taken < bytes; ) {
    const chunk = stream.read() as Buffer | null;
    if (!chunk) {
      await once(stream, 'readable');
      continue;
    }
    chunks.push(chunk);
    taken += chunk.length;
  }
  return Buffer.concat(chunks);
}

const THREE: ConsoleDeviceOptions = {
  ports: [{ console: true, name: 'tty' }, { name: 'org.example.agent' }, {}],
  size: { cols: 80, rows: 25 },
};

for (const packed of [false, true])
  for (const bounce of [false, true])
    for (const options of [{}, THREE])
      test(`bytes pass in both directions: packed ${packed}, bounce ${bounce}, ${options.ports?.length ?? 1} port(s)`, () =>
        scene(
          options,
          async ({ model, driven, device, errors }) => {
            for (const { id } of model.ports) {
              const [ours, theirs] = [model.port(id), await driven.port(id)];
              const out = pattern(50_000, id + 1);
              const back = pattern(70_001, id + 9);
              theirs.write(out);
              ours.write(back);
              assert.is(Buffer.compare(await take(ours, out.length), out), 0);
              assert.is(Buffer.compare(await take(theirs, back.length), back), 0);
            }
            const ports = model.ports.length;
            const { bytesRead, bytesWritten } = device.stats();
            assert.equal([bytesRead, bytesWritten], [70_001 * ports, 50_000 * ports]);
            assert.equal(errors, []);
          },
          { packed, bounce, queueSize: 8, mode: packed ? 'notify' : 'poll' },
        ));

test('the driver is told of ports, names, terminals and their size', () =>
  scene(THREE, async ({ model, driven }) => {
    const agent = await driven.port('org.example.agent');
    assert.is(agent.id, 1);
    const last = await driven.port(2);
    await until(() => [...driven.ports.values()].every((port) => port.hostConnected), 'open ports');
    await until(() => model.ports.every((port) => port.driverConnected), 'open ports');
    const tty = await driven.port();
    assert.equal([tty.name, tty.isConsole, tty.size], ['tty', true, { cols: 80, rows: 25 }]);
    assert.equal([agent.isConsole, agent.size, last.name], [false, undefined, undefined]);
    assert.equal(driven.config, { size: { cols: 80, rows: 25 }, maxPorts: 3 });
    assert.ok(driven.features.includes('VIRTIO_CONSOLE_F_MULTIPORT'));
    const resized = once(tty, 'resize');
    await model.resize({ cols: 132, rows: 43 });
    assert.equal(await resized, [{ cols: 132, rows: 43 }]);
    await until(() => driven.config.size?.cols === 132, 'the config space');
  }));

test('a console of one port has a size by its config space', () =>
  scene({ size: { cols: 1, rows: 2 } }, async ({ model, driven }) => {
    const port = await driven.port();
    assert.equal([port.size, port.isConsole, port.hostConnected], [{ cols: 1, rows: 2 }, true, true]);
    const resized = once(port, 'resize');
    await model.resize({ cols: 3, rows: 4 });
    assert.equal(await resized, [{ cols: 3, rows: 4 }]);
    const stranger = new AbortController();
    const waiting = driven.port('nobody', { signal: stranger.signal });
    stranger.abort();
    await rejects(waiting, 'ABORT_ERR');
  }));

test('who does not read holds up who writes, and nothing is lost', () =>
  scene(
    {},
    async ({ model, driven }) => {
      const [ours, theirs] = [model.port(), await driven.port()];
      const bytes = pattern(2 ** 20);
      for (const [from, to] of [
        [ours, theirs],
        [theirs, ours],
      ] as const) {
        let written = false;
        from.write(bytes, () => {
          written = true;
        });
        // The first look reads ahead as far as a stream does.
        to.read(0);
        await new Promise((resolve) => setTimeout(resolve, 50));
        assert.not.ok(written, 'the other side has no room for all of it');
        assert.is(Buffer.compare(await take(to, bytes.length), bytes), 0);
        await until(() => written, 'the write');
      }
    },
    { queueSize: 8 },
  ));

test('a port echoes by pipeline, and lives on from driver to driver', () =>
  scene({ ports: [{}] }, async ({ bus, model, driven }) => {
    const port = model.port();
    const connections: boolean[] = [];
    port.on('connection', (connected) => connections.push(connected));
    const echo = pipeline(port, port).catch((error) => error.code);
    const first = await driven.port();
    first.write('one');
    assert.is(String(await take(first, 3)), 'one');
    await driven.close();
    await until(() => connections.length === 2, 'the driver to be gone');
    const again = await openConsole('con0', { bus });
    const second = await again.port();
    second.write('two');
    assert.is(String(await take(second, 3)), 'two');
    await again.close();
    assert.equal(connections.slice(0, 3), [true, false, true]);
    model.port().destroy();
    await echo;
  }));

test('what is written while no driver is there waits for one', () =>
  scene({ ports: [{}] }, async ({ bus, model, driven }) => {
    await driven.close();
    await until(() => !model.port().driverConnected, 'the driver to be gone');
    model.port().write('patience');
    const again = await openConsole('con0', { bus });
    assert.is(String(await take(await again.port(), 8)), 'patience');
    await again.close();
  }));

test('ending a port tells the other side', () =>
  scene({ ports: [{}, {}] }, async ({ model, driven }) => {
    const [first, second] = [await driven.port(0), await driven.port(1)];
    await until(() => model.ports.every((port) => port.driverConnected), 'open ports');
    await until(() => second.hostConnected, 'an open port');
    first.end('bye');
    await until(() => !model.port(0).driverConnected, 'the closing');
    assert.is(String(await take(model.port(0), 3)), 'bye');
    model.port(1).end();
    await until(() => !second.hostConnected, 'the closing');
    second.destroy();
    await until(() => !model.port(1).driverConnected, 'the closing');
    const anew = await driven.port(1);
    assert.is.not(anew, second);
    await until(() => model.port(1).driverConnected, 'the opening');
  }));

test('ports end when their console, or device, is closed', async () => {
  const bus = new Bus();
  const model = new ConsoleDevice();
  const device = await serve(model, { name: 'con0', bus });
  const driven = await openConsole('con0', { bus });
  const [ours, theirs] = [model.port(), await driven.port()];
  const ends = [once(ours.resume(), 'end'), once(theirs.resume(), 'end')];
  theirs.write('last words');
  await within(driven.close(), 'closing the console');
  await within(device.close(), 'closing the device');
  await within(Promise.all(ends), 'the ends');
  await rejects(driven.port(), 'ERR_CLOSED');
  assert.is.not(model.port(), ours, 'another for the next time');
  const next = await serve(model, { name: 'con0', bus });
  await next.close();
  await bus.close();
});

/** Drives the first queue of a console by hand. */
async function drive(
  options: ConsoleDeviceOptions,
  body: (driver: RawDriver, errors: string[], model: ConsoleDevice) => Promise<void>,
) {
  const bus = new Bus();
  const model = new ConsoleDevice(options);
  const device = await serve(model, { name: 'disk0', bus });
  const errors: string[] = [];
  device.on('error', ({ code }) => errors.push(code));
  const driver = await RawDriver.open(bus);
  await driver.start();
  await body(driver, errors, model);
  await driver.close();
  await device.close();
  await bus.close();
}

test('a receive buffer with bytes to read is refused', () =>
  drive({}, async (driver, errors) => {
    driver.describe([{ addr: IOVA + BigInt(DATA), len: 16 }]);
    driver.offer(0);
    await until(() => errors.length > 0, 'an error');
    assert.equal(errors, ['ERR_RING_REQUEST']);
  }));

test('messages that are none, strange, or said again leave the device as it is', async () => {
  const model = new ConsoleDevice({ ports: [{ name: 'a' }] });
  const sent: number[] = [];
  // Chains of a control queue, without a ring.
  const chain = (bytes: Uint8Array, writable = 0) => ({
    readableBytes: bytes.length,
    writableBytes: writable,
    read: () => bytes,
    write: (_: number, message: Uint8Array) => sent.push(message[4] as number),
    complete: () => true,
    refuse: () => sent.push(-1),
  });
  const queue = (index: number) => ({ index }) as never;
  model.negotiated({ features: 2n, negotiated: () => true, signal: new AbortController().signal });
  model.handle(Array.from({ length: 20 }, () => chain(new Uint8Array(0), 64)) as never, queue(2));
  const say = (id: number, event: number, value = 1) =>
    model.handle([chain(encodeMessage({ id, event, value }))] as never, queue(3));
  for (let i = 0; i < 5; i++) say(0, VIRTIO_CONSOLE_DEVICE_READY);
  for (let i = 0; i < 5; i++) say(0, VIRTIO_CONSOLE_PORT_READY);
  say(1, VIRTIO_CONSOLE_PORT_READY);
  say(0xffff_ffff, 6);
  say(0, 99);
  // PORT_ADD, PORT_NAME, PORT_OPEN: once each.
  assert.equal(sent, [1, 7, 6]);
  model.handle([chain(new Uint8Array(7))] as never, queue(3));
  assert.equal(sent.splice(3), [-1], 'too short to be a message');
  model.handle([chain(new Uint8Array(0), 7)] as never, queue(2));
  model.handle([chain(new Uint8Array(1), 1)] as never, queue(1));
  assert.equal(sent, [1, 7, 6, -1], 'nothing can be written to what is sent');
  model.reset();
});

test('a transport that takes no consoles says so', async () => {
  const bus = new Bus({ deviceIds: 'kernel' });
  const refusal = serve(new ConsoleDevice(), { name: 'con0', bus });
  await rejects(refusal, 'ERR_CONTROL_PLANE', /VDUSE refuses device id 3; Linux takes disks, network/);
  await bus.close();
});

test('refuses options that make no sense', async () => {
  for (const [options, message] of [
    [{ ports: [] }, /ports must be 1 to 31/],
    [{ ports: Array(32).fill({}) }, /ports must be 1 to 31/],
    [{ ports: [{ name: 'x'.repeat(257) }] }, /at most 256 bytes/],
    [{ ports: [{ console: 1 }] }, /console of a port must be true or false/],
    [{ ports: [{ id: 1 }] }, /no option 'id'/],
    [{ size: { cols: 80 } }, /rows must be an integer from 1 to 65535/],
    [{ size: { cols: 0, rows: 1 } }, /cols must be/],
  ] as const)
    assert.throws(() => new ConsoleDevice(options as unknown as ConsoleDeviceOptions), message);
  const model = new ConsoleDevice();
  assert.throws(() => model.port(1), /no port 1/);
  await rejects(model.resize({ cols: 1, rows: 1 }), 'ERR_ARGUMENT', /without a size/);
});

test.run();
