/** Network devices of ours as interfaces of the kernel: its own traffic passes through them, from one stack to another. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TapNet, type TapNetOptions } from '../../../host/index.js';
import { within } from '../../bus/fixture.js';
import { run } from '../disk-fixture.js';
import { hasTool, isEmulated, scratch, skip, until } from '../fixture.js';
import { answers, bringUp, errorsOf, HERE, THERE, there, withInterface } from '../net-fixture.js';

const MAC = '52:54:00:00:00:02';
/** Bytes of a transfer whose contents are compared. */
const TRANSFER_BYTES = 2 ** 21;
/** Seconds of traffic of one kind; and milliseconds that it may take, which is what emulation makes of it. */
const SECONDS = 3;
const LIMIT_MS = 120_000;

/** What iperf3 tells of a run, as far as it matters. */
interface IperfReport {
  error?: string;
  end: {
    sum_received: { bytes: number };
    sum: { packets?: number; lost_packets?: number };
  };
}

/** Has iperf3 send from one stack to the other, or back with `-R`: its report. */
async function iperf(options: string): Promise<IperfReport> {
  const server = run(`iperf3 -s -1 -B ${HERE}`, LIMIT_MS);
  // It says nothing when it listens: the client tries again.
  const client = there(`sh -c 'until iperf3 -c ${HERE} -J -t ${SECONDS} ${options}; do sleep 1; done'`);
  const output = await run(client, LIMIT_MS);
  await server;
  return JSON.parse(output.slice(output.lastIndexOf('\n{') + 1));
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Transfers bytes each way by TCP, and compares them: the kernel checks no checksums that were left to do. */
async function transfer(): Promise<void> {
  const bytes = randomBytes(TRANSFER_BYTES);
  const received: Buffer[] = [];
  const server = createServer((socket) => {
    socket.on('data', (part) => received.push(part));
    socket.write(bytes);
  });
  server.listen(0, HERE);
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const file = join(scratch(), 'received');
  try {
    const script = `exec 3<>/dev/tcp/${HERE}/${port}; head -c ${TRANSFER_BYTES} <&3 >${file}; cat ${file} >&3; sha256sum <${file}`;
    const path = join(scratch(), 'transfer.sh');
    writeFileSync(path, script);
    const sum = (await run(there(`bash ${path}`), LIMIT_MS)).split(' ')[0];
    assert.is(sum, sha256(bytes));
    await within(untilReceived(received), 'all bytes', LIMIT_MS);
    assert.is(sha256(Buffer.concat(received)), sha256(bytes));
  } finally {
    server.close();
  }
}

async function untilReceived(parts: readonly Buffer[]): Promise<void> {
  while (parts.reduce((sum, part) => sum + part.length, 0) < TRANSFER_BYTES)
    await new Promise((resolve) => setTimeout(resolve, 20));
}

const VARIANTS: (TapNetOptions & { packed?: boolean })[] = [
  {},
  { offloads: false, mergeable: false, packed: true },
];

if (!hasTool('iperf3') || !hasTool('ping'))
  skip('traffic through network devices', 'missing: apt-get install iperf3 iputils-ping');
else if (isEmulated())
  skip('traffic through network devices', 'an emulated processor stalls for longer than its limits allow');
else
  for (const { packed = false, ...options } of VARIANTS)
    test(`pings and iperf3 traffic pass through a tap without an error: ${inspect({ ...options, packed })}`, async () => {
      const model = new TapNet({ name: 'tap0', mac: MAC, ...options });
      await withInterface(model, { packed }, async ({ device, name, errors }) => {
        await bringUp('tap0', HERE);
        await bringUp(name, THERE, there);
        await until('a first ping', () => answers(THERE), LIMIT_MS);
        await run(`ping -n -c 5 -i 0.2 -W 20 ${THERE}`);
        await run(there(`ping -n -c 5 -i 0.2 -W 20 -s 1472 ${HERE}`));
        await transfer();
        for (const direction of ['', '-R']) {
          const { error, end } = await iperf(direction);
          assert.is(error, undefined);
          assert.ok(end.sum_received.bytes > 100_000, `${end.sum_received.bytes} bytes by TCP`);
        }
        const { packets = 0, lost_packets = 0 } = (await iperf('-u -b 2M')).end.sum;
        // Networks lose packets, and iperf3 stops with some on their way: most of them come.
        assert.ok(packets - lost_packets > 100, `${lost_packets} of ${packets} packets lost`);
        assert.equal(await errorsOf('tap0'), []);
        assert.equal(await errorsOf(name, there), []);
        const { transmitted, received, ...dropped } = model.stats();
        assert.ok(transmitted > 500 && received > 500, inspect(model.stats()));
        assert.equal(
          Object.entries(dropped).filter(([, frames]) => frames > 0),
          [],
        );
        assert.is(model.refused, 0);
        assert.equal(errors, []);
        const has = (feature: string) => device.features.includes(feature);
        assert.is(has('VIRTIO_NET_F_HOST_TSO4'), options.offloads !== false);
        assert.is(has('VIRTIO_NET_F_MRG_RXBUF'), options.mergeable !== false);
      });
    });

test.run();
