import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { demo } from '../../host/cli/demo.js';
import { doctor } from '../../host/cli/doctor.js';
import { info } from '../../host/cli/info.js';
import { newModel } from '../../host/cli/new-model.js';
import { serve } from '../../host/cli/serve.js';
import { top } from '../../host/cli/top.js';
import { ERROR_CODES } from '../../host/errors.js';
import { DEVICE_METRICS, LATENCY_METRIC, QUEUE_METRICS } from '../../host/observability/metric-families.js';
import { sumQueueStats } from '../../host/queue/queue-stats.js';
import { exportedDeclarations, exportedNames, exportedTypes, TESTING } from './declarations.js';
import { type Example, Page, ROOT } from './markdown.js';

/** Milliseconds; an example that takes longer is broken. */
const EXAMPLE_LIMIT_MS = 60_000;
/** The one table of errors.md that does not define codes. */
const NO_DEFINITIONS = 'A served device';

const pages = Page.all();
const page = (path: string) => pages.find((candidate) => candidate.path === path)!;

/** Whether a text has a name inside of inline code. */
function mentions(text: string, name: string): boolean {
  const spans = [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code!);
  const word = new RegExp(`(?<![\\w$])${name.replace(/[[\].]/g, '\\$&')}(?![\\w$])`);
  return spans.some((span) => word.test(span));
}

test('errors.md defines exactly the codes of ERROR_CODES, each once', () => {
  const errors = page('docs/errors.md');
  const text = errors.prose.replace(errors.section(NO_DEFINITIONS)!, '');
  const defined = [...text.matchAll(/^\| `(ERR_\w+)` *\|/gm)].map(([, code]) => code!);
  assert.equal(defined.toSorted(), Object.keys(ERROR_CODES).toSorted());
});

test('no page speaks of a code that does not exist', () => {
  for (const { path, text } of pages)
    for (const [code] of text.matchAll(/\bERR_\w+(?!\*)\b/g))
      assert.ok(
        code in ERROR_CODES || Object.keys(ERROR_CODES).some((known) => known.startsWith(code)),
        `${path}: ${code}`,
      );
});

test('api.md mentions everything that the package exports', () => {
  const names = exportedNames();
  assert.ok(names.length > 30, 'the exports were found');
  const missing = names.filter((name) => !mentions(page('docs/api.md').prose, name));
  assert.equal(missing, []);
});

test('every member of every exported class and interface is documented, under its own heading if it has one', () => {
  const reference = ['api', 'device-models', 'observability'].map((name) => page(`docs/${name}.md`));
  const declarations = exportedDeclarations();
  assert.ok(declarations.length > 20, 'the declarations were found');
  const missing = declarations.flatMap(({ name, members }) => {
    const sections = reference.flatMap((each) => each.section(name) ?? []);
    const text = (sections.length > 0 ? sections : reference.map((each) => each.prose)).join('\n');
    return members.filter((member) => !mentions(text, member)).map((member) => `${name}.${member}`);
  });
  assert.equal(missing, []);
});

test('testing.md mentions everything that ringbell/testing exports, and every member of it', () => {
  const { prose } = page('docs/testing.md');
  const names = [...exportedTypes(TESTING).keys()];
  assert.ok(names.length > 10, 'the exports were found');
  const members = exportedDeclarations(TESTING).flatMap((each) => each.members);
  assert.equal(
    [...names, ...members].filter((name) => !mentions(prose, name)),
    [],
  );
});

test('every counter of a device is documented', () => {
  const section = page('docs/api.md').section('Counters of a device')!;
  assert.equal(
    Object.keys(sumQueueStats([])).filter((counter) => !mentions(section, counter)),
    [],
  );
});

