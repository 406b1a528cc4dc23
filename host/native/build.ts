/**
 * Builds the native addon into native/build and copies it to prebuilds/, unless it is newer than its sources:
 * `node dist/host/native/build.js`. Needs a C++ compiler, make, Python and Node's headers; no network where the headers
 * are installed beside node, or where npm_config_nodedir says where they are.
 */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as layout from '../../assembly/layout.js';
import { BUILT_ADDON, PACKAGE_ROOT, prebuiltAddon } from './locate.js';

const SOURCES = join(PACKAGE_ROOT, 'native');
/** What the addon needs to know of the layout: file I/O tables, and nothing of virtio. */
const LAYOUT_NAMES = /^(PAGE_SIZE|IO_.*|SEGMENT_.*)$/;

/** assembly/layout.ts in C++, as far as the addon needs it. */
export function layoutHeader(): string {
  const constants = Object.entries(layout)
    .filter(([name]) => LAYOUT_NAMES.test(name))
    .map(([name, value]) => `constexpr uint32_t ${name} = ${value};`);
  return `// Generated from assembly/layout.ts by host/native/build.ts.
#ifndef RINGBELL_LAYOUT_H_
#define RINGBELL_LAYOUT_H_

#include <limits.h>

#include <cstdint>

// musl's <limits.h> has a macro of this name.
#undef PAGE_SIZE

namespace ringbell::layout {

${constants.join('\n')}

}  // namespace ringbell::layout

#endif  // RINGBELL_LAYOUT_H_
`;
}

/** Writes only a change, so that make rebuilds only after one. */
function writeIfChanged(path: string, text: string): void {
  if (existsSync(path) && readFileSync(path, 'utf8') === text) return;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

function modified(path: string): number {
  return existsSync(path) ? statSync(path).mtimeMs : 0;
}

/** Folder that holds include/node/node.h; undefined has node-gyp download the headers. */
function nodeDirectory(): string | undefined {
  const candidates = [process.env.npm_config_nodedir, dirname(dirname(process.execPath))];
  return candidates.find((path) => path && existsSync(join(path, 'include/node/node.h')));
}

/** Path of node-gyp's program. Throws with what to do when it, or node-addon-api, is not installed. */
function nodeGyp(): string {
  const require = createRequire(import.meta.url);
  try {
    require.resolve('node-addon-api');
    return require.resolve('node-gyp/bin/node-gyp.js');
  } catch (cause) {
    throw new Error(
      'building the addon needs two packages: npm install --no-save node-gyp@12 node-addon-api@8',
      {
        cause,
      },
    );
  }
}

/**
 * Runs node-gyp in `folder` if `output` is older than a file there, or than `header`, which is written first: generated
 * text that the sources include. Throws an Error that carries node-gyp's output when the build fails.
 */
export function buildWithNodeGyp(folder: string, output: string, header: string, text: string): void {
  writeIfChanged(header, text);
  const sources = [...readdirSync(folder).map((name) => join(folder, name)), header];
  const newest = Math.max(
    ...sources.filter((path) => statSync(path).isFile()).map((path) => statSync(path).mtimeMs),
  );
  if (modified(output) >= newest) return;
  const nodedir = nodeDirectory();
  const args = [nodeGyp(), 'configure', 'build', '--release', '--jobs', 'max'];
  if (nodedir !== undefined) args.push(`--nodedir=${nodedir}`);
  const { status, error, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: folder,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`node-gyp failed\n${stdout}${stderr}${error ? error.message : ''}`);
  // make may have found nothing to do: as new as its sources all the same.
  utimesSync(output, new Date(), new Date());
}

/** Builds the addon if it is older than its sources. Returns its path in prebuilds/. Throws as `buildWithNodeGyp` does. */
export function buildAddon(): string {
  const target = prebuiltAddon();
  buildWithNodeGyp(SOURCES, BUILT_ADDON, join(SOURCES, 'build/layout.h'), layoutHeader());
  if (modified(target) < modified(BUILT_ADDON)) {
    mkdirSync(dirname(target), { recursive: true });
    // Renamed into place: a process that has the old one mapped goes on with the old one.
    copyFileSync(BUILT_ADDON, `${target}.new`);
    renameSync(`${target}.new`, target);
  }
  return target;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    buildAddon();
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
