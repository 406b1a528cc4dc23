import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type CommandOptions, run } from './command.js';

/** Milliseconds; a build takes 15 s on two cores. */
const BUILD_LIMIT_MS = 300_000;

/** How an executable begins. */
const ELF = Buffer.from('\x7fELF', 'latin1');

/** Modules of the kernel's own sources that Debian's kernels come without, in the order in which they need each other. */
export const SIMULATORS = ['vringh', 'vdpa_sim', 'vdpa_sim_net', 'vdpa_sim_blk', 'vp_vdpa'];

/**
 * Packages with what the kernel's own build tools are linked against, in apt's notation. Only kernels of a newer Debian
 * need them: tools of the installed one run as they are.
 */
export const TOOL_LIBRARIES = ['libc6', 'libelf1t64', 'zlib1g', 'libzstd1', 'libssl3t64'];

/**
 * Builds the simulators from a tree into which the packages for building were unpacked; gives the folder with the modules.
 * `addPackages` unpacks further ones there. Rejects with the compiler's output.
 */
export async function buildSimulators(
  tree: string,
  release: string,
  addPackages: (packages: readonly string[]) => Promise<void>,
  signal: AbortSignal,
): Promise<string> {
  const options = { limitMs: BUILD_LIMIT_MS, signal };
  const usrSrc = join(tree, 'usr/src');
  const headers = join(usrSrc, `linux-headers-${release}`);
  await adaptTools(tree, addPackages, options);
  // The headers' makefile names its other half where it would be installed.
  const makefile = join(headers, 'Makefile');
  const text = readFileSync(makefile, 'utf8');
  writeFileSync(makefile, text.replaceAll('/usr/src/linux-headers', join(usrSrc, 'linux-headers')));
  const archive = readdirSync(usrSrc).find((name) => /^linux-source-.*\.tar\.xz$/.test(name));
  if (!archive) throw new Error(`no sources in ${usrSrc}`);
  const members = ['*/drivers/vdpa/*', '*/drivers/vhost/*'];
  await run('tar', ['xJf', archive, '--strip-components=2', '--wildcards', ...members], {
    ...options,
    directory: usrSrc,
  });
  const work = join(tree, 'simulators');
  for (const folder of ['vhost', 'vdpa/vdpa_sim', 'vdpa/virtio_pci'])
    cpSync(join(usrSrc, folder), work, { recursive: true });
  writeFileSync(join(work, 'Kbuild'), `obj-m := ${SIMULATORS.map((name) => `${name}.o`).join(' ')}\n`);
  const settings = [
    // The installed compiler, whichever the kernel was built by; one that cannot align all functions aligns most.
    ...['CC=gcc', 'CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT='],
    // Debian's kernels have type information for BPF, which takes a tool of its own to make for a module.
    'CONFIG_DEBUG_INFO_BTF_MODULES=',
  ];
  await run(
    'make',
    ['-C', headers, `M=${work}`, `-j${availableParallelism()}`, ...settings, 'modules'],
    options,
  );
  const built = join(tree, 'built');
  mkdirSync(built);
  for (const name of SIMULATORS) cpSync(join(work, `${name}.ko`), join(built, `${name}.ko`));
  await run('strip', ['--strip-debug', ...SIMULATORS.map((name) => join(built, `${name}.ko`))], options);
  return built;
}

/** Has those of the kernel's build tools that this system's libraries are too old for run with libraries of their own. */
async function adaptTools(
  tree: string,
  addPackages: (packages: readonly string[]) => Promise<void>,
  options: CommandOptions,
): Promise<void> {
  const usrLib = join(tree, 'usr/lib');
  const candidates = readdirSync(usrLib, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.parentPath.includes('/linux-kbuild-'))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => statSync(path).mode & 0o100 && readFileSync(path).subarray(0, 4).equals(ELF));
  const strangers: string[] = [];
  for (const path of candidates) {
    // It complains on standard error, of versions of symbols, and may succeed nevertheless.
    const complaints = await run('sh', ['-c', 'ldd "$0" 2>&1', path], options).catch(
      (error) => error.message,
    );
    if (`${complaints}`.includes('not found')) strangers.push(path);
  }
  if (!strangers.length) return;
  await addPackages(TOOL_LIBRARIES);
  const libraries = join(usrLib, 'x86_64-linux-gnu');
  for (const path of strangers) {
    renameSync(path, `${path}.elf`);
    const words = `"${libraries}/ld-linux-x86-64.so.2" --library-path "${libraries}" "${path}.elf" "$@"`;
    writeFileSync(path, `#!/bin/sh\nexec ${words}\n`, { mode: 0o755 });
  }
}