test('the diagnostics channels are exactly those of the code', () => {
  const host = join(ROOT, 'dist/host');
  const modules = readdirSync(host, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.js'),
  );
  const used = modules.flatMap((name) =>
    [...readFileSync(join(host, name), 'utf8').matchAll(/channel\('(ringbell:[\w:]+)'\)/g)].map(
      ([, channel]) => channel!,
    ),
  );
  const section = page('docs/api.md').section('Diagnostics channels')!;
  const documented = [...section.matchAll(/^\| `(ringbell:[\w:]+)`/gm)].map(([, channel]) => channel!);
  assert.ok(used.length > 0, 'the channels were found');
  assert.equal(documented.toSorted(), [...new Set(used)].toSorted());
});

test('the metrics are exactly those of the code, each with its type, its sides and its help', () => {
  const section = page('docs/observability.md').section('Prometheus')!;
  const rows = [...section.matchAll(/^\| `(ringbell_\w+)` *\| (\w+) *\| ([\w, ]+?) *\| (.*?) *\|$/gm)].map(
    (row) => row.slice(1),
  );
  const families = [...QUEUE_METRICS, LATENCY_METRIC, ...DEVICE_METRICS];
  assert.equal(
    rows,
    families.map(({ name, type, sides, help }) => [name, type, sides.join(', '), help]),
  );
});

test('every command and option of the command line is documented', () => {
  const section = page('docs/api.md').section('Command line')!;
  for (const { name, options } of [demo, serve, info, top, doctor, newModel]) {
    assert.ok(mentions(section, `ringbell ${name}`), name);
    for (const option of Object.keys(options)) assert.match(section, new RegExp(`\`--${option}\\b`), option);
  }
});

test('every relative link leads to a file, and to a heading if it names one', () => {
  let links = 0;
  for (const { path, links: targets } of pages)
    for (const target of targets) {
      if (/^[a-z]+:/.test(target)) continue;
      links++;
      const [file = '', anchor] = target.split('#');
      const absolute = file === '' ? join(ROOT, path) : join(ROOT, dirname(path), file);
      assert.ok(existsSync(absolute), `${path}: ${target}`);
      if (anchor !== undefined)
        assert.ok(new Page(relative(ROOT, absolute)).anchors.includes(anchor), `${path}: ${target}`);
    }
  assert.ok(links > 10, 'the links were found');
});

test('every test that lineage.md names is there, in the file that it names', () => {
  const { text } = page('docs/lineage.md');
  // A file, and behind it, up to the next, the names of tests in it.
  const named = [...text.matchAll(/`(test\/[^`]+\.ts)`([^`|]*)/g)].flatMap(([, file, names]) =>
    [...names!.matchAll(/"([^"]+)"/g)].map(([, name]) => [file!, name!] as const),
  );
  assert.ok(named.length > 20, 'the names were found');
  for (const [file, name] of named) {
    assert.ok(existsSync(join(ROOT, file)), file);
    assert.ok(readFileSync(join(ROOT, file), 'utf8').includes(name), `${file}: ${name}`);
  }
});

test('every file that lineage.md says something lives in is there', () => {
  const files = [...page('docs/lineage.md').text.matchAll(/`((?:assembly|bench|host|native|test)\/[^`]*)`/g)];
  assert.ok(files.length > 20, 'the files were found');
  for (const [, file] of files) assert.ok(existsSync(join(ROOT, file!)), file);
});

/** Runs an example in an empty folder where the package is installed. */
function run({ file, code }: Example): { status: number | null; stdout: string; stderr: string } {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-docs-'));
  try {
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(ROOT, join(folder, 'node_modules/ringbell'));
    writeFileSync(join(folder, file), code);
    return spawnSync(process.execPath, [file], { cwd: folder, encoding: 'utf8', timeout: EXAMPLE_LIMIT_MS });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

for (const example of pages.flatMap(({ examples }) => examples))
  test(`${example.page}: ${example.file} runs and prints what it says`, () => {
    const { status, stdout, stderr } = run(example);
    assert.is(status, 0, stderr);
    if (example.output.length > 0) assert.equal(stdout.trimEnd().split('\n'), example.output);
  });

test.run();
