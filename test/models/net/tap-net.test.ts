/** A network device at a tap interface of this machine's kernel, in a network namespace of its own. */
import { execFile, execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openNet } from '../../../host/drivers/net.js';
import type { NetInterface } from '../../../host/drivers/net-interface.js';
import { TapNet } from '../../../host/models/net/tap-net.js';
import { rejects, until, within } from '../fixture.js';
import { type NetStage, served } from './fixture.js';

const NAMESPACE = `ringbell-${process.pid}`;
const NAME = `rb${process.pid}`;
const HERE = '192.0.2.1';
const THERE = '192.0.2.2';
const MAC = '52:54:00:00:00:02';
/** Bytes of the headers of Ethernet and IPv4. */
const ETHERNET = 14;
const IPV4 = 20;

/** Runs a command, and waits. */
const run = (...words: string[]) =>
  execFileSync(words[0]!, words.slice(1), { stdio: 'pipe', encoding: 'utf8' });
const inside = (...words: string[]) => run('ip', 'netns', 'exec', NAMESPACE, ...words);

/** Why this machine cannot do it; undefined if it can. */
function obstacle(): string | undefined {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    run('ip', 'netns', 'add', NAMESPACE);
    return undefined;
  } catch (error) {
    return (error as Error).message.split('\n', 1)[0];
  }
}

/** The internet checksum of bytes, whose length is even. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** The answer of a host at THERE to a frame: to ARP requests and pings; undefined to others. */
function answer(frame: Uint8Array): Buffer | undefined {
  const asked = Buffer.from(frame);
  const reply = Buffer.from(frame);
  const mac = Buffer.from(MAC.replaceAll(':', ''), 'hex');
  asked.copy(reply, 0, 6, 12);
  mac.copy(reply, 6);
  const type = asked.readUInt16BE(12);
  if (type === 0x0806 && asked.readUInt16BE(20) === 1) {
    reply.writeUInt16BE(2, 20);
    mac.copy(reply, 22);
    asked.copy(reply, 28, 38, 42);
    asked.copy(reply, 32, 22, 32);
    return reply;
  }
  const echo = ETHERNET + IPV4;
  if (type !== 0x0800 || asked[23] !== 1 || asked[echo] !== 8) return undefined;
  asked.copy(reply, 26, 30, 34);
  asked.copy(reply, 30, 26, 30);
  reply[echo] = 0;
  reply.writeUInt16BE(0, echo + 2);
  reply.writeUInt16BE(checksum(reply.subarray(echo)), echo + 2);
  return reply;
}

/** Serves a device at a tap in the namespace, which has an address, to a host that answers. */
async function scene(
  body: (stage: NetStage<TapNet> & { net: NetInterface }) => Promise<void>,
): Promise<void> {
  await served(new TapNet({ name: NAME, mac: MAC }), {}, async (stage) => {
    run('ip', 'link', 'set', NAME, 'netns', NAMESPACE);
    inside('ip', 'addr', 'add', `${HERE}/24`, 'dev', NAME);
    inside('ip', 'link', 'set', NAME, 'up');
    const net = await within(openNet('net0', { bus: stage.bus }), 'openNet');
    const host = (async () => {
      for await (const frame of net) {
        const reply = answer(frame);
        if (reply) await net.send(reply);
      }
    })();
    try {
      await body({ ...stage, net });
    } finally {
      await net.close();
      await host;
    }
  });
}

/** Pings the host, beside the event loop: what ping says. */
const ping = async (...options: string[]) =>
  (
    await promisify(execFile)('ip', [
      ...['netns', 'exec', NAMESPACE, 'ping', '-n', '-W', '20', '-i', '0.2', ...options, THERE],
    ])
  ).stdout;

const hasCarrier = () => !inside('ip', 'link', 'show', NAME).includes('NO-CARRIER');

const why = obstacle();
if (why) {
  test('a tap interface', () => console.log(`skipped: ${why}`));
} else {
  test.after(() => {
    run('ip', 'netns', 'del', NAMESPACE);
  });

  test('a ping goes to the driver, and its answer back', () =>
    scene(async ({ model, errors }) => {
      assert.is(model.name, NAME);
      assert.match(await ping('-c', '5'), / 0% packet loss/);
      assert.match(await ping('-c', '2', '-s', '1472'), / 0% packet loss/);
      assert.ok(model.stats().transmitted >= 7);
      assert.is(model.refused, 0);
      assert.equal(errors, []);
    }));

  test('the interface has a carrier while there is a driver and the link is up', () =>
    served(new TapNet({ name: NAME }), {}, async ({ bus, model }) => {
      run('ip', 'link', 'set', NAME, 'netns', NAMESPACE);
      inside('ip', 'link', 'set', NAME, 'up');
      assert.not.ok(hasCarrier());
      const net = await openNet('net0', { bus });
      await until(hasCarrier, 'a carrier with a driver');
      await model.setLink(false);
      assert.not.ok(hasCarrier());
      await model.setLink(true);
      assert.ok(hasCarrier());
      await net.close();
      await until(() => !hasCarrier(), 'no carrier without a driver');
    }));

  test('frames for an interface that is down are refused, and counted', () =>
    served(new TapNet({ name: NAME }), {}, async ({ bus, model }) => {
      const net = await openNet('net0', { bus });
      await net.send(new Uint8Array(60));
      assert.is(model.refused, 1);
      await net.close();
    }));

  test('an interface that goes takes the link down, and is told of', () =>
    served(new TapNet({ name: NAME }), {}, async ({ bus, errors }) => {
      run('ip', 'link', 'set', NAME, 'up');
      const net = await openNet('net0', { bus });
      run('ip', 'link', 'del', NAME);
      await until(() => errors.length > 0 && !net.config.linkUp, 'the link going down');
      assert.is(errors[0]!.code, 'ERR_MODEL');
      assert.is((errors[0]!.cause as { code: string }).code, 'ERR_TAP');
      await net.close();
    }));

  test('several pairs of queues are several queues of the interface', () =>
    served(new TapNet({ name: NAME }), { queues: 5 }, async () => {
      assert.match(run('ip', '-d', 'link', 'show', NAME), /numtxqueues 256|multi_queue on/);
    }));

  test('an interface that somebody else has is refused, and nothing is left behind', async () => {
    const model = new TapNet({ name: NAME });
    await served(new TapNet({ name: NAME }), {}, async () => {
      await rejects(
        served(model, {}, async () => {}),
        'ERR_TAP',
        /EBUSY: another program/,
      );
    });
    await served(model, {}, async () => assert.is(model.name, NAME));
    assert.is(model.name, undefined);
    assert.throws(() => run('ip', 'link', 'show', NAME));
  });

  test('the kernel names an interface that has no name', () =>
    served(new TapNet(), {}, async ({ model }) => {
      assert.match(model.name!, /^tap\d+$/);
    }));
}

test('names that no interface can have are refused', () => {
  for (const name of ['a name', 'sixteen-bytes-ab', 'a/b', 'tap%d', 7])
    assert.throws(
      () => new TapNet({ name } as never),
      (error: { code: string }) => error.code === 'ERR_ARGUMENT',
    );
});

test.run();
