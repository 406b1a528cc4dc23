import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { probe } from './c-probe.js';
import { facts } from './inventory.js';
import { mayBeAbsent, recorded } from './recorded.js';

const HEADERS = [
  'linux/version.h',
  'linux/if.h',
  'linux/if_tun.h',
  'linux/netlink.h',
  'linux/genetlink.h',
  'linux/vdpa.h',
  'linux/vfio.h',
  'linux/vhost.h',
  'linux/vduse.h',
  'linux/virtio_blk.h',
  'linux/virtio_config.h',
  'linux/virtio_console.h',
  'linux/virtio_ids.h',
  'linux/virtio_net.h',
  'linux/virtio_ring.h',
];
const VERSION = 'LINUX_VERSION_CODE';
const LINUX_6_1 = (6 << 16) | (1 << 8);

const fromHeaders = probe(HEADERS, [VERSION, ...facts.map((fact) => fact.expression)]);
const version = fromHeaders.get(VERSION) ?? 0;
const absent = facts.filter((fact) => !fromHeaders.has(fact.expression));

test('every number is recorded, and every record is of a number that exists', () => {
  const stated = new Set(facts.map((fact) => fact.expression));
  assert.is(stated.size, facts.length, 'a name is stated twice');
  assert.equal(
    [...stated].filter((expression) => !recorded.has(expression)),
    [],
    'not recorded',
  );
  assert.equal(
    [...recorded.keys()].filter((expression) => !stated.has(expression)),
    [],
    'recorded only',
  );
});

test('every number is the recorded one', () => {
  for (const { expression, value } of facts) assert.is(value, recorded.get(expression), expression);
});

if (!version) {
  test('every number is the one of the kernel headers', () => {
    console.log('skipped: this machine has no C compiler, or no kernel headers');
  });
} else {
  const name = `Linux ${version >> 16}.${(version >> 8) & 0xff}`;
  const compared = facts.length - absent.length;

  test('every number is the one of the kernel headers', () => {
    for (const { expression, value } of facts) {
      if (fromHeaders.has(expression)) assert.is(value, fromHeaders.get(expression), expression);
    }
    console.log(`${compared} numbers are those of the headers of ${name}`);
    console.log(`${absent.length} numbers are not in the headers of ${name}: only those recorded count`);
  });

  test('no number is missing from headers that should have it', () => {
    if (version < LINUX_6_1) return;
    assert.equal(
      absent.map((fact) => fact.expression).filter((expression) => !mayBeAbsent(expression)),
      [],
    );
  });
}

test.run();
