import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const host = fileURLToPath(new URL('../../../host/', import.meta.url));

/** Folders of host/ from the top down: a file imports its own folder and those on lower lines, never upwards or sideways. */
const LAYERS = [
  ['cli', 'testing'],
  ['.'],
  ['models/nbd', 'models/overlay'],
  ['served', 'models/blk', 'models/console', 'models/entropy', 'models/net', 'models/wasm'],
  ['bus', 'drivers', 'models'],
  ['observability'],
  ['vhost-vdpa', 'vduse', 'vdpa', 'nbd'],
  ['queue'],
  ['aperture'],
  ['uapi', 'native'],
];
/** Files at the root of host/ that everything may import: they import nothing above themselves. */
const BELOW_EVERYTHING = [
  'errors.ts',
  'flight.ts',
  'mutex.ts',
  'options.ts',
  'range-lock.ts',
  'shared-job.ts',
];

/** Line of a folder; −1 for one that has no place yet. */
const layerOf = (folder: string) => LAYERS.findIndex((layer) => layer.includes(folder));

/** Each import of a file of host/ by another: [importer, imported], relative to host/. */
function imports(): [string, string][] {
  const files = readdirSync(host, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.ts'),
  );
  return files.flatMap((file) =>
    [...readFileSync(join(host, file), 'utf8').matchAll(/(?:from|import) '(\.[^']+)\.js'/g)]
      .map((match): [string, string] => [file, relative(host, join(host, dirname(file), `${match[1]}.ts`))])
      .filter(([, imported]) => !imported.startsWith('..')),
  );
}

test('imports run one way', () => {
  const all = imports();
  assert.ok(all.length > 100);
  const upwards = all.filter(([importer, imported]) => {
    if (BELOW_EVERYTHING.includes(imported) || dirname(importer) === dirname(imported)) return false;
    return layerOf(dirname(importer)) >= layerOf(dirname(imported));
  });
  assert.equal(upwards, []);
});

test('every folder of host/ has its place', () => {
  const folders = new Set(
    imports()
      .flat()
      .map((file) => dirname(file)),
  );
  assert.equal(
    [...folders].filter((folder) => layerOf(folder) < 0),
    [],
  );
});

test.run();
