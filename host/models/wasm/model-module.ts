import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { MODEL_ABI } from '../../../assembly/layout.js';
import { APERTURE_MAX_BYTES } from '../../aperture/aperture.js';
import { Module } from '../../aperture/web-assembly.js';
import { RingbellError } from '../../errors.js';
import { refusal } from './binary-reader.js';
import { type Limits, type ModuleExport, type ModuleSections, readSections } from './module-sections.js';

/** Functions of the engine that a model's module may import: those that assembly/library/engine.ts declares. */
export const ENGINE_FUNCTIONS: readonly string[] = [
  'copy',
  'deviceBreak',
  'devicePop',
  'devicePush',
  'deviceReturn',
  'dirtyMark',
];
/** Pages of 64 KiB: all that linear addresses reach. */
const APERTURE_PAGES = APERTURE_MAX_BYTES / 65536;
const SERVE_TYPE = '(i32, i32, i32) → i32';
/** Bytes of state at most, of the device and of each queue: more belongs into a file. */
const STATE_LIMIT = 2 ** 24;

/** A device model's module that has been judged. */
export interface ModelModule {
  readonly module: Module;
  /** Bytes of the state of the device, and of the state of each queue. */
  readonly stateBytes: number;
  readonly queueStateBytes: number;
}

/**
 * Reads, judges and compiles the module of a model: bytes, a path, or a file: URL. Throws a TypeError for what is none of
 * these, a SystemError for a file that cannot be read, ERR_MODULE for what is no WebAssembly module or has what it must not
 * have, ERR_MODULE_IMPORT, ERR_MODULE_EXPORT, ERR_MODULE_ABI.
 */
export function loadModelModule(source: Uint8Array | ArrayBuffer | string | URL): ModelModule {
  const bytes = readModule(source);
  let module: Module;
  try {
    module = new Module(bytes);
  } catch (cause) {
    throw new RingbellError('ERR_MODULE', `no WebAssembly module: ${(cause as Error).message}`, { cause });
  }
  const sections = readSections(bytes);
  if (sections.memory)
    throw refusal('a memory of its own, in place of env.memory: compile it with --importMemory');
  if (sections.data)
    throw refusal(
      "data segments, which each thread would write over the device's memory: no strings, no arrays",
    );
  if (sections.start)
    throw refusal('code that runs when it is loaded: top-level variables need constants as initialisers');
  checkImports(sections);
  return { module, ...checkExports(sections.exports) };
}

function readModule(source: unknown): Uint8Array {
  // A copy: what is judged is what is compiled.
  if (source instanceof Uint8Array || source instanceof ArrayBuffer)
    return Uint8Array.from(new Uint8Array(source));
  if ((typeof source === 'string' && source !== '') || source instanceof URL) return readFileSync(source);
  throw new TypeError(`module must be bytes, a path or a file: URL, not ${inspect(source)}`);
}

function checkImports({ imports }: ModuleSections): void {
  for (const { module, name, kind, limits } of imports) {
    if (module === 'env' && name === 'memory' && limits) checkMemory(limits);
    else if (module !== 'engine' || kind !== 'function' || !ENGINE_FUNCTIONS.includes(name))
      throw new RingbellError(
        'ERR_MODULE_IMPORT',
        `the module imports the ${kind} ${module}.${name}: there are env.memory and engine.${ENGINE_FUNCTIONS.join(', engine.')}`,
      );
  }
}

function checkMemory({ minimum, maximum, shared }: Limits): void {
  const refuse = (message: string) => {
    throw new RingbellError('ERR_MODULE_IMPORT', `the module must declare its memory ${message}`);
  };
  if (!shared) refuse('as shared: compile it with --sharedMemory');
  if (maximum !== APERTURE_PAGES)
    refuse(`with at most ${APERTURE_PAGES} pages: compile it with --maximumMemory ${APERTURE_PAGES}`);
  // An access to an address that is known when it is compiled, and below the least size, is compiled as one that cannot
  // fault: where the aperture is not accessible it would end the process.
  if (minimum !== 0) refuse('with at least 0 pages: compile it with --initialMemory 0');
}

function checkExports(exports: Map<string, ModuleExport>): Omit<ModelModule, 'module'> {
  const abi = constant(exports, 'abi');
  if (abi !== MODEL_ABI)
    throw new RingbellError(
      'ERR_MODULE_ABI',
      `the module was compiled against version ${abi} of ringbell/assembly, this is version ${MODEL_ABI}: compile it again`,
    );
  const serve = exports.get('serve');
  if (serve?.kind !== 'function' || serve.type !== SERVE_TYPE)
    throw new RingbellError(
      'ERR_MODULE_EXPORT',
      `the module must export a function serve of type ${SERVE_TYPE}`,
    );
  return {
    stateBytes: stateBytes(exports, 'stateBytes'),
    queueStateBytes: exports.has('queueStateBytes') ? stateBytes(exports, 'queueStateBytes') : 0,
  };
}

function stateBytes(exports: Map<string, ModuleExport>, name: string): number {
  const bytes = constant(exports, name);
  if (bytes < 0 || bytes > STATE_LIMIT)
    throw new RingbellError(
      'ERR_MODULE_EXPORT',
      `${name} must be at most ${STATE_LIMIT} bytes, not ${bytes >>> 0}`,
    );
  return bytes;
}

/** The value of an exported constant. */
function constant(exports: Map<string, ModuleExport>, name: string): number {
  const found = exports.get(name);
  if (found?.kind !== 'global' || found.value === undefined)
    throw new RingbellError('ERR_MODULE_EXPORT', `the module must export ${name}, a constant of type i32`);
  return found.value;
}
