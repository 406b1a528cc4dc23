import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, homedir } from 'node:os';
import { join } from 'node:path';
import { lockAny, type Release } from './lock.js';

/** Machines that run on this host at once: one a processor. */
export const SLOTS = availableParallelism();

/** What the cache says of a kernel in it. */
export interface Manifest {
  /** What `uname -r` prints in the guest. */
  release: string;
  /** SHA-256 of what it was made by: a kernel of another recipe is made again. */
  recipe: string;
  /** Whether the simulators of vDPA devices and vp_vdpa are among its modules; else why not. */
  simulators: true | string;
  /** SHA-256 of each file. */
  files: Record<string, string>;
}

/** A cached kernel whose files are what they were when they were made. */
export interface CachedKernel extends Manifest {
  contents: Record<string, Buffer>;
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Kernels that are ready to boot, for all checkouts of this user: `$RINGBELL_VM_CACHE`, else `ringbell/vm` in the XDG cache. */
export class Cache {
  readonly folder =
    process.env.RINGBELL_VM_CACHE ??
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'ringbell', 'vm');

  constructor() {
    mkdirSync(join(this.folder, 'slots'), { recursive: true });
  }

  /** Keeps other runs from the cache until the lock is released. */
  lock(signal: AbortSignal): Promise<Release> {
    return lockAny([join(this.folder, 'lock')], signal);
  }

  /**
   * Waits until fewer machines run on this host than SLOTS: more would exceed their limits in time. Tells `progress` if it
   * has to wait.
   */
  lockSlot(signal: AbortSignal, progress: (text: string) => void): Promise<Release> {
    return lockAny(this.#slots(), signal, () =>
      progress('waiting for a slot: other machines run on this host'),
    );
  }

  /** Waits until no other machine runs on this host, and keeps others from starting: for measurements. */
  async lockAllSlots(signal: AbortSignal): Promise<Release> {
    const releases: Release[] = [];
    const releaseAll = () => {
      for (const release of releases) release();
    };
    try {
      // In order: of two that want all, one gets the first.
      for (const slot of this.#slots()) releases.push(await lockAny([slot], signal));
    } catch (error) {
      releaseAll();
      throw error;
    }
    return releaseAll;
  }

  /** The kernel of a series, if it was made by this recipe and nobody has touched it since. */
  load(series: string, recipe: string): CachedKernel | undefined {
    const folder = this.#kernel(series);
    if (!existsSync(join(folder, 'manifest.json'))) return undefined;
    const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as Manifest;
    if (manifest.recipe !== recipe) return undefined;
    const contents: Record<string, Buffer> = {};
    for (const [name, sum] of Object.entries(manifest.files)) {
      if (!existsSync(join(folder, name))) return undefined;
      contents[name] = readFileSync(join(folder, name));
      if (sha256(contents[name]) !== sum) return undefined;
    }
    return { ...manifest, contents };
  }

  /** Replaces the kernel of a series. */
  store(series: string, kernel: Omit<CachedKernel, 'files'>): CachedKernel {
    const { contents, ...rest } = kernel;
    const files = Object.fromEntries(Object.entries(contents).map(([name, bytes]) => [name, sha256(bytes)]));
    const manifest: Manifest = { ...rest, files };
    const folder = this.#kernel(series);
    const fresh = this.workFolder();
    for (const [name, bytes] of Object.entries(contents)) writeFileSync(join(fresh, name), bytes);
    writeFileSync(join(fresh, 'manifest.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
    mkdirSync(join(this.folder, 'kernels'), { recursive: true });
    rmSync(folder, { recursive: true, force: true });
    renameSync(fresh, folder);
    return { ...manifest, contents };
  }

  /** An empty folder for work under the lock; what an interrupted run left there goes. */
  workFolder(): string {
    const folder = join(this.folder, 'work');
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    return folder;
  }

  #slots(): string[] {
    return Array.from({ length: SLOTS }, (_, index) => join(this.folder, 'slots', `${index + 1}`));
  }

  #kernel(series: string): string {
    return join(this.folder, 'kernels', series);
  }
}
