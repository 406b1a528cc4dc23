import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isSystemError } from '../errors.js';
import { type Command, UsageError } from './arguments.js';

const LANGUAGES = ['assemblyscript', 'typescript'] as const;
/** The package's own folder. */
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
/** npm has its own idea of a file of that name in a package. */
const RENAMED = new Map([['gitignore', '.gitignore']]);
/** What npm takes for the name of a package, less scopes. */
const NAME = /^[a-z0-9][a-z0-9._-]{0,213}$/;

/** `ringbell new-model` */
export const newModel: Command = {
  name: 'new-model',
  summary: 'write the project of a device model: build, test, bench',
  description:
    'Writes a small project into a new folder: a device model that works, in AssemblyScript or TypeScript, with its build,\n' +
    'its test and a benchmark. Nothing that is there already is written over.',
  operand: { value: 'NAME', required: true, help: 'name of the project, as npm has names' },
  options: {
    language: {
      value: LANGUAGES.join('|'),
      default: 'assemblyscript',
      help: 'AssemblyScript for speed, TypeScript for ease',
    },
    directory: { value: 'DIR', help: 'where to write it (default: NAME)' },
    json: { help: 'print one JSON object' },
  },
  async run(values) {
    const name = values.operand!;
    if (!NAME.test(name))
      throw new UsageError(
        `'${name}' is no name of a project: lower-case letters, digits, '.', '_' and '-', at most 214`,
      );
    const language = values.choice('language', LANGUAGES)!;
    const directory = resolve(values.text('directory') ?? name);
    const files = await render(join(ROOT, 'templates', language), await replacements(name));
    await write(directory, files);
    const shown = relative(process.cwd(), directory) || '.';
    process.stdout.write(
      values.flag('json')
        ? `${JSON.stringify({ name, language, directory, files: [...files.keys()] }, null, 2)}\n`
        : `${shown}: ${files.size} files. Next:\n\n  cd ${shown}\n  npm install\n  npm run build\n  npm test\n`,
    );
    return 0;
  },
};

/** What stands for each {{…}} of a template: versions are those that this package was made with. */
async function replacements(name: string): Promise<Map<string, string>> {
  const manifest = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as {
    version: string;
    devDependencies: Record<string, string>;
  };
  return new Map([
    ...Object.entries(manifest.devDependencies),
    ['ringbell', `^${manifest.version}`],
    ['name', name],
  ]);
}

/** The files of a template, by their paths in the project. */
async function render(folder: string, values: ReadonlyMap<string, string>): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const text = await readFile(path, 'utf8');
    files.set(
      join(relative(folder, dirname(path)), RENAMED.get(entry.name) ?? entry.name),
      text.replace(/\{\{(\S+?)\}\}/g, (_, key: string) => values.get(key) ?? ''),
    );
  }
  return files;
}

/** Writes files into a folder that is made, or empty. */
async function write(directory: string, files: ReadonlyMap<string, string>): Promise<void> {
  try {
    await mkdir(directory, { recursive: true });
    if ((await readdir(directory)).length > 0) throw new UsageError(`${directory} is not empty`);
  } catch (error) {
    if (isSystemError(error, 'EEXIST') || isSystemError(error, 'ENOTDIR'))
      throw new UsageError(`${directory} is no folder`);
    throw error;
  }
  for (const [path, text] of files) {
    await mkdir(join(directory, dirname(path)), { recursive: true });
    await writeFile(join(directory, path), text, { flag: 'wx' });
  }
}
