import { readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DrivenDeviceStats } from '../../../host/drivers/driven-device.js';
import { type OpenNetOptions, openNet } from '../../../host/drivers/net.js';
import type { NetInterface } from '../../../host/drivers/net-interface.js';
import { systemError } from '../../../host/errors.js';
import { openKernelVhostVdpa } from '../../../host/vhost-vdpa/kernel-file.js';
import { within } from '../../bus/fixture.js';
import { artefacts, shell } from '../fixture.js';
import type { Evidence } from './evidence.js';
import { arpRequest, bindNic, isArpReply, NIC, textFrame, unbindNic } from './nic.js';
import { SYS_WRITE, SyscallTrace } from './syscall-trace.js';

/** Milliseconds; longer than an interface waits for frames on their way. Removing a device that is open waits for ever. */
const CLOSE_MS = 15_000;
/** Frames that are sent one by one. */
const FRAMES = 100;
/** Frames of a stretch without a turn of the event loop, and how many stretches may be tried. */
const STRETCH_FRAMES = 16;
const STRETCHES = 10;
/** Frames that are received one by one: more than a queue has entries. */
const ASKED = 300;
const RECEIVE = 0;
const TRANSMIT = 1;

/** What the tests on the host compare with QEMU's traces. */
const evidence: Evidence = {
  sent: { PAGES: [], SHARED_PAGE: [], PAST_IOMMU: [] },
  kicks: { PAGES: [0, 0], SHARED_PAGE: [0, 0], PAST_IOMMU: [0, 0] },
};

/** Descriptors of this process that are eventfds. */
function eventfds(): Set<number> {
  return new Set(
    readdirSync('/proc/self/fd')
      .map(Number)
      .filter((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
        } catch {
          return false;
        }
      }),
  );
}

/** Binds a device, opens it, plays `act` and takes it down. The kicks and frames of each go down as evidence. */
async function scene(
  nic: keyof typeof NIC,
  act: (net: NetInterface, refusals: [number, string][], own: Set<number>) => Promise<void>,
  open: (path: string) => [string, OpenNetOptions?] = (path) => [path],
): Promise<void> {
  const path = await bindNic(NIC[nic]);
  try {
    const before = eventfds();
    const net = await within(openNet(...open(path)), 'opening the device');
    const own = new Set([...eventfds()].filter((fd) => !before.has(fd)));
    const refusals: [number, string][] = [];
    net.on('doorbellRefused', (queue, code) => refusals.push([queue, code]));
    try {
      await within(act(net, refusals, own), 'the scene', 40_000);
    } finally {
      await within(net.close(), 'closing the device', CLOSE_MS);
    }
    note(nic, net.stats());
  } finally {
    unbindNic(NIC[nic]);
  }
}

function note(nic: keyof typeof NIC, stats: DrivenDeviceStats): void {
  stats.queues.forEach(({ kicks }, queue) => {
    evidence.kicks[nic][queue]! += kicks;
  });
  writeFileSync(join(artefacts(), 'doorbell.json'), JSON.stringify(evidence));
}

/** Sends a frame whose text nobody else sends, and takes note of it. */
function send(net: NetInterface, nic: keyof typeof NIC, text: string): Promise<void> {
  evidence.sent[nic].push(text);
  return net.send(textFrame(net, text));
}

/** Asks the gateway for its address, `times` times, through the device and back. */
async function askGateway(net: NetInterface, times = 1): Promise<void> {
  const answers = net[Symbol.asyncIterator]();
  for (let asked = 0; asked < times; asked++) {
    await net.send(arpRequest(net));
    let answer: Uint8Array;
    do answer = (await within(answers.next(), "the gateway's answer")).value as Uint8Array;
    while (!isArpReply(answer));
  }
}

test('a store in WASM rings the doorbell of each queue: no eventfd is written', () =>
  scene('PAGES', async (net, refusals, own) => {
    await askGateway(net);
    const before = net.stats().queues[TRANSMIT]!;
    const trace = new SyscallTrace();
    trace.start();
    for (let index = 0; index < FRAMES; index++) await send(net, 'PAGES', `one by one ${index}`);
    const calls = trace.stop();
    trace.close();
    const after = net.stats().queues[TRANSMIT]!;
    assert.equal(
      net.stats().queues.map(({ doorbell }) => doorbell),
      [true, true],
    );
    assert.equal(refusals, []);
    assert.ok(own.size >= 4, 'kick and call of two queues');
    assert.is(after.requests - before.requests, FRAMES);
    assert.is(after.kicks + after.kicksSuppressed - before.kicks - before.kicksSuppressed, FRAMES);
    assert.ok(after.kicks > before.kicks);
    assert.ok(calls.length > 0, 'the event loop ran, and the trace shows it');
    assert.equal(
      calls.filter(({ number, fd }) => number === SYS_WRITE && own.has(fd)),
      [],
    );
  }));

