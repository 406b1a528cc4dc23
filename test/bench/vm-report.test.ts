import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { describeMachine } from '../../bench/machine.js';
import type { GuestFigures, Pair, Sample } from '../../bench/vm/figures.js';
import { summarizeGuest } from '../../bench/vm/figures.js';
import { formatVmReport } from '../../bench/vm/table.js';

const sample = (iops: number, batch: number | null): Sample => ({
  iops,
  median: 100,
  p99: 200,
  batch,
  interrupts: batch && 1 / batch,
  kicks: batch && 0.5,
  waits: 0.25,
  preemptions: 1,
  cpu: 50,
});
const pair = (ours: number, theirs: number, depth = 1): Pair => ({
  operation: 'randread',
  depth,
  othersCores: ours / 10_000,
  ours: sample(ours, 1),
  theirs: sample(theirs, null),
});
const figures: GuestFigures = {
  release: '6.12.0',
  fio: 'fio-3',
  storageDaemon: 'qemu-storage-daemon version 7',
  scheduler: 'mq-deadline',
  pairs: [pair(1000, 1000), pair(3000, 1000), pair(2000, 1000), pair(9, 1, 32)],
  systemCalls: [
    { operation: 'randread', depth: 1, ours: { ioctl: 1, preadv: 1 }, theirs: null },
    { operation: 'randread', depth: 32, ours: null, theirs: null },
  ],
};

test('a workload is summed up by medians, and the ratio is of pairs', () => {
  const [shallow, deep] = summarizeGuest(figures, 2);
  assert.is(shallow!.ours.iops, 2000);
  assert.is(shallow!.theirs.iops, 1000);
  assert.is(shallow!.theirs.batch, null, 'what is not told stays so');
  assert.is(shallow!.ratio, 2);
  assert.equal(shallow!.spread, [1, 3]);
  assert.is(shallow!.othersCores, 0.2);
  assert.is(deep!.ratio, 9);
  assert.is(deep!.pairs.length, 1);
});

test('the report has two lines a workload, with dashes for what is not known', () => {
  const setting = {
    accelerator: 'tcg',
    fio: 'fio-3',
    storageDaemon: 'qemu-storage-daemon 7',
    aio: 'threads',
    mapped: false,
  };
  const text = formatVmReport(describeMachine(), setting, summarizeGuest(figures, 2));
  const ours = text.split('\n').find((line) => line.includes('randread, depth 1 '))!;
  const theirs = text.split('\n')[text.split('\n').indexOf(ours) + 1]!;
  assert.match(
    ours,
    /^6\.12\.0 +2 +mq-deadline +randread, depth 1 +ringbell +2,000 +2\.00 +1\.00 – 3\.00 +0\.20 /,
  );
  assert.match(ours, /0\.25 +1\.00 +2\.00 +50\.0$/, 'waits, preemptions, the sum of system calls, CPU');
  assert.match(theirs, /^ +qemu-storage-daemon +1,000 +100 +200 +– +– +– +0\.25 +1\.00 +– +50\.0$/);
});

test.run();
