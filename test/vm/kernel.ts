import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { Apt, debianVersion } from './apt.js';
import type { Cache, CachedKernel } from './cache.js';
import { run } from './command.js';
import { CpioArchive } from './cpio.js';
import { requireToPrepare } from './requirements.js';
import { belongsToSeries, type KernelPackages, resolveKernel } from './resolver.js';
import { buildSimulators, SIMULATORS } from './simulators.js';

/** Milliseconds for one tool that packs modules. */
const PACKING_LIMIT_MS = 60_000;
/** Changes when the same modules are to be packed in another way. */
const PACKING = 2;
/** Modules of the guest; those that they need come with them. A name that a kernel does not know is built into it, or absent. */
const MODULES = [
  ...['vdpa', 'vduse', 'vhost_vdpa', 'virtio_vdpa', 'virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_iommu'],
  ...['9p', '9pnet_virtio', 'overlay', 'ext4', 'xfs', 'loop', 'null_blk', 'ublk_drv'],
  ...['tun', 'veth', 'bridge', 'af_packet'],
];

/** No archive has a kernel of the series. */
export class SeriesUnavailable extends Error {}

/** How a kernel is to be had. */
export interface KernelOptions {
  /** Ask the archive for a newer point release, even if there is a kernel. */
  update: boolean;
  signal: AbortSignal;
  /** Told what takes long. */
  progress(text: string): void;
}

/** Files of a cached kernel. */
export const VMLINUZ = 'vmlinuz';
export const MODULES_ARCHIVE = 'modules.cpio';

/**
 * The kernels of some series, in order: from the cache, else from Debian's archive. A series that there is none of is an
 * error in its place. Takes the cache's lock. Rejects with MissingRequirement if this machine lacks a tool.
 */
export async function getKernels(
  names: readonly string[],
  cache: Cache,
  options: KernelOptions,
): Promise<(CachedKernel | SeriesUnavailable)[]> {
  const release = await cache.lock(options.signal);
  try {
    let apt: Apt | undefined;
    const kernels: (CachedKernel | SeriesUnavailable)[] = [];
    for (const series of names) {
      const cached = options.update ? undefined : cache.load(series, recipe());
      if (!cached && !apt) {
        requireToPrepare();
        options.progress('getting lists of packages');
        apt = new Apt(join(cache.folder, 'apt'), options.signal);
        await apt.update();
      }
      kernels.push(cached ?? (await makeKernel(series, cache, apt!, options)));
    }
    return kernels;
  } finally {
    release();
  }
}

const recipe = () =>
  createHash('sha256')
    .update(JSON.stringify([PACKING, MODULES, SIMULATORS]))
    .digest('hex');

async function makeKernel(
  series: string,
  cache: Cache,
  apt: Apt,
  { signal, progress }: KernelOptions,
): Promise<CachedKernel | SeriesUnavailable> {
  const stanzas = await apt.stanzas((name) => belongsToSeries(name, series));
  const packages = resolveKernel(series, stanzas, debianVersion());
  if (!packages) return new SeriesUnavailable(`no archive has a kernel ${series}`);
  const known = cache.load(series, recipe());
  if (known?.release === packages.release) return known;
  progress(`${series}: getting ${packages.image.join(', ')}`);
  const tree = join(cache.workFolder(), series);
  try {
    await apt.unpack(packages.image, tree);
    const built = await tryBuild(series, packages, join(cache.folder, 'work', 'build'), apt, {
      signal,
      progress,
    });
    progress(`${series}: packing modules`);
    const contents = {
      [VMLINUZ]: readFileSync(findVmlinuz(tree, packages.release)),
      [MODULES_ARCHIVE]: await packModules(tree, packages.release, built, signal),
    };
    const simulators = built instanceof Error ? built.message : true;
    return cache.store(series, { release: packages.release, recipe: recipe(), simulators, contents });
  } finally {
    rmSync(join(cache.folder, 'work'), { recursive: true, force: true });
  }
}

/** Folder with the simulators, or why there is none: most tests do without. */
async function tryBuild(
  series: string,
  packages: KernelPackages,
  tree: string,
  apt: Apt,
  { signal, progress }: Pick<KernelOptions, 'signal' | 'progress'>,
): Promise<string | Error> {
  if (!packages.build) return new Error(`the archive lacks headers or sources of ${packages.release}`);
  progress(`${series}: building ${SIMULATORS.join(', ')}`);
  try {
    await apt.unpack(packages.build, tree);
    return await buildSimulators(tree, packages.release, (more) => apt.unpack(more, tree), signal);
  } catch (error) {
    if (signal.aborted) throw error;
    progress(`${series}: ${(error as Error).message}`);
    return new Error(`${SIMULATORS.join(', ')} do not build here for ${packages.release}`);
  }
}

function findVmlinuz(tree: string, release: string): string {
  const modules = join(tree, 'lib/modules', release);
  const places = [
    join(tree, `boot/vmlinuz-${release}`),
    join(modules, 'vmlinuz'),
    join(modules, 'vmlinuz.unsigned'),
  ];
  const path = places.find((place) => existsSync(place));
  if (!path) throw new Error(`no vmlinuz among ${places.join(', ')}`);
  return path;
}

/** An archive of the guest's modules, unpacked, since the loader that runs first cannot, with their index. */
async function packModules(
  tree: string,
  release: string,
  built: string | Error,
  signal: AbortSignal,
): Promise<Buffer> {
  const options = { limitMs: PACKING_LIMIT_MS, signal };
  const from = join(tree, 'lib/modules', release);
  const stage = join(tree, 'stage');
  const to = join(stage, 'lib/modules', release);
  mkdirSync(to, { recursive: true });
  await run('depmod', ['-b', tree, release], options);
  // Fails if one is built in or absent: the tests that need it say so.
  const words = ['-d', tree, '-S', release, '--all', '--show-depends', ...MODULES];
  const plan = await run('sh', ['-c', 'modprobe "$@" || true', 'sh', ...words], options);
  const paths = new Set([...plan.toString().matchAll(/^insmod (\S+)/gm)].map(([, path]) => path!));
  const packed: string[] = [];
  for (const path of paths) {
    const target = join(to, relative(from, path));
    mkdirSync(dirname(target), { recursive: true });
    cpSync(path, target);
    if (target.endsWith('.xz')) packed.push(target);
  }
  if (packed.length) await run('xz', ['-d', ...packed], options);
  if (!(built instanceof Error)) cpSync(built, join(to, 'extra'), { recursive: true });
  for (const name of ['modules.builtin', 'modules.builtin.modinfo', 'modules.order'])
    cpSync(join(from, name), join(to, name));
  await run('depmod', ['-b', stage, release], options);
  const archive = new CpioArchive();
  const files = readdirSync(stage, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  for (const path of files.sort()) archive.file(relative(stage, path), readFileSync(path));
  return archive.toBuffer();
}
