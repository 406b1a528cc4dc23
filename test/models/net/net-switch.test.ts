/** A switch between network devices, each with a driver. */
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../../host/bus/index.js';
import { openNet } from '../../../host/drivers/net.js';
import type { NetInterface } from '../../../host/drivers/net-interface.js';
import { MacTable, macAt } from '../../../host/models/net/mac-table.js';
import type { NetModel } from '../../../host/models/net/net-model.js';
import { NetSwitch } from '../../../host/models/net/net-switch.js';
import { serve } from '../../../host/serve.js';
import { within } from '../fixture.js';

const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const mac = (port: number) => `02:00:00:00:00:0${port}`;

/** A frame of 60 bytes. */
function frame(to: string, from: string, number = 0): Uint8Array {
  const address = (text: string) => Buffer.from(text.replaceAll(':', ''), 'hex');
  const bytes = Buffer.concat([address(to), address(from), Buffer.from([0x88, 0xb5])], 60);
  bytes[59] = number;
  return new Uint8Array(bytes);
}

interface Scene {
  net: NetSwitch;
  ports: NetModel[];
  drivers: NetInterface[];
}

/** A switch of so many ports, all of them driven. */
async function scene(count: number, body: (scene: Scene) => Promise<void>): Promise<void> {
  const bus = new Bus();
  const net = new NetSwitch();
  const ports = Array.from({ length: count }, (_, index) => net.port({ mac: mac(index) }));
  const devices = await Promise.all(
    ports.map((port, index) => serve(port, { name: `port${index}`, bus, queues: 2 })),
  );
  const drivers = await Promise.all(ports.map((_, index) => openNet(`port${index}`, { bus })));
  try {
    await within(body({ net, ports, drivers }), 'the scene');
  } finally {
    for (const driver of drivers) await driver.close();
    for (const device of devices) await device.close();
    await bus.close();
  }
}

test('a frame goes to all others until its address is known, then to one; never back', () =>
  scene(3, async ({ net, ports, drivers }) => {
    const [a, b, c] = drivers as [NetInterface, NetInterface, NetInterface];
    const received = () => ports.map((port) => port.stats().received);
    const hello = frame(mac(1), mac(0));
    await a.send(hello);
    assert.equal(await b.receive(), [hello]);
    assert.equal(await c.receive(), [hello]);
    assert.equal(received(), [0, 1, 1]);
    const answer = frame(mac(0), mac(1));
    await b.send(answer);
    assert.equal(await a.receive(), [answer]);
    assert.equal(received(), [1, 1, 1]);
    await a.send(hello);
    assert.equal(await b.receive(), [hello]);
    await c.send(frame(BROADCAST, mac(2)));
    assert.equal(received(), [2, 3, 1]);
    await a.send(frame(mac(0), mac(7)));
    assert.equal(received(), [2, 3, 1], 'its address is at the port that it came from');
    assert.equal(net.stats(), { forwarded: 2, flooded: 2, filtered: 1, addresses: 4 });
    assert.is(inspect(net), 'NetSwitch { 3 ports, 4 addresses }');
  }));

test('an address that moves is followed, and that of many is not learned', () =>
  scene(3, async ({ net, drivers }) => {
    const [a, b, c] = drivers as [NetInterface, NetInterface, NetInterface];
    await a.send(frame(BROADCAST, mac(9)));
    await b.send(frame(BROADCAST, mac(9)));
    await c.send(frame(mac(9), mac(2), 5));
    const last = async (driver: NetInterface) => (await driver.receive()).at(-1)![59];
    assert.is(await last(b), 5);
    assert.is(net.stats().forwarded, 1);
    await c.send(frame(mac(9), '03:00:00:00:00:01'));
    assert.is(net.stats().addresses, 2);
  }));

test('a port whose driver takes nothing drops what is for it, and holds up nobody', () =>
  scene(3, async ({ ports, drivers }) => {
    const [a, b] = drivers as [NetInterface, NetInterface, NetInterface];
    // The driver of the third port never receives: its ring is full at 256, and 256 more wait.
    const count = 1000;
    for (let number = 0; number < count; number += 50) {
      await a.send(Array.from({ length: 50 }, () => frame(BROADCAST, mac(0), number)));
      for (let got = 0; got < 50; ) got += (await within(b.receive(), 'frames of the neighbour')).length;
    }
    assert.is(ports[1]!.stats().received, count);
    const { received, noBuffer } = ports[2]!.stats();
    assert.equal([received, noBuffer], [256, count - 512]);
  }));

test('a port that is taken away is no part of it any more', () =>
  scene(2, async ({ net, ports, drivers }) => {
    const [a, b] = drivers as [NetInterface, NetInterface];
    await b.send(frame(BROADCAST, mac(1)));
    await a.receive();
    assert.ok(net.remove(ports[1]!));
    assert.not.ok(net.remove(ports[1]!));
    await a.send(frame(mac(1), mac(0)));
    await b.send(frame(mac(0), mac(1)));
    assert.equal(
      ports.map((port) => port.stats().received),
      [1, 0],
    );
    assert.is(net.stats().addresses, 1);
  }));

test('addresses are forgotten when they have been silent, and the oldest when there are too many', () => {
  const table = new MacTable<string>();
  table.learn(1, 'a', 0);
  assert.is(table.find(1, 300_000), 'a');
  assert.is(table.find(1, 300_001), undefined);
  assert.is(table.size, 0);
  for (let address = 0; address < 4096; address++) table.learn(address, 'a', 0);
  table.learn(0, 'b', 1);
  table.learn(5000, 'c', 1);
  assert.is(table.size, 4096);
  assert.equal([table.find(0, 1), table.find(1, 1), table.find(5000, 1)], ['b', undefined, 'c']);
  assert.is(macAt(Uint8Array.of(0, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa), 1), 0xfffefdfcfbfa);
});

test.run();
