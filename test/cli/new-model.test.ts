import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from './command-line.js';

const manifest = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));

/** A folder of one's own, which goes afterwards. */
async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-new-'));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const FILES = {
  assemblyscript: ['assembly/model.ts', 'asconfig.json', 'model.js', 'test.js', 'bench.js'],
  typescript: ['src/model.ts', 'tsconfig.json', 'src/test.ts', 'src/bench.ts'],
};

for (const [language, expected] of Object.entries(FILES))
  test(`new-model writes a project in ${language}, with nothing left to fill in`, async () => {
    await inFolder(async (folder) => {
      const directory = join(folder, 'some/where');
      const options = ['new-model', 'counter', '--language', language, '--directory', directory];
      const { status, stdout, stderr } = await run([...options, '--json']);
      assert.is(stderr, '');
      assert.is(status, 0);
      const { files, ...rest } = JSON.parse(stdout);
      assert.equal(rest, { name: 'counter', language, directory });
      assert.equal(
        readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
          .length,
        files.length,
      );
      for (const file of [...expected, 'package.json', 'README.md', '.gitignore'])
        assert.ok(existsSync(join(directory, file)), file);
      for (const file of files)
        assert.not.ok(readFileSync(join(directory, file), 'utf8').includes('{{'), `${file} has a gap`);
      const project = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
      assert.is(project.name, 'counter');
      assert.is(project.dependencies.ringbell, `^${manifest.version}`);
      for (const [name, version] of Object.entries(project.devDependencies))
        assert.is(version, manifest.devDependencies[name], name);
      assert.equal(Object.keys(project.scripts), ['build', 'test', 'bench']);
    });
  });

test('new-model writes over nothing', async () => {
  await inFolder(async (folder) => {
    const directory = join(folder, 'there');
    mkdirSync(directory);
    writeFileSync(join(directory, 'mine'), '1');
    const options = ['new-model', 'counter', '--directory'];
    const full = await run([...options, directory]);
    assert.is(full.status, 2);
    assert.match(full.stderr, /^ringbell: .*there is not empty\n$/);
    assert.equal(readdirSync(directory), ['mine']);
    const file = await run([...options, join(directory, 'mine')]);
    assert.is(file.status, 2);
    assert.match(file.stderr, /mine is no folder\n$/);
    const below = await run([...options, join(directory, 'mine/below')]);
    assert.is(below.status, 2);
    assert.is(readFileSync(join(directory, 'mine'), 'utf8'), '1');
    mkdirSync(join(folder, 'empty'));
    assert.is((await run([...options, join(folder, 'empty')])).status, 0);
  });
});

test('new-model refuses names that npm does not take, and languages that there are not', async () => {
  await inFolder(async (folder) => {
    for (const name of ['Counter', '../up', '.hidden', 'a b', `${'x'.repeat(215)}`]) {
      const { status, stderr } = await run(['new-model', name, '--directory', join(folder, 'none')]);
      assert.is(status, 2);
      assert.match(stderr, /is no name of a project/);
    }
    const { status, stderr } = await run([
      'new-model',
      'a',
      '--language',
      'rust',
      '--directory',
      join(folder, 'none'),
    ]);
    assert.is(status, 2);
    assert.match(stderr, /--language 'rust': must be assemblyscript or typescript/);
    assert.is((await run(['new-model'])).status, 2);
    assert.not.ok(existsSync(join(folder, 'none')));
  });
});

test.run();
