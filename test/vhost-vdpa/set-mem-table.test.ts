/** A memory table set as a whole, on both kinds of parent: what it costs, what it leaves alone, and what faults leave of it. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../../assembly/virtio.js';
import type { FaultOptions } from '../../host/bus/index.js';
import { RingbellError } from '../../host/errors.js';
import { VDUSE_UPDATE_IOTLB } from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { MemoryRegion } from '../../host/vhost-vdpa/memory-table.js';
import { REFUSED } from '../bus/fixture.js';
import { BASE, PAGE, region, stretchesOf, type TableScene, tableScene, type Way } from './table-scene.js';

const WAYS: readonly Way[] = ['set_map', 'dma_map', 'vhost_mdev'];
const WITH_MESSAGES: readonly Way[] = ['set_map', 'dma_map'];
/** Faults that a change can meet one after the other before a test gives up: more than any change has messages. */
const FAULTS_MAXIMUM = 64;
/** Regions of a large guest's table. */
const REGIONS = 256;

const MSG_V2 = 1n << BigInt(vhost.VHOST_BACKEND_F_IOTLB_MSG_V2);

const each = (
  name: string,
  act: (scene: TableScene, way: Way) => Promise<void>,
  { ways = WAYS, backendFeatures }: { ways?: readonly Way[]; backendFeatures?: bigint } = {},
) => {
  for (const way of ways)
    test(`${way}: ${name}`, () => tableScene(way, (scene) => act(scene, way), backendFeatures));
};

/** The code of what a call rejects with; undefined if it does not. */
async function codeOf(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    assert.instance(error, RingbellError, `${error}`);
    return (error as RingbellError).code;
  }
}

/** Messages that begin and end a batch. A container knows none. */
const markers = (way: Way) => (way === 'vhost_mdev' ? 0 : 2);

const start = ({ device }: TableScene) => device.addStatus(VIRTIO_CONFIG_S_DRIVER_OK);

/** Asserts what the device sees, and that the driver thinks the same. */
async function sees({ device, side }: TableScene, regions: readonly MemoryRegion[], what?: string) {
  assert.equal(await side.stretches(), stretchesOf(regions), what);
  assert.equal(stretchesOf(device.iotlb.mapped), stretchesOf(regions), what);
}

each(
  `of ${REGIONS} regions 4 changed: 8 messages and the markers of a batch, where everything anew is 257`,
  async (scene, way) => {
    const { device, side } = scene;
    const table = Array.from({ length: REGIONS }, (_, index) => region(2 * index, 1));
    const first = await device.setMemTable(table);
    assert.equal(first, {
      messages: REGIONS + markers(way),
      updates: REGIONS,
      invalidations: 0,
      confirmed: true,
    });
    const next = table.map((each, index) => (index % 64 === 7 ? region(2 * index, 1, 1) : each));
    const before = side.programmings;
    const change = await device.setMemTable(next);
    assert.equal(change, { messages: 8 + markers(way), updates: 4, invalidations: 4, confirmed: true });
    assert.is(side.programmings - before, way === 'set_map' ? 2 : 8);
    await sees(scene, next);
    assert.is((await device.setMemTable(next)).messages, 0, 'the same again is free');
    assert.is((await device.setMemTable([])).messages, 1, 'and one message takes it all');
    await sees(scene, []);
  },
);

each('regions that are split, merged or moved between neighbours cost nothing', async (scene) => {
  const { device, side } = scene;
  await device.setMemTable([region(0, 8), region(8, 8)]);
  const before = side.programmings;
  for (const table of [
    [region(0, 16)],
    [region(0, 3), region(3, 13)],
    [region(0, 8), region(8, 4), region(12, 4)],
  ]) {
    assert.is((await device.setMemTable(table)).messages, 0);
    await sees(scene, table);
  }
  assert.is(side.programmings, before);
});

each('what stays is seen all the time, at each message that the device gets', async (scene) => {
  const { device, side } = scene;
  const staying = [region(2, 2), region(20, 4)];
  await device.setMemTable([region(0, 2), ...staying, region(30, 4)]);
  await start(scene);
  const { answer } = side.responder;
  const missing: string[] = [];
  side.responder.answer = async (request) => {
    if (request.type === VDUSE_UPDATE_IOTLB) {
      const seen = await side.stretches();
      for (const { start: first, last } of stretchesOf(staying))
        if (!seen.some((stretch) => stretch.start <= first && last <= stretch.last)) missing.push(`${first}`);
    }
    return answer(request);
  };
  const next = [region(0, 2, 1), ...staying, region(24, 3), region(50, 1)];
  const before = side.programmings;
  await device.setMemTable(next);
  assert.ok(side.programmings > before);
  assert.equal(missing, []);
  side.responder.answer = answer;
  await sees(scene, next);
});

