import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';
import { Module } from '../host/aperture/web-assembly.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * The engine as it is released, but for something: more `options` of the compiler, or other sources, each of which passes
 * through `change` with its path. Throws with what the compiler says.
 */
export async function compileVariant(
  options: readonly string[],
  change: (source: string, path: string) => string = (source) => source,
): Promise<Module> {
  let binary: Uint8Array | undefined;
  const release = ['assembly/index.ts', '--target', 'release', ...options, '-o', 'variant.wasm'];
  const { error, stderr } = await asc.main(release, {
    readFile: (name, baseDir) => {
      const path = join(root, baseDir, name);
      try {
        return change(readFileSync(path, 'utf8'), path);
      } catch {
        return null;
      }
    },
    writeFile: (name, contents) => {
      if (name.endsWith('.wasm')) binary = contents as Uint8Array;
    },
    listFiles: () => null,
  });
  if (error || !binary) throw new Error(`${error?.message ?? 'no output'}\n${stderr.toString()}`);
  return new Module(Uint8Array.from(binary));
}
