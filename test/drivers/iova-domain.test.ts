import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DMA_TO_DEVICE, PAGE_SIZE } from '../../assembly/layout.js';
import { DriverMemory } from '../../host/drivers/driver-memory.js';
import type { IovaDomain } from '../../host/drivers/iova-domain.js';
import { RingbellError } from '../../host/errors.js';
import type { IotlbRegion } from '../../host/vhost-vdpa/iotlb-mapper.js';

/** Pages of coherent memory, of the first bounce buffers and of the most. */
const COHERENT = 2;
const FIRST = 4;
const MOST = 13;

interface Scene {
  memory: DriverMemory;
  domain: IovaDomain;
  /** Maps whole pages: the linear address of the buffer, 0 where there is no room. */
  map(pages: number): number;
  unmap(bounce: number): void;
  /** What the device was told of. */
  told: IotlbRegion[];
}

/** A driver's memory with a domain, whose device answers to each region with `answer`. */
async function scene(
  act: (scene: Scene) => Promise<void> | void,
  answer: (region: IotlbRegion) => Promise<void> = async () => {},
): Promise<void> {
  const memory = new DriverMemory({
    name: 'iova-domain-test',
    coherentBytes: COHERENT * PAGE_SIZE,
    bufferBytes: MOST * PAGE_SIZE,
    arenaBytes: PAGE_SIZE,
    privateBytes: 4096,
    doorbellBytes: 0,
    iovaRange: { first: 0n, last: 2n ** 64n - 1n },
    bounce: { first: FIRST * PAGE_SIZE, most: MOST * PAGE_SIZE },
  });
  const domain = memory.domain as IovaDomain;
  const own = memory.take(MOST * PAGE_SIZE, PAGE_SIZE);
  const { engine } = memory.aperture;
  const told: IotlbRegion[] = [];
  await memory.share(async (region) => {
    await answer(region);
    told.push(region);
  });
  try {
    await act({
      memory,
      domain,
      map: (pages) => engine.mapPage(domain.block, own, pages * PAGE_SIZE, DMA_TO_DEVICE),
      unmap: (bounce) => engine.unmapPage(domain.block, bounce),
      told,
    });
  } finally {
    memory.close();
  }
}

/** A user that notes when it is asked to retry, and does so with `attempt`, if there is one. */
const user = (name: string, log: string[], attempt: () => void = () => {}) => ({
  retry: () => {
    log.push(name);
    attempt();
  },
});

const pages = ({ iova, bytes }: IotlbRegion, from: bigint) => [
  Number(iova - from) / PAGE_SIZE,
  Number(bytes) / PAGE_SIZE,
];

test('the device is told of coherent memory and the first buffers, and not of the driver’s memory', () =>
  scene(({ memory, domain, told }) => {
    assert.equal(told, [memory.region]);
    const [region] = told as [IotlbRegion];
    assert.is(Number(region.bytes), (COHERENT + FIRST) * PAGE_SIZE);
    assert.is(region.address, memory.aperture.address + BigInt(domain.window.linear));
    assert.is(memory.iova(memory.takeCoherent(16)), region.iova);
    const visible = (linear: number) =>
      linear >= domain.window.linear && linear < domain.window.linear + domain.window.bytes;
    assert.not.ok(visible(memory.alloc(16).byteOffset));
  }));

test('buffers that run out become more, each time as many again, until there are no more to be had', () =>
  scene(async ({ domain, map, told }) => {
    const [first] = told as [IotlbRegion];
    for (const [had, has] of [
      [FIRST, 8],
      [8, MOST],
      [MOST, MOST],
    ] as const) {
      while (map(1));
      assert.is(domain.visibleBytes, (COHERENT + had) * PAGE_SIZE);
      const log: string[] = [];
      const waiter = user('retry', log);
      domain.wait(waiter);
      await new Promise(setImmediate);
      assert.is(domain.visibleBytes, (COHERENT + has) * PAGE_SIZE);
      assert.equal(log, has > had ? ['retry'] : []);
      domain.leave(waiter);
    }
    assert.equal(
      told.map((region) => pages(region, first.iova)),
      [
        [0, COHERENT + FIRST],
        [COHERENT + FIRST, 4],
        [COHERENT + 8, 5],
      ],
    );
  }));

test('no buffer is given out before the device knows it', async () => {
  let answered!: () => void;
  const answer = new Promise<void>((resolve) => {
    answered = resolve;
  });
  let regions = 0;
  await scene(
    async ({ domain, map }) => {
      const log: string[] = [];
      assert.ok(map(FIRST));
      domain.wait(user('first', log));
      domain.wait(user('second', log));
      await new Promise(setImmediate);
      assert.is(map(1), 0);
      assert.equal([regions, log], [2, []]);
      answered();
      await new Promise(setImmediate);
      assert.ok(map(1));
      assert.equal(log, ['first']);
    },
    async () => {
      if (++regions > 1) await answer;
    },
  );
});

test('where the device takes no more, requests wait for the buffers that there are', async () => {
  let regions = 0;
  await scene(
    async ({ domain, map, unmap }) => {
      const log: string[] = [];
      const bounce = map(FIRST);
      domain.wait(user('waiter', log));
      await new Promise(setImmediate);
      assert.is(map(1), 0);
      domain.wait(user('other', log));
      await new Promise(setImmediate);
      assert.is(regions, 2, 'asked once');
      log.length = 0;
      unmap(bounce);
      domain.released();
      await new Promise(setImmediate);
      assert.equal(log, ['waiter']);
    },
    async () => {
      if (++regions > 1) throw new RingbellError('ERR_CONTROL_PLANE', 'no more');
    },
  );
});

test('who has waited longest comes first, and nobody overtakes', () =>
  scene(async ({ domain, map, unmap }) => {
    const log: string[] = [];
    const one = user('one', log, () => {
      if (map(MOST)) domain.leave(one);
      else domain.wait(one);
    });
    const two = user('two', log, () => {
      if (map(1)) domain.leave(two);
      else domain.wait(two);
    });
    assert.ok(domain.turnOf(one));
    const small = map(1);
    domain.wait(one);
    domain.wait(two);
    assert.ok(domain.turnOf(one) && !domain.turnOf(two) && !domain.turnOf(user('three', log)));
    await new Promise(setImmediate);
    // There are free pages, but not enough for the first.
    assert.ok(log.every((name) => name === 'one'));
    assert.ok(domain.waits(one) && domain.waits(two));
    log.length = 0;
    unmap(small);
    domain.released();
    domain.released();
    await new Promise(setImmediate);
    assert.equal(log, ['one', 'two']);
    assert.not.ok(domain.waits(one));
    assert.ok(domain.waits(two), 'the first took all');
    domain.leave(two);
    assert.ok(domain.turnOf(user('three', log)));
  }));

test.run();