each('a mapping is not cut under a running device, unless it may be', async (scene, way) => {
  const { device, side } = scene;
  const table = [region(0, 8), region(8, 8)];
  await device.setMemTable(table);
  await start(scene);
  const before = side.programmings;
  assert.is(await codeOf(device.setMemTable([region(0, 4), region(8, 8)])), 'ERR_MEMORY_IN_USE');
  assert.is(side.programmings, before);
  await sees(scene, table);

  const seen: number[] = [];
  const { answer } = side.responder;
  side.responder.answer = async (request) => {
    seen.push(await side.stretches().then((stretches) => stretches.length));
    return answer(request);
  };
  const change = await device.setMemTable([region(0, 4), region(8, 8)], { mayCut: true });
  assert.equal(change, {
    messages: 2 + markers(way),
    updates: 1,
    invalidations: 1,
    confirmed: way === 'vhost_mdev',
  });
  // A batch changes a whole table at once; mappings one by one leave a moment in which the part is gone.
  assert.equal(seen, way === 'set_map' ? [2] : [1, 2]);
  await device.reset();
  assert.is(
    (await device.setMemTable([region(0, 2), region(8, 8)])).invalidations,
    1,
    'a stopped one has no say',
  );
});

each(
  'the device confirms what ends with new memory, and the next update confirms the rest',
  async ({ device }) => {
    assert.is((await device.setMemTable([region(0, 1), region(2, 1)])).confirmed, true);
    assert.is((await device.setMemTable([region(0, 1)])).confirmed, false);
    assert.is((await device.setMemTable([region(0, 1)])).confirmed, false);
    assert.is((await device.setMemTable([region(0, 1), region(4, 1)])).confirmed, true);
  },
);

each(
  'without batches and messages of version 2 the same comes of it',
  async (scene) => {
    const { device } = scene;
    assert.is(device.backendFeatures, 0n);
    await device.setMemTable([region(0, 4), region(4, 4), region(10, 1), region(12, 1)]);
    const next = [region(0, 4), region(4, 2), region(10, 1, 1), region(20, 3), region(30, 3)];
    assert.is((await device.setMemTable(next)).messages, 5);
    await sees(scene, next);
    assert.is(await codeOf(device.setMemTable(next, { asid: 1 })), 'ERR_NOT_SUPPORTED');
  },
  { ways: WITH_MESSAGES, backendFeatures: 0n },
);

each(
  'a kernel that does not offer batches knows no markers',
  async ({ device }) => {
    assert.is(device.backendFeatures, MSG_V2);
    const iotlb = { iova: 0n, size: 0n, uaddr: 0n, perm: 0, type: vhost.VHOST_IOTLB_BATCH_BEGIN };
    const begin = vhost.vhostMsgV2.encode({ type: vhost.VHOST_IOTLB_MSG_V2, iotlb });
    try {
      await device.file.write(begin);
      assert.unreachable();
    } catch (error) {
      assert.is((error as { code?: string }).code, 'EFAULT');
    }
    assert.is((await device.setMemTable([region(0, 1), region(2, 1), region(4, 1)])).messages, 3);
  },
  { ways: WITH_MESSAGES, backendFeatures: MSG_V2 },
);

each(
  'a table that the device could never be given is refused before anything is sent',
  async ({ device }) => {
    for (const regions of [
      [region(0, 2), region(1, 2)],
      [{ ...region(0, 1), iova: BASE + 1n }],
      [{ ...region(0, 1), bytes: 0n }],
      [{ ...region(0, 1), iova: 2n ** 64n - BigInt(PAGE), bytes: BigInt(2 * PAGE) }],
    ])
      assert.is(await codeOf(device.setMemTable(regions)), 'ERR_ARGUMENT');
    assert.equal(device.iotlb.mapped, []);
  },
);

