import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';
import { Module } from '../host/aperture/web-assembly.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Changes a source file, given by its path in the repository, before it is compiled. */
export type Edit = (path: string, source: string) => string;

export interface BuildOptions {
  /** More options of the compiler. */
  options?: string[];
  edit?: Edit;
  /** Changes the module, once it is compiled. */
  pass?: (binary: Uint8Array) => Uint8Array;
  /** Told the module in text form. */
  onText?: (wat: string) => void;
}

/** Compiles an AssemblyScript module of the repository as engine.wasm is compiled for release, without writing a file. */
export async function buildAssembly(entry: string, options: BuildOptions = {}): Promise<Module> {
  return new Module(await compileAssembly(entry, options));
}

/** The same, as the bytes of the binary. */
export async function compileAssembly(
  entry: string,
  { options = [], edit, pass, onText }: BuildOptions = {},
): Promise<Uint8Array> {
  let binary: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    [entry, '--target', 'release', '--textFile', 'module.wat', ...options, '-o', 'module.wasm'],
    {
      readFile: (name, baseDir) => {
        try {
          const source = readFileSync(join(root, baseDir, name), 'utf8');
          return edit && name.endsWith('.ts') ? edit(name, source) : source;
        } catch {
          return null;
        }
      },
      writeFile: (name, contents) => {
        if (name.endsWith('.wasm')) binary = contents as Uint8Array;
        else onText?.(contents as string);
      },
      listFiles: () => null,
    },
  );
  if (error || !binary) throw new Error(`${error?.message ?? 'no output'}\n${stderr.toString()}`);
  const bytes = Uint8Array.from(binary);
  return pass ? pass(bytes) : bytes;
}