test('a stretch of sends makes no system call at all', () =>
  scene('PAGES', async (net) => {
    const trace = new SyscallTrace();
    let quiet = false;
    for (let stretch = 0; stretch < STRETCHES && !quiet; stretch++) {
      const before = net.stats().queues[TRANSMIT]!;
      globalThis.gc?.();
      const sends: Promise<void>[] = [];
      trace.start();
      for (let index = 0; index < STRETCH_FRAMES; index++) {
        sends.push(send(net, 'PAGES', `stretch ${stretch} ${index}`));
        // The frame goes to the ring, and the kick out, in a microtask: the event loop does not turn.
        await undefined;
      }
      const calls = trace.stop().filter(({ tid }) => tid === process.pid);
      const after = net.stats().queues[TRANSMIT]!;
      await Promise.all(sends);
      assert.ok(after.kicks > before.kicks, 'kicks within the stretch');
      assert.is(after.kicks + after.kicksSuppressed - before.kicks - before.kicksSuppressed, STRETCH_FRAMES);
      // The collector or the compiler may need the kernel: not each time.
      quiet = calls.length === 0;
    }
    trace.close();
    assert.ok(quiet, `no stretch of ${STRETCHES} without a system call`);
  }));

test('every slot of the receive queue is used again', () =>
  scene('PAGES', async (net) => {
    const before = net.stats().queues[RECEIVE]!;
    await askGateway(net, ASKED);
    const after = net.stats().queues[RECEIVE]!;
    assert.ok(ASKED > after.inFlight, 'more than the ring has entries');
    assert.ok(after.requests - before.requests >= ASKED);
    assert.is(after.doorbell, true);
  }));

test('the same through eventfds writes to the eventfd of the queue', () =>
  scene(
    'PAGES',
    async (net, refusals, own) => {
      const trace = new SyscallTrace();
      trace.start();
      for (let index = 0; index < FRAMES; index++) await send(net, 'PAGES', `by eventfd ${index}`);
      const calls = trace.stop();
      trace.close();
      const [, transmit] = net.stats().queues;
      assert.is(transmit!.doorbell, false);
      assert.equal(refusals, [], 'none was wanted');
      const writes = calls.filter(({ number, fd }) => number === SYS_WRITE && own.has(fd));
      assert.is(writes.length, transmit!.kicks, 'the trace would have shown them');
    },
    (path) => [path, { doorbell: false }],
  ));

test('queues without a page of their own fall back to their eventfds, each by itself', () =>
  scene('SHARED_PAGE', async (net, refusals) => {
    await askGateway(net);
    for (let index = 0; index < FRAMES; index++) await send(net, 'SHARED_PAGE', `shared page ${index}`);
    const { queues } = net.stats();
    assert.equal(
      queues.map(({ doorbell, doorbellRefused }) => [doorbell, doorbellRefused]),
      // The first one's area begins a page, which is not all its own; the second one's begins in the middle.
      [
        [false, 'ENOTSUPP'],
        [false, 'EINVAL'],
      ],
    );
    assert.equal(refusals, [
      [RECEIVE, 'ENOTSUPP'],
      [TRANSMIT, 'EINVAL'],
    ]);
    assert.is(queues[TRANSMIT]!.requests, FRAMES + 1);
  }));

test('a device of which one queue has a page rings that, and kicks the other', () =>
  scene(
    'PAGES',
    async (net, refusals) => {
      await askGateway(net);
      for (let index = 0; index < FRAMES; index++) await send(net, 'PAGES', `mixed ${index}`);
      const { queues } = net.stats();
      assert.equal(
        queues.map(({ doorbell, doorbellRefused }) => [doorbell, doorbellRefused]),
        [
          [false, 'EINVAL'],
          [true, undefined],
        ],
      );
      assert.equal(refusals, [[RECEIVE, 'EINVAL']]);
      assert.ok(queues[RECEIVE]!.kicks > 0);
    },
    (path) => [
      'mixed',
      {
        bus: {
          openVhostVdpa: async () => {
            const file = await openKernelVhostVdpa(path);
            const mmap = file.mmap.bind(file);
            file.mmap = async (aperture, linear, request) => {
              if (request.offset === RECEIVE) throw systemError('EINVAL', 'mmap');
              return mmap(aperture, linear, request);
            };
            return file;
          },
        },
      },
    ],
  ));

test('a device that bypasses the IOMMU is refused', async () => {
  const path = await bindNic(NIC.PAST_IOMMU);
  try {
    let error: unknown;
    await within(openNet(path), 'opening the device').catch((caught) => {
      error = caught;
    });
    assert.is((error as { code?: string })?.code, 'ERR_FEATURES', `${error}`);
    assert.match((error as Error).message, /lacks VIRTIO_F_ACCESS_PLATFORM/);
  } finally {
    unbindNic(NIC.PAST_IOMMU);
  }
});

test('none of these devices has reached for memory that it was not given', () => {
  assert.not.match(shell('dmesg'), /DMAR: \[DMA/);
});

test.run();