/** Changes of a table with one message at least of each kind that there is. */
const CHANGES: readonly { name: string; from: MemoryRegion[]; to: MemoryRegion[] }[] = [
  {
    name: 'regions that come',
    from: [region(0, 2)],
    to: [region(0, 2), region(4, 1), region(6, 1), region(8, 1), region(10, 1)],
  },
  {
    name: 'regions that change',
    from: [region(0, 2), region(2, 2), region(4, 2), region(6, 2)],
    to: [region(0, 2), region(2, 2, 1), region(4, 2), region(6, 2, 1)],
  },
  {
    name: 'some of everything, and a cut',
    from: [region(0, 8), region(10, 2), region(14, 2), region(20, 4)],
    to: [region(0, 4), region(10, 2, 1), region(20, 4), region(30, 2), region(40, 2)],
  },
  {
    name: 'regions that come at IOVA 0',
    from: [{ ...region(5, 2), iova: 5n * BigInt(PAGE) }, region(10, 2)],
    to: [
      { ...region(0, 2), iova: 0n },
      { ...region(5, 2), iova: 5n * BigInt(PAGE) },
      region(10, 2),
      region(20, 2),
    ],
  },
  {
    name: 'one region more at IOVA 0',
    from: [region(10, 2), region(20, 2)],
    to: [{ ...region(0, 2), iova: 0n }, region(10, 2), region(20, 2)],
  },
  {
    name: 'regions that go',
    from: [region(0, 2), region(4, 2), region(8, 2), region(12, 2)],
    to: [region(4, 2)],
  },
];

/** An update that is not part of any table above: after it a parent with set_map has the kernel's whole table. */
const PROBE = region(100, 1);

for (const { name, from, to } of CHANGES)
  for (const point of ['write', 'message'] as const)
    each(
      `${name}, with each ${point} refused in turn: the old table or the new one, and the driver knows`,
      async (scene, way) => {
        const { bus, device } = scene;
        // What is written to a vhost-mdev device are ioctls of its container.
        const call = way === 'vhost_mdev' ? 'ioctl' : 'write';
        let skip = 0;
        for (; skip < FAULTS_MAXIMUM; skip++) {
          await device.setMemTable([]);
          await device.setMemTable(from);
          const options: FaultOptions =
            point === 'write'
              ? { point: call, skip, errno: 'EFAULT' }
              : { point, skip, errno: 'EIO', request: VDUSE_UPDATE_IOTLB };
          const fault = bus.faults.inject(options);
          const code = await codeOf(device.setMemTable(to));
          const { hits } = fault;
          fault.remove();
          const known = code ? from : to;
          assert.equal(stretchesOf(device.iotlb.mapped), stretchesOf(known), `fault ${skip}: ${code}`);
          await device.map([PROBE]);
          await sees(scene, [...known, PROBE], `fault ${skip}: ${code}`);
          await device.unmap(PROBE);
          if (!hits) break;
        }
        assert.ok(skip > 0 && skip < FAULTS_MAXIMUM, `${skip} faults`);
      },
    );

each('a device that refuses every table is told of none, and the driver says so', async (scene) => {
  const { device, side } = scene;
  await device.setMemTable([region(0, 2), region(4, 2)]);
  side.responder.answer = ({ type }) => (type === VDUSE_UPDATE_IOTLB ? REFUSED : {});
  const next = [region(0, 2, 1), region(4, 2, 1)];
  assert.is(await codeOf(device.setMemTable(next)), 'ERR_MEMORY_TABLE');
  await sees(scene, []);
  side.responder.answer = () => ({});
  await device.setMemTable(next);
  await sees(scene, next);
});

test('set_map: a batch whose failure the kernel discards is found out, and undone', () =>
  tableScene('set_map', async (scene) => {
    const { bus, device, side } = scene;
    const table = [region(0, 2), region(4, 2)];
    await device.setMemTable(table);
    const before = side.programmings;
    // The end of the batch, and the update that is to confirm it: what is undone, and tried one by one, works.
    const fault = bus.faults.inject({
      point: 'message',
      request: VDUSE_UPDATE_IOTLB,
      times: 2,
      errno: 'EIO',
    });
    const next = [...table, region(8, 2), region(10, 2), region(12, 2)];
    const change = await device.setMemTable(next);
    assert.is(fault.hits, 2);
    assert.ok(change.confirmed);
    assert.ok(side.programmings > before);
    await sees(scene, next);
  }));

test.run();
