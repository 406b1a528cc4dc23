import { once } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import type { DrivenConsole } from '../../host/drivers/driven-console.js';
import type { Chain } from '../../host/models/chain.js';
import { DeviceModel } from '../../host/models/device-model.js';
import type { ModelQueue } from '../../host/models/model-queue.js';
import { openConsole } from '../../host/open-console.js';
import { serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import {
  CONTROL_RECEIVEQ,
  CONTROL_TRANSMITQ,
  type ConsoleMessage,
  decodeMessage,
  encodeMessage,
  encodeSize,
} from '../../host/uapi/console-message.js';
import * as virtio from '../../host/uapi/virtio.js';
import { until, within } from '../waiting.js';
import { rejects } from './block-fixture.js';

/** A console of two ports that says what a test has it say, true or not. */
class Liar extends DeviceModel {
  override readonly manifest = {
    deviceId: virtio.VIRTIO_ID_CONSOLE,
    features: [virtio.VIRTIO_CONSOLE_F_MULTIPORT],
    queues: 6,
  };
  ports = 2;
  /** Messages of the driver, and buffers for those to it. */
  readonly heard: [id: number, event: number, value: number][] = [];
  readonly buffers: Chain[] = [];
  /** Chains of all other queues, by queue. */
  readonly chains: Chain[][] = [[], [], [], [], [], []];

  override config() {
    return virtio.virtioConsoleConfig.encode({ max_nr_ports: this.ports });
  }

  override handle(chains: readonly Chain[], queue: ModelQueue) {
    if (queue.index === CONTROL_RECEIVEQ) this.buffers.push(...chains);
    else if (queue.index !== CONTROL_TRANSMITQ) this.chains[queue.index]?.push(...chains);
    else
      for (const chain of chains) {
        const { id, event, value } = decodeMessage(chain.read(0, chain.readableBytes))!;
        this.heard.push([id, event, value]);
        chain.complete();
      }
  }

  say(message: ConsoleMessage): void {
    this.sayBytes(encodeMessage(message));
  }

  sayBytes(bytes: Uint8Array): void {
    const chain = this.buffers.shift() as Chain;
    chain.write(0, bytes);
    chain.complete(bytes.length);
  }

  override reset() {
    for (const chain of [...this.buffers.splice(0), ...this.chains.flatMap((list) => list.splice(0))])
      chain.complete();
  }
}

async function scene(
  body: (model: Liar, driven: DrivenConsole, device: ServedDevice) => Promise<void>,
): Promise<void> {
  const bus = new Bus();
  const model = new Liar();
  const device = await serve(model, { name: 'con0', bus });
  const driven = await within(openConsole('con0', { bus, queueSize: 8 }), 'openConsole');
  try {
    await until(() => model.heard.length > 0 && model.buffers.length === 8, 'the driver to be ready');
    await within(body(model, driven, device), 'the scene');
  } finally {
    for (const chain of model.chains.flatMap((list) => list.splice(0))) chain.complete();
    await within(driven.close(), 'closing the console');
    await device.close();
    await bus.close();
  }
}

const add = (id: number) => ({ id, event: virtio.VIRTIO_CONSOLE_PORT_ADD, value: 1 });

test('answers what it is told, once, and lets strange messages be', () =>
  scene(async (model, driven) => {
    assert.equal(model.heard.splice(0), [[0, virtio.VIRTIO_CONSOLE_DEVICE_READY, 1]]);
    for (const id of [2, 0xffff_ffff, 1, 1]) model.say(add(id));
    model.sayBytes(new Uint8Array(7));
    model.say({ id: 7, event: virtio.VIRTIO_CONSOLE_PORT_REMOVE, value: 0 });
    model.say({ id: 1, event: 0x7777, value: 1 });
    await until(() => model.buffers.length >= 1, 'buffers that are given again');
    model.say({ id: 1, event: virtio.VIRTIO_CONSOLE_PORT_NAME, value: 1, rest: Buffer.from('tty\0') });
    const port = await driven.port('tty');
    assert.equal([...driven.ports.keys()], [1]);
    assert.equal(model.heard, [
      [1, virtio.VIRTIO_CONSOLE_PORT_READY, 1],
      [1, virtio.VIRTIO_CONSOLE_PORT_OPEN, 1],
    ]);
    assert.is(port, await driven.port(1));
    model.say({ id: 1, event: virtio.VIRTIO_CONSOLE_RESIZE, value: 0, rest: Uint8Array.of(1, 0, 2) });
    model.say({
      id: 1,
      event: virtio.VIRTIO_CONSOLE_RESIZE,
      value: 0,
      rest: encodeSize({ cols: 300, rows: 2 }),
    });
    assert.equal(await once(port, 'resize'), [{ cols: 300, rows: 2 }]);
  }));

test('a port that is removed is destroyed, and may come back', () =>
  scene(async (model, driven) => {
    model.say(add(0));
    const port = await driven.port(0);
    model.say({ id: 0, event: virtio.VIRTIO_CONSOLE_PORT_REMOVE, value: 1 });
    await once(port, 'close');
    assert.is(driven.ports.size, 0);
    const back = driven.port(0);
    model.say(add(0));
    assert.is.not(await back, port);
  }));

test('a device that needs a reset breaks the console, its ports and those who wait', () =>
  scene(async (model, driven, device) => {
    model.say(add(0));
    const port = await driven.port(0);
    const failure = once(port.resume(), 'error');
    const waiting = driven.port('nobody');
    device.on('error', () => {});
    model.buffers.shift()?.refuse();
    const [error] = await failure;
    assert.is(error.code, 'ERR_DEVICE_BROKEN');
    await rejects(waiting, 'ERR_DEVICE_BROKEN');
    await rejects(driven.port('nobody'), 'ERR_DEVICE_BROKEN');
  }));

test('queues that are reset lose nothing that was written, and go on', () =>
  scene(async (model, driven) => {
    model.say(add(0));
    const port = await driven.port(0);
    const written = new Promise<void>((resolve) => port.write('hello', () => resolve()));
    await until(() => model.chains[1]!.length === 1, 'what was written');
    await driven.resetQueue(1, { queueSize: 4 });
    await until(() => model.chains[1]!.length === 2, 'what was written, again');
    for (const chain of model.chains[1]!.splice(0)) {
      assert.is(String(Buffer.from(chain.read(0, 5))), 'hello');
      chain.complete();
    }
    await written;
    await driven.resetQueue(0);
    await until(() => model.chains[0]!.length === 16, 'room, again');
    for (const chain of model.chains[0]!.splice(0)) {
      if (!chain.stale) chain.write(0, Buffer.from('x'));
      chain.complete(1);
    }
    let text = '';
    for await (const chunk of port) {
      text += chunk;
      if (text.length === 8) break;
    }
    assert.is(text, 'xxxxxxxx');
  }));

test('a config space without a port is refused', async () => {
  const bus = new Bus();
  const model = Object.assign(new Liar(), { ports: 0 });
  const device = await serve(model, { name: 'con0', bus });
  await rejects(openConsole('con0', { bus }), 'ERR_NOT_SUPPORTED', /0 of them/);
  model.ports = 0xffff_ffff;
  await model.configChanged();
  const driven = await openConsole('con0', { bus });
  assert.is(driven.config.maxPorts, 2, 'no more than there are queues for');
  await driven.close();
  await device.close();
  await bus.close();
});

test.run();
