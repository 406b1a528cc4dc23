import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as layout from '../assembly/layout.js';
import * as virtio from '../assembly/virtio.js';

/** The repository: sources of the benchmark's own parts are built from there, not from dist. */
const root = fileURLToPath(new URL('../../', import.meta.url));
const nativeFolder = join(root, 'bench/native');
const addonFile = join(nativeFolder, 'build/Release/reference.node');
const require = createRequire(import.meta.url);

/** Where the build puts the WebAssembly module made from bench/assembly/NAME.ts. */
export function assemblyFile(name: string): string {
  return join(root, `dist/bench/${name}.wasm`);
}

/** The C++ references, built on first use. Throws when there is no compiler. */
export function loadReference(): unknown {
  if (isOlder(addonFile, [nativeFolder, join(root, 'assembly')])) buildNative();
  return require(addonFile);
}

/** Builds whatever part of the benchmark is older than its sources. Throws with the compiler's output on failure. */
export function buildAll(): void {
  if (isOlder(addonFile, [nativeFolder, join(root, 'assembly')])) buildNative();
  for (const name of ['ring', 'copy'])
    if (isOlder(assemblyFile(name), [join(root, 'bench/assembly'), join(root, 'assembly')])) buildAssembly(name);
}

function buildNative(): void {
  // The constants of the layout as C++ sees them: written from what everybody else imports.
  const constants = Object.entries({ ...layout, ...virtio }).map(
    ([name, value]) => `constexpr uint32_t ${name} = ${value};\n`,
  );
  const generated = join(nativeFolder, 'build/generated');
  const header = ['#pragma once\n\n#include <cstdint>\n\nnamespace ringbell::bench {\n\n', ...constants];
  const gyp = require.resolve('node-gyp/bin/node-gyp.js');
  // Headers of a distribution's Node lie beside it; otherwise node-gyp fetches those of this version.
  const prefix = dirname(dirname(process.execPath));
  const headers = existsSync(join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : [];
  run([gyp, 'configure', ...headers]);
  mkdirSync(generated, { recursive: true });
  writeFileSync(join(generated, 'constants.h'), [...header, '\n}  // namespace ringbell::bench\n'].join(''));
  run([gyp, 'build']);
}

function buildAssembly(name: string): void {
  run([
    require.resolve('assemblyscript/bin/asc.js'),
    `bench/assembly/${name}.ts`,
    '--config=asconfig.json',
    '--target=release',
    `--outFile=${assemblyFile(name)}`,
    `--textFile=${assemblyFile(name).replace('.wasm', '.wat')}`,
  ]);
}

function run(args: string[]): void {
  const cwd = args[0]!.includes('node-gyp') ? nativeFolder : root;
  try {
    execFileSync(process.execPath, args, { cwd, stdio: 'pipe', encoding: 'utf8' });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`building the benchmark failed:\n${stdout}${stderr}`);
  }
}

/** Whether `file` is missing, or older than a source in `folders`. */
function isOlder(file: string, folders: string[]): boolean {
  if (!existsSync(file)) return true;
  const built = statSync(file).mtimeMs;
  return folders.some((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).some(
      (name) => /\.(ts|cc|h|gyp)$/.test(name) && !name.startsWith('build') && statSync(join(folder, name)).mtimeMs > built,
    ),
  );
}
