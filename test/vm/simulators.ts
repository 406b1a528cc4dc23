import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { run } from './command.js';

/** Milliseconds; a build takes 15 s on two cores. */
const BUILD_LIMIT_MS = 300_000;

/** Modules of the kernel's own sources that Debian's kernels come without, in the order in which they need each other. */
export const SIMULATORS = ['vringh', 'vdpa_sim', 'vdpa_sim_net', 'vdpa_sim_blk', 'vp_vdpa'];

/**
 * Builds the simulators from a tree into which the packages for building were unpacked; gives the folder with the modules.
 * Rejects with the compiler's output.
 */
export async function buildSimulators(tree: string, release: string, signal: AbortSignal): Promise<string> {
  const options = { limitMs: BUILD_LIMIT_MS, signal };
  const usrSrc = join(tree, 'usr/src');
  const headers = join(usrSrc, `linux-headers-${release}`);
  // The headers' makefile names its other half where it would be installed.
  const makefile = join(headers, 'Makefile');
  writeFileSync(
    makefile,
    readFileSync(makefile, 'utf8').replaceAll('/usr/src/linux-headers', join(usrSrc, 'linux-headers')),
  );
  const archive = readdirSync(usrSrc).find((name) => /^linux-source-.*\.tar\.xz$/.test(name));
  if (!archive) throw new Error(`no sources in ${usrSrc}`);
  await run(
    'tar',
    ['xJf', archive, '--strip-components=2', '--wildcards', '*/drivers/vdpa/*', '*/drivers/vhost/*'],
    {
      ...options,
      directory: usrSrc,
    },
  );
  const work = join(tree, 'simulators');
  mkdirSync(work);
  const from = [join(usrSrc, 'vhost'), join(usrSrc, 'vdpa/vdpa_sim'), join(usrSrc, 'vdpa/virtio_pci')];
  for (const folder of from) cpSync(folder, work, { recursive: true });
  writeFileSync(join(work, 'Kbuild'), `obj-m := ${SIMULATORS.map((name) => `${name}.o`).join(' ')}\n`);
  // Debian's kernels have type information for BPF, which takes a tool of its own to make for a module.
  const words = [
    '-C',
    headers,
    `M=${work}`,
    `-j${availableParallelism()}`,
    'CC=gcc',
    'CONFIG_DEBUG_INFO_BTF_MODULES=',
    'modules',
  ];
  await run('make', words, options);
  const modules = SIMULATORS.map((name) => join(work, `${name}.ko`));
  await run('strip', ['--strip-debug', ...modules], options);
  const built = join(tree, 'built');
  mkdirSync(built);
  for (const [index, path] of modules.entries()) cpSync(path, join(built, `${SIMULATORS[index]}.ko`));
  return built;
}
