import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { VIRTIO_BLK_T_FLUSH, VIRTQ_AVAIL_RING, VIRTQ_USED_RING } from '../../assembly/virtio.js';
import { Ring } from './fixture.js';

const { NOTIFY_DUE } = layout;

/** Puts `count` flushes on the ring: whether a kick is due. */
function submit(ring: Ring, count: number): boolean {
  for (let i = 0; i < count; i++) ring.submission(i, { type: VIRTIO_BLK_T_FLUSH });
  return (ring.engine.blkSubmit(ring.dq, ring.submissions, count) & NOTIFY_DUE) !== 0;
}

/** Serves what waits: whether an interrupt is due. */
function serve(ring: Ring): boolean {
  return (ring.engine.blkServe(ring.vq, ring.disk) & NOTIFY_DUE) !== 0;
}

function reap(ring: Ring): number {
  return ring.engine.blkReap(ring.dq, ring.completions, 64, 0, 0);
}

for (const eventIdx of [false, true]) {
  const kind = eventIdx ? 'event index' : 'flags';

  test(`a device that is armed is kicked once, one that is not is not kicked (${kind})`, () => {
    const ring = new Ring({ size: 32, eventIdx });
    assert.is(ring.engine.deviceArm(ring.vq), 0);
    assert.ok(submit(ring, 2));
    ring.engine.deviceDisarm(ring.vq);
    assert.not.ok(submit(ring, 2));
    assert.not.ok(submit(ring, 1));
    assert.is(ring.counter(ring.dq, layout.VQ_KICKS), 1);
    assert.is(ring.counter(ring.dq, layout.VQ_KICKS_SUPPRESSED), 2);
  });

  test(`arming sees what came just before it: no wake-up is lost (${kind})`, () => {
    const ring = new Ring({ size: 32, eventIdx });
    ring.engine.deviceDisarm(ring.vq);
    submit(ring, 3);
    assert.is(ring.engine.deviceArm(ring.vq), 3);
    serve(ring);
    assert.is(ring.engine.deviceArm(ring.vq), 0);
    assert.is(ring.engine.driverArm(ring.dq), 3);
    assert.is(reap(ring), 3);
    assert.is(ring.engine.driverArm(ring.dq), 0);
  });

  test(`a driver that is armed is interrupted once per burst, one that is not is not (${kind})`, () => {
    const ring = new Ring({ size: 32, eventIdx });
    ring.engine.driverArm(ring.dq);
    submit(ring, 4);
    assert.ok(serve(ring));
    ring.engine.driverDisarm(ring.dq);
    submit(ring, 4);
    assert.not.ok(serve(ring));
    assert.is(ring.counter(ring.vq, layout.VQ_INTERRUPTS), 1);
    assert.is(ring.counter(ring.vq, layout.VQ_INTERRUPTS_SUPPRESSED), 1);
  });

  test(`suppression holds across the wrap of the 16-bit indices (${kind})`, () => {
    const ring = new Ring({ size: 32, eventIdx });
    let kicks = 0;
    let interrupts = 0;
    for (let i = 0; i < 70000; i++) {
      ring.engine.deviceArm(ring.vq);
      ring.engine.driverArm(ring.dq);
      kicks += Number(submit(ring, 1));
      interrupts += Number(serve(ring));
      assert.is(reap(ring), 1);
    }
    assert.equal([kicks, interrupts], [70000, 70000]);
  });
}

test('without EVENT_IDX only bit 0 of avail.flags counts', () => {
  for (const [flags, wanted] of [
    [2, true],
    [0xfffe, true],
    [0xffff, false],
    [1, false],
  ] as const) {
    const ring = new Ring();
    submit(ring, 1);
    ring.data.setUint16(ring.avail, flags, true);
    assert.is(serve(ring), wanted, `flags ${flags}`);
  }
});

test('with EVENT_IDX the flags are ignored, on both sides', () => {
  const ring = new Ring({ eventIdx: true });
  ring.data.setUint16(ring.avail, 1, true);
  ring.data.setUint16(ring.used, 1, true);
  assert.ok(submit(ring, 1), 'avail_event 0 is passed by index 1');
  assert.ok(serve(ring), 'used_event 0 is passed by index 1');
});

test('an interrupt is due exactly where used_event lies in the burst', () => {
  for (let event = 0; event < 12; event++) {
    const ring = new Ring({ size: 32, eventIdx: true });
    submit(ring, 4);
    serve(ring);
    reap(ring);
    ring.data.setUint16(ring.avail + VIRTQ_AVAIL_RING + 32 * 2, event, true);
    submit(ring, 4);
    assert.is(serve(ring), event >= 4 && event < 8, `used_event ${event}`);
  }
});

test('a kick is due exactly where avail_event lies in the batch', () => {
  for (let event = 0; event < 12; event++) {
    const ring = new Ring({ size: 32, eventIdx: true });
    submit(ring, 4);
    ring.data.setUint16(ring.used + VIRTQ_USED_RING + 32 * 8, event, true);
    assert.is(submit(ring, 4), event >= 4 && event < 8, `avail_event ${event}`);
  }
});

test('a mapped doorbell is stored to instead of a kick, with the queue index', () => {
  const ring = new Ring();
  const doorbell = ring.allocate(4096);
  ring.set(ring.dq, { [layout.DQ_DOORBELL]: doorbell, [layout.DQ_INDEX]: 3 });
  ring.data.setUint32(doorbell, 0xffffffff, true);
  ring.engine.deviceArm(ring.vq);
  assert.not.ok(submit(ring, 1));
  assert.is(ring.u32(doorbell), 0xffff0003, 'two bytes, no more');
  assert.is(ring.counter(ring.dq, layout.VQ_KICKS), 1);
});

test.run();
