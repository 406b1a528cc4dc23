import { spawn } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import { accessSync, constants, type Stats, statSync } from 'node:fs';
import { copyFile, cp, mkdir, open, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UsageError } from './arguments.js';
import type { TemporaryDirectory } from './temporary-directory.js';
import { formatBytes } from './units.js';

/** Bytes; the unit of a virtio-blk capacity. */
export const SECTOR_BYTES = 512;
/** Bytes written at once. */
const CHUNK_BYTES = 2 ** 20;
/** Part of a file system that files may fill: the rest is for its own tables. */
const FILES_SHARE = 0.6;
/** The folder of this package's own code: real files that are always there. */
const PACKAGE_CODE = fileURLToPath(new URL('../../', import.meta.url));

/** A disk image on the machine's file system. */
export interface Image {
  path: string;
  bytes: number;
  kind: 'given' | 'ext4' | 'seeded' | 'scratch';
  /** For people: what is in it. */
  contents: string;
}

/** The user's own image, as given with `--option`. Throws UsageError for what cannot be served. */
export function givenImage(option: string, path: string): Image {
  let stats: Stats;
  try {
    stats = statSync(path);
    if (stats.isDirectory()) throw new UsageError(`--${option} ${path}: is a directory`);
    if (!stats.isFile()) throw new UsageError(`--${option} ${path}: is not a regular file`);
    accessSync(path, constants.R_OK);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`--${option} ${path}: ${reasonOf(error as NodeJS.ErrnoException)}`);
  }
  if (stats.size === 0) throw new UsageError(`--${option} ${path}: is empty`);
  if (stats.size % SECTOR_BYTES !== 0)
    throw new UsageError(
      `--${option} ${path}: has ${stats.size} bytes, which is no multiple of ${SECTOR_BYTES}`,
    );
  return { path, bytes: stats.size, kind: 'given', contents: 'your image' };
}

/** An image of our own: a file system with real files where mke2fs is, else pseudo-random bytes that are always the same. */
export async function makeImage(
  directory: TemporaryDirectory,
  bytes: number,
  signal: AbortSignal,
): Promise<Image> {
  if (bytes > directory.free())
    throw new UsageError(
      `--size ${formatBytes(bytes)}: ${directory.path} has ${formatBytes(directory.free())} left; set TMPDIR to where there is more`,
    );
  const path = directory.file('disk.img');
  const files = await makeFileSystem(directory, path, bytes, signal);
  if (files !== undefined)
    return { path, bytes, kind: 'ext4', contents: `ext4 with ${formatBytes(files)} of real files` };
  await fillSeeded(path, bytes, signal);
  return { path, bytes, kind: 'seeded', contents: 'seeded pseudo-random bytes' };
}

/** An empty image of `bytes` to write on, where the image that was read is not ours to change. */
export async function makeScratchImage(directory: TemporaryDirectory, bytes: number): Promise<Image> {
  const path = directory.file('scratch.img');
  await writeFile(path, '');
  await truncate(path, bytes);
  return { path, bytes, kind: 'scratch', contents: 'zeroes' };
}

/** Makes an ext4 file system: bytes of the files in it, or undefined where this machine or this size does not allow it. */
async function makeFileSystem(
  directory: TemporaryDirectory,
  path: string,
  bytes: number,
  signal: AbortSignal,
): Promise<number | undefined> {
  const files = directory.file('files');
  await mkdir(files);
  try {
    let room = Math.min(bytes * FILES_SHARE, directory.free() - bytes);
    let used = 0;
    const take = async (size: number, copy: () => Promise<void>) => {
      signal.throwIfAborted();
      if (size > room) return;
      await copy();
      room -= size;
      used += size;
    };
    await take(await treeBytes(PACKAGE_CODE), () =>
      cp(PACKAGE_CODE, join(files, 'ringbell'), { recursive: true }),
    );
    await take((await stat(process.execPath)).size, () =>
      copyFile(process.execPath, join(files, 'node'), constants.COPYFILE_FICLONE),
    );
    if (used === 0) return undefined;
    const made = await succeeds(
      'mke2fs',
      ['-q', '-F', '-t', 'ext4', '-L', 'ringbell', '-d', files, path, `${Math.floor(bytes / 1024)}k`],
      signal,
    );
    if (!made) return undefined;
    await truncate(path, bytes);
    return used;
  } finally {
    await rm(files, { recursive: true, force: true });
  }
}

/** Runs a program with its output thrown away: whether it is there and succeeds. */
function succeeds(program: string, options: readonly string[], signal: AbortSignal): Promise<boolean> {
  // Debian keeps mke2fs where only root's PATH looks.
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
  return new Promise((resolve, reject) => {
    const child = spawn(program, options, { stdio: 'ignore', env, signal, killSignal: 'SIGKILL' });
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (error.name === 'AbortError') return;
      if (error.code === 'ENOENT') resolve(false);
      else reject(error);
    });
    // Aborted or not, the directory may only be removed when nobody writes into it any more.
    child.on('close', (code) => (signal.aborted ? reject(signal.reason) : resolve(code === 0)));
  });
}

/** Fills a file with the key stream of AES-128 in counter mode under a fixed key: fast, incompressible, the same everywhere. */
async function fillSeeded(path: string, bytes: number, signal: AbortSignal): Promise<void> {
  const cipher = createCipheriv('aes-128-ctr', 'ringbell-seed-01', Buffer.alloc(16));
  const zeroes = Buffer.alloc(CHUNK_BYTES);
  const file = await open(path, 'w');
  try {
    for (let offset = 0; offset < bytes; offset += CHUNK_BYTES) {
      signal.throwIfAborted();
      const chunk = cipher.update(zeroes.subarray(0, Math.min(CHUNK_BYTES, bytes - offset)));
      await file.write(chunk, 0, chunk.length, offset);
    }
  } finally {
    await file.close();
  }
}

/** Bytes of all files below a folder. */
async function treeBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  let bytes = 0;
  for (const entry of entries)
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  return bytes;
}

function reasonOf(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ENOENT':
      return 'no such file';
    case 'EACCES':
      return 'permission denied';
    default:
      return error.message;
  }
}
