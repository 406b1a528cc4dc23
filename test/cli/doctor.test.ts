import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Probe, probe } from '../../host/probe.js';
import { run } from './command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'doctor-'));
test.after(() => rmSync(folder, { recursive: true }));

test('probe tells what was looked at, and what to do about what is missing', () => {
  const { checks, embedded, vduse, vhostVdpa } = probe();
  assert.equal(
    checks.map((check) => check.name),
    [
      ...[
        'platform',
        'node',
        'processors',
        'wasm-simd',
        'wasm-threads',
        'wasm-shared-memory',
        'engine',
        'addon',
      ],
      ...[
        'memlock',
        'module vdpa',
        'module vduse',
        'module virtio_vdpa',
        'module virtio_blk',
        'module vhost_vdpa',
      ],
      ...['/dev/vhost-vdpa-*', 'IOMMU', 'hardware', '/dev/vduse/control', 'VDUSE API'],
      ...['vDPA netlink', 'CAP_NET_ADMIN', 'drivers_autoprobe'],
    ],
  );
  for (const check of checks) {
    assert.ok(['ok', 'warning', 'missing'].includes(check.state), check.name);
    assert.ok(check.found.length > 0 && !check.found.includes('\n'), check.name);
    if (check.state === 'missing' && check.name !== 'addon') assert.ok(check.remedy, check.name);
  }
  assert.is(embedded, true);
  assert.type(vduse, 'boolean');
  assert.type(vhostVdpa, 'boolean');
});

test('doctor ends with 0 although kernel parts are missing', async () => {
  const { status, stdout, stderr } = await run(['doctor']);
  assert.is(stderr, '');
  assert.is(status, 0);
  assert.match(stdout, /in-process bus: ready/);
});

test('doctor --json prints the probe and the machine', async () => {
  const { status, stdout } = await run(['doctor', '--json']);
  assert.is(status, 0);
  const result = JSON.parse(stdout) as Probe & { machine: { node: string } };
  assert.is(result.machine.node, process.version);
  assert.is(result.embedded, true);
  assert.is(result.checks.length, probe().checks.length);
});

/** Runs the doctor where the addon cannot be used: it must say so, and end with 1. */
async function withoutAddon(addon: string): Promise<void> {
  const { status, stdout, stderr } = await run(['doctor', '--json'], { RINGBELL_ADDON: addon, PATH: '' });
  assert.is(stderr, '');
  assert.is(status, 1);
  const result = JSON.parse(stdout) as Probe;
  assert.is(result.embedded, false);
  const check = result.checks.find(({ name }) => name === 'addon')!;
  assert.is(check.state, 'missing');
  assert.ok(check.found.includes(addon), check.found);
}

test('doctor ends with 1 where there is no addon', () => withoutAddon('/nonexistent/ringbell.node'));

test('doctor ends with 1 where the addon does not load', () => {
  const broken = join(folder, 'ringbell.node');
  writeFileSync(broken, 'not an addon');
  return withoutAddon(broken);
});

test('doctor works with no PATH, no USER and no HOME', async () => {
  const { status, stderr } = await run(['doctor'], { PATH: '', USER: undefined, HOME: undefined });
  assert.is(stderr, '');
  assert.is(status, 0);
});

test('doctor runs where WebAssembly does not', async () => {
  const { status, stdout } = await run(['doctor', '--json'], { NODE_OPTIONS: '--jitless' });
  assert.is(status, 1);
  const result = JSON.parse(stdout) as Probe;
  assert.is(result.checks.find(({ name }) => name === 'wasm-simd')!.state, 'missing');
});

test.run();
