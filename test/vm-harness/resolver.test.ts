import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { belongsToSeries, resolveKernel, type Stanza } from '../vm/resolver.js';

const stanza = (name: string, version: string, depends = ''): Stanza => ({ package: name, version, depends });

/** A release whose image is one package. */
const inOne = (release: string, version: string) => [
  stanza(`linux-image-${release}-amd64`, version),
  stanza(`linux-image-${release}-amd64-unsigned`, version),
  stanza(`linux-image-${release}-amd64-dbg`, version),
  stanza(`linux-image-${release}-cloud-amd64`, version),
  stanza(`linux-headers-${release}-amd64`, version),
  stanza(`linux-headers-${release}-common`, version),
  stanza(`linux-kbuild-${release}`, version),
];
/** A release whose kernel and modules are packages of their own, signed or not. */
const inParts = (release: string, version: string, binary: string) => [
  stanza(`linux-base-${release}-amd64`, version),
  stanza(`linux-${binary}-${release}-amd64`, version),
  stanza(`linux-${binary}-${release}-rt-amd64`, version),
  stanza(`linux-modules-${release}-amd64`, version),
  stanza(`linux-modules-${release}-cloud-amd64`, version),
];

test('a meta package names the kernel of its series', () => {
  const kernel = resolveKernel(
    '6.12',
    [
      stanza('linux-image-6.12-amd64', '6.12.9-1', 'linux-image-6.12.9+deb12-amd64 (= 6.12.9-1)'),
      stanza('linux-source-6.12', '6.12.9-1'),
      ...inOne('6.12.9+deb12', '6.12.9-1'),
      ...inOne('6.12.100+deb12', '6.12.100-1'),
    ],
    '12',
  )!;
  assert.is(kernel.release, '6.12.9+deb12-amd64');
  assert.equal(kernel.image, ['linux-image-6.12.9+deb12-amd64=6.12.9-1']);
  assert.equal(kernel.build, [
    'linux-headers-6.12.9+deb12-amd64=6.12.9-1',
    'linux-headers-6.12.9+deb12-common=6.12.9-1',
    'linux-kbuild-6.12.9+deb12=6.12.9-1',
    'linux-source-6.12=6.12.9-1',
  ]);
});

test('the meta package of the newest kernel counts only for its series', () => {
  const stanzas = [
    stanza('linux-image-amd64', '7.3.1-1', 'linux-base-amd64 (= 7.3.1-1), linux-image-7.3.1+deb14-amd64'),
    ...inParts('7.3.1+deb14', '7.3.1-1', 'binary'),
    ...inParts('7.2.13+deb14', '7.2.13-1', 'binary'),
    ...inParts('7.2.9+deb14', '7.2.9-1', 'binary'),
  ];
  assert.is(resolveKernel('7.3', stanzas, '12')!.release, '7.3.1+deb14-amd64');
  assert.is(resolveKernel('7.2', stanzas, '12')!.release, '7.2.13+deb14-amd64', '13 is more than 9');
  assert.is(resolveKernel('7.1', stanzas, '12'), undefined);
});

test('the newest of several point releases is found in meta packages of several suites', () => {
  const stanzas = ['7.2.9+deb13', '7.2.12+deb13', '7.2.13+deb14'].flatMap((release) => [
    stanza('linux-image-amd64', release, `linux-image-${release}-amd64 (= ${release})`),
    ...inParts(release, release, 'binary'),
  ]);
  assert.is(resolveKernel('7.2', stanzas, '12')!.release, '7.2.13+deb14-amd64');
  assert.is(resolveKernel('7.2', stanzas, '13')!.release, '7.2.12+deb13-amd64', "this system's own first");
});

test('a series without a meta package is found by its parts, signed ones first', () => {
  const unsigned = inParts('7.3.4+deb13', '7.3.4-1~bpo13+1', 'binary-unsigned');
  const found = resolveKernel('7.3', unsigned, '12')!;
  assert.equal(found.image, [
    'linux-base-7.3.4+deb13-amd64=7.3.4-1~bpo13+1',
    'linux-binary-unsigned-7.3.4+deb13-amd64=7.3.4-1~bpo13+1',
    'linux-modules-7.3.4+deb13-amd64=7.3.4-1~bpo13+1',
  ]);
  assert.is(found.build, undefined, 'nothing to build with');
  const signed = inParts('7.3.4+deb13', '7.3.4-1~bpo13+1', 'binary');
  assert.equal(
    resolveKernel('7.3', [...unsigned, ...signed], '12')!.image[1]!.slice(0, 20),
    'linux-binary-7.3.4+d',
  );
});

test('a release with a part missing is passed over', () => {
  const stanzas = [
    stanza('linux-binary-7.3.5+deb14-amd64', '7.3.5-1'),
    ...inParts('7.3.4+deb13', '1', 'binary'),
  ];
  assert.is(resolveKernel('7.3', stanzas, '12')!.release, '7.3.4+deb13-amd64');
  assert.is(resolveKernel('7.3', stanzas.slice(0, 1), '12'), undefined);
});

test('sources of another point release are not built from', () => {
  const stanzas = [...inOne('6.12.9+deb12', '6.12.9-1'), stanza('linux-source-6.12', '6.12.100-1')];
  assert.is(resolveKernel('6.12', stanzas, '12')!.build, undefined);
});

test('the packages of a series are known by their names', () => {
  for (const name of [
    'linux-image-amd64',
    'linux-image-6.12-amd64',
    'linux-image-6.12.117+deb12-amd64',
    'linux-headers-6.12.117+deb12-common',
    'linux-kbuild-6.12.117+deb12',
    'linux-source-6.12',
  ])
    assert.ok(belongsToSeries(name, '6.12'), name);
  for (const name of [
    'linux-image-6.1.12-amd64',
    'linux-image-16.12-amd64',
    'linux-source-6.1',
    'linux-libc-dev',
  ])
    assert.not(belongsToSeries(name, '6.12'), name);
});

test.run();
