import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  BlockDevice,
  Bus,
  type DeviceSnapshot,
  METRICS_CONTENT_TYPE,
  metrics,
  openBlock,
  serve,
} from '../../host/index.js';

/** Reads the text format by its grammar: samples by name and labels; throws where a line is none. */
function read(text: string): { samples: Map<string, number>; families: Map<string, string> } {
  const samples = new Map<string, number>();
  const families = new Map<string, string>();
  let family = '';
  assert.ok(text === '' || text.endsWith('\n'), 'the last line ends');
  for (const line of text.split('\n').slice(0, -1)) {
    const help = /^# HELP ([a-z_]+) \S.*$/.exec(line);
    const type = /^# TYPE ([a-z_]+) (counter|gauge|histogram)$/.exec(line);
    const sample =
      /^([a-z_]+?)(?:_bucket|_sum|_count)?(\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*\}) ([\d.]+)$/.exec(line);
    if (help) {
      assert.not(families.has(help[1]!), `${help[1]} comes once`);
      family = help[1]!;
    } else if (type) {
      assert.is(type[1], family);
      families.set(family, type[2]!);
    } else if (sample) {
      assert.is(sample[1], family, 'a family stays together');
      assert.not(samples.has(line.slice(0, line.lastIndexOf(' '))), `one value: ${line}`);
      samples.set(line.slice(0, line.lastIndexOf(' ')), Number(sample[3]));
    } else assert.unreachable(`no line of the format: ${line}`);
  }
  return { samples, families };
}

/** A device as plain data. */
function fake(snapshot: Partial<DeviceSnapshot>): { name: string; snapshot(): DeviceSnapshot } {
  const device = {
    name: 'fake',
    side: 'device',
    deviceId: 2,
    broken: false,
    queues: [],
    ...snapshot,
  } as const;
  return { name: device.name, snapshot: () => device };
}

test('both sides of a disk are there, with what they have done', async () => {
  const bus = new Bus();
  const device = await serve(new BlockDevice({ memory: 2 ** 20 }), {
    name: 'disk0',
    bus,
    queues: 2,
    threads: 0,
  });
  const disk = await openBlock('disk0', { bus, queues: 2 });
  await disk.write(0, new Uint8Array(4096));
  await disk.read(0, 8192);
  const { samples, families } = read(metrics());
  const of = (name: string, labels: string) => samples.get(`ringbell_${name}{device="disk0",${labels}}`);
  for (const side of ['device', 'driver']) {
    const sum = (name: string) =>
      of(name, `side="${side}",queue="0"`)! + of(name, `side="${side}",queue="1"`)!;
    assert.is(sum('requests_total'), 2, side);
    assert.is(sum('read_bytes_total'), 8192);
    assert.is(sum('written_bytes_total'), 4096);
    assert.is(sum('in_flight'), 0);
    assert.is(of('device_id', `side="${side}"`), 2);
    assert.is(of('device_broken', `side="${side}"`), 0);
  }
  assert.is(of('device_status', 'side="device"'), device.status);
  assert.is(of('doorbell_mapped', 'side="driver",queue="0"'), 0);
  assert.is(
    of('kicks_suppressed_total', 'side="device",queue="0"'),
    undefined,
    'a device cannot count these',
  );
  for (const [name, type] of families) assert.is(type === 'counter', name.endsWith('_total'), name);
  await disk.close();
  await device.close();
  assert.is(metrics(), '', 'nothing is open any more');
  assert.match(metrics([disk]), /ringbell_requests_total\{device="disk0",side="driver",queue="0"\} 1\n/);
  await bus.close();
});

test('requests that the device holds are in flight', async () => {
  const bus = new Bus();
  const device = await serve(new BlockDevice({ memory: 2 ** 20 }), { name: 'disk0', bus, threads: 0 });
  const disk = await openBlock('disk0', { bus });
  const reads = [disk.read(0, 512), disk.read(0, 512), disk.read(0, 512)];
  await Promise.resolve();
  assert.match(metrics(), /ringbell_in_flight\{device="disk0",side="driver",queue="0"\} 3\n/);
  await Promise.all(reads);
  await disk.close();
  await device.close();
  await bus.close();
});

test('a name of any characters is quoted', () => {
  const { samples } = read(metrics([fake({ name: 'a"b\\c\nd{}' })]));
  assert.is(samples.get('ringbell_device_id{device="a\\"b\\\\c\\nd{}",side="device"}'), 2);
});

test('devices of one name are told apart, whatever they are called', () => {
  const names = ['a', 'a', 'a#2', 'a'];
  const { samples } = read(metrics(names.map((name, index) => fake({ name, deviceId: index }))));
  assert.equal(
    ['a', 'a#2', 'a#2#2', 'a#3'].map((name) =>
      samples.get(`ringbell_device_id{device="${name}",side="device"}`),
    ),
    [0, 1, 2, 3],
  );
});

test('latencies are a cumulative histogram in seconds', () => {
  const counters = { requests: 9, bytesRead: 0, bytesWritten: 0, kicks: 0, interrupts: 0, crossings: 0 };
  const latency = {
    samples: 6,
    sum: 5_000_000,
    buckets: [
      [1000, 1],
      [1024, 2],
      [1087, 2],
      [4_000_000_000, 1],
    ],
  } as const;
  const { samples, families } = read(
    metrics([fake({ queues: [{ queue: 3, inFlight: 0, ...counters, latency }] })]),
  );
  assert.is(families.get('ringbell_latency_seconds'), 'histogram');
  const labels = 'device="fake",side="device",queue="3"';
  const at = (le: string) => samples.get(`ringbell_latency_seconds_bucket{${labels},le="${le}"}`);
  assert.equal([at('0.000001024'), at('0.000004096'), at('1.073741824'), at('+Inf')], [3, 5, 5, 6]);
  assert.is(samples.get(`ringbell_latency_seconds_sum{${labels}}`), 0.005);
  assert.is(samples.get(`ringbell_latency_seconds_count{${labels}}`), 6);
});

test('families without a value are left out', () => {
  assert.is(metrics([]), '');
  assert.not.match(metrics([fake({})]), /ringbell_requests_total|ringbell_device_status/);
});

test('the content type is that of the format', () => {
  assert.is(METRICS_CONTENT_TYPE, 'text/plain; version=0.0.4; charset=utf-8');
});

test.run();
