import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as layout from '../assembly/layout.js';
import * as virtio from '../assembly/virtio.js';
import { buildWithNodeGyp } from '../host/native/build.js';
import type { Queue } from './reference/ring.js';

/** The repository: sources of the benchmark's own parts are built from there, not from dist. */
const root = fileURLToPath(new URL('../../', import.meta.url));
const nativeFolder = join(root, 'bench/native');
const addonFile = join(nativeFolder, 'build/Release/reference.node');
const require = createRequire(import.meta.url);

/** Where the build puts the WebAssembly module made from bench/assembly/NAME.ts. */
export function assemblyFile(name: string): string {
  return join(root, `dist/bench/${name}.wasm`);
}

/** A driver and a C++ device on one ring: bench/native/addon.cc. */
export interface ReferenceRing {
  /** Chains that fit on the ring at once. */
  readonly slots: number;
  /** First VERDICT_* that the device gave. */
  readonly verdict: number;
  /** The device begins at this index of both rings. */
  start(index: number): void;
  /** The driver makes up to `count` chains available, and the clock starts: how many. */
  fill(count: number): number;
  /** The device serves the ring in bursts until it is empty: chains served. */
  drain(burst: number): number;
  /** The clock stops, and the driver takes back every used element: how many. */
  reap(): number;
  /** The device pops one chain into {head, readable, segments, linear, bytes, …}: whether there was one. */
  pop(words: Uint32Array): boolean;
  /** Nanoseconds between fills and reaps since the last call. */
  takeElapsed(): number;
  /** Sum over linear ^ bytes of every segment since the last call, modulo 2^32. */
  takeDigest(): number;
}

/** The same on a packed ring. */
export interface PackedReferenceRing extends Omit<ReferenceRing, 'start' | 'pop'> {
  /** Driver and device begin anew. */
  start(): void;
}

export interface ReferenceRingConfig extends Queue {
  /** Descriptors of the driver's chains. */
  descriptors: number;
  /** Bytes of a single descriptor, and of all but the first, which is a header's, of several. */
  dataBytes: number;
  /** IOVA of a buffer for each descriptor of the queue, and as many more as a chain has. */
  buffers: BigUint64Array;
  /** Where the driver puts indirect tables; an IOVA of 0 for none. */
  tablesIova: bigint;
  tablesLinear: number;
  /** Linear address that the device copies each segment to; 0 for no copies. */
  copyTo: number;
}

export interface PackedReferenceRingConfig extends ReferenceRingConfig {
  /** Bytes that the device reports as written. */
  usedLength: number;
}

/** A block driver and a memory-backed disk on one queue, both in C++. */
export interface ReferenceDisk {
  /** Makes as many round trips of a batch of the submission table: how many requests completed. */
  loop(submissions: number, completions: number, batch: number, times: number): number;
}

export interface ReferenceDiskConfig extends Queue {
  /** Linear address of the slots' shared memory, in the first region. */
  slots: number;
  /** Linear address of the disk, and its size. */
  disk: number;
  sectors: number;
}

/** The addon made from bench/native. */
export interface Reference {
  PackedReferenceRing: new (memory: Uint8Array, config: PackedReferenceRingConfig) => PackedReferenceRing;
  ReferenceDisk: new (memory: Uint8Array, config: ReferenceDiskConfig) => ReferenceDisk;
  ReferenceRing: new (memory: Uint8Array, config: ReferenceRingConfig) => ReferenceRing;
  /** As many calls of memcpy, through a pointer. */
  copyLoop(memory: Uint8Array, to: number, from: number, bytes: number, times: number): void;
}

/** The C++ references, which `buildReference` has built. */
export function loadReference(): Reference {
  return require(addonFile) as Reference;
}

/** Builds whatever part of the benchmark is older than its sources. Throws with the compiler's output on failure. */
export function buildAll(): void {
  buildReference();
  for (const name of ['ring', 'copy', 'round-trip', 'doorbell', 'model', 'null']) buildModule(name);
}

/** The same for the C++ references alone. Not by two processes at once: they would use one folder. */
export function buildReference(): void {
  buildWithNodeGyp(nativeFolder, addonFile, join(nativeFolder, 'build/constants.h'), constantsHeader());
}

/** The same for the WebAssembly module made from bench/assembly/NAME.ts. */
export function buildModule(name: string): void {
  const sources = ['bench/assembly', 'assembly', 'assembly.ts'].map((path) => join(root, path));
  if (isOlder(assemblyFile(name), sources)) compileModule(name);
}

/** The layout and the specification's constants in C++: written from what everybody else imports. */
function constantsHeader(): string {
  const constants = Object.entries({ ...layout, ...virtio }).map(
    ([name, value]) => `constexpr uint32_t ${name} = ${value};`,
  );
  return `// Generated from assembly/layout.ts and assembly/virtio.ts by bench/build.ts.
#pragma once

#include <cstdint>

namespace ringbell::bench {

${constants.join('\n')}

}  // namespace ringbell::bench
`;
}

function compileModule(name: string): void {
  const output = assemblyFile(name);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      require.resolve('assemblyscript/bin/asc.js'),
      `bench/assembly/${name}.ts`,
      '--config=asconfig.json',
      '--target=release',
      `--outFile=${output}`,
      `--textFile=${output.replace('.wasm', '.wat')}`,
    ],
    { cwd: root, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`asc failed\n${stdout}${stderr}`);
}

/** Whether `file` is missing, or older than one of `sources`, or than what lies in one that is a folder. */
function isOlder(file: string, sources: string[]): boolean {
  if (!existsSync(file)) return true;
  const built = statSync(file).mtimeMs;
  const isNewer = (path: string) => statSync(path).mtimeMs > built;
  return sources.some((source) =>
    statSync(source).isDirectory()
      ? readdirSync(source, { recursive: true, encoding: 'utf8' }).some((name) => isNewer(join(source, name)))
      : isNewer(source),
  );
}
