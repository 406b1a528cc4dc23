import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import { compileAssembly } from '../../../bench/build-assembly.js';
import { validate } from '../../../host/aperture/web-assembly.js';
import { Bus } from '../../../host/bus/index.js';
import { RingbellError } from '../../../host/errors.js';
import { readSections } from '../../../host/models/wasm/module-sections.js';
import { WasmModel } from '../../../host/models/wasm/wasm-model.js';
import { serve } from '../../../host/serve.js';
import { VIRTIO_ID_FS } from '../../../host/uapi/virtio.js';
import { rejects, within } from '../fixture.js';
import { binary, functionImport, I32, I64, memoryImport, type Parts } from './binary.js';

/** A module that does nothing, and is what a model's has to be. */
const SOUND = {
  types: [[[I32, I32, I32], [I32]]],
  imports: [memoryImport()],
  functions: [0],
  globals: [
    [I32, false, layout.MODEL_ABI],
    [I32, false, 300],
  ],
  exports: [
    ['serve', 0, 0],
    ['abi', 3, 0],
    ['stateBytes', 3, 1],
  ],
  code: [[0x41, 0]],
} satisfies Parts;

const manifest = { deviceId: VIRTIO_ID_FS };
const model = (module: Uint8Array) => new WasmModel({ module, manifest });

function refused(parts: Partial<Parts>, code: string, message: RegExp): void {
  const module = binary({ ...SOUND, ...parts });
  assert.ok(validate(module), 'it is valid WebAssembly');
  let error: unknown;
  try {
    model(module);
  } catch (caught) {
    error = caught;
  }
  assert.ok(error instanceof RingbellError, `expected ${code}, got ${error ?? 'success'}`);
  assert.is(error.code, code, error.message);
  assert.match(error.message, message);
}

/** `serve`, with these instructions before its result. */
const doing = (...instructions: number[]): Partial<Parts> => ({ code: [[...instructions, 0x41, 0]] });

test('the least of a module is accepted: as bytes, by path, by URL', () => {
  const module = binary(SOUND);
  model(module);
  new WasmModel({ module: module.buffer as ArrayBuffer, manifest });
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-'));
  try {
    const path = join(folder, 'model.wasm');
    writeFileSync(path, module);
    new WasmModel({ module: path, manifest });
    new WasmModel({ module: pathToFileURL(path), manifest });
    assert.throws(
      () => new WasmModel({ module: `${path}.not`, manifest }),
      (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('what is no module is refused', () => {
  for (const bytes of [new Uint8Array(0), Uint8Array.of(0, 0x61, 0x73, 0x6d), binary({ ...SOUND, code: [] })])
    assert.throws(
      () => model(bytes),
      (error: RingbellError) => error.code === 'ERR_MODULE' && error.cause instanceof Error,
    );
  for (const source of [undefined, 7, '', {}])
    assert.throws(() => new WasmModel({ module: source as never, manifest }), /must be bytes, a path/);
});

test('a module with a memory, a start function or data is refused', () => {
  refused({ imports: [], memory: [0, 1] }, 'ERR_MODULE', /memory of its own/);
  refused(
    { types: [...SOUND.types, [[], []]], functions: [0, 1], code: [...SOUND.code, []], start: 1 },
    'ERR_MODULE',
    /runs when it is loaded/,
  );
  refused({ data: [1, 2, 3] }, 'ERR_MODULE', /data segments/);
  refused({ data: [] }, 'ERR_MODULE', /data segments/);
});

test('a module whose memory is declared otherwise than the aperture is refused', () => {
  refused({ imports: [memoryImport(0, 65536, false)] }, 'ERR_MODULE_IMPORT', /--sharedMemory/);
  refused({ imports: [memoryImport(0, 65535)] }, 'ERR_MODULE_IMPORT', /--maximumMemory 65536/);
  refused({ imports: [memoryImport(1)] }, 'ERR_MODULE_IMPORT', /--initialMemory 0/);
});

test('every import but those of the library is refused', () => {
  const types: Parts['types'] = [...SOUND.types, [[], []]];
  const exports: Parts['exports'] = [['serve', 0, 1], ...SOUND.exports.slice(1)];
  for (const [module, name] of [
    ['env', 'abort'],
    ['engine', 'deviceStart'],
    ['engine', 'iotlbMap'],
    ['engine', ''],
    ['Engine', 'copy'],
    ['wasi_snapshot_preview1', 'fd_write'],
  ] as const)
    refused(
      { types, imports: [memoryImport(), functionImport(module, name, 1)], exports },
      'ERR_MODULE_IMPORT',
      new RegExp(`the function ${module}\\.${name}:`),
    );
  refused(
    { imports: [memoryImport(), ['engine', 'copy', [3, I32, 0]]] },
    'ERR_MODULE_IMPORT',
    /the global engine.copy/,
  );
  refused({ imports: [['engine', 'memory', [2, 3, 0, 1]]] }, 'ERR_MODULE_IMPORT', /the memory engine.memory/);
});

test('a function of the engine that is imported as something else is refused when the model is served', async () => {
  const bus = new Bus();
  try {
    const module = binary({
      ...SOUND,
      types: [...SOUND.types, [[I64], []]],
      imports: [memoryImport(), functionImport('engine', 'copy', 1)],
      exports: [['serve', 0, 1], ...SOUND.exports.slice(1)],
    });
    await rejects(
      serve(model(module), { name: 'none', bus }),
      'ERR_MODULE_IMPORT',
      /does not fit the engine/,
    );
  } finally {
    await within(bus.close(), 'closing the bus');
  }
});

test('exports that are missing or of another type are refused', () => {
  const without = (name: string) => SOUND.exports.filter(([field]) => field !== name);
  const withGlobal = (name: string, global: [number, boolean, number]): Partial<Parts> => ({
    globals: [...SOUND.globals, global],
    exports: [...without(name), [name, 3, 2]],
  });
  for (const name of ['serve', 'abi', 'stateBytes'])
    refused({ exports: without(name) }, 'ERR_MODULE_EXPORT', new RegExp(`must export .*${name}`));
  for (const name of ['abi', 'stateBytes', 'queueStateBytes']) {
    refused(withGlobal(name, [I64, false, 1]), 'ERR_MODULE_EXPORT', /a constant of type i32/);
    refused(withGlobal(name, [I32, true, 1]), 'ERR_MODULE_EXPORT', /a constant of type i32/);
    refused({ exports: [...without(name), [name, 0, 0]] }, 'ERR_MODULE_EXPORT', /a constant of type i32/);
  }
  for (const name of ['stateBytes', 'queueStateBytes'])
    for (const bytes of [-1, 2 ** 24 + 1])
      refused(withGlobal(name, [I32, false, bytes]), 'ERR_MODULE_EXPORT', /at most 16777216 bytes/);
  refused({ exports: [...without('serve'), ['serve', 3, 0]] }, 'ERR_MODULE_EXPORT', /serve of type/);
  for (const type of [
    [[I32, I32], [I32]],
    [[I32, I32, I64], [I32]],
    [[I32, I32, I32], []],
  ] as [number[], number[]][])
    refused(
      { types: [type], code: [type[1].length ? [0x41, 0] : []] },
      'ERR_MODULE_EXPORT',
      /serve of type \(i32, i32, i32\) → i32/,
    );
});

test('a module of another version of the library is refused', () => {
  refused(
    { globals: [[I32, false, layout.MODEL_ABI + 1], SOUND.globals[1]!] },
    'ERR_MODULE_ABI',
    /compile it again/,
  );
});

test('instructions whose faults end the process, and those that allocate, are refused', () => {
  refused(
    doing(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 10, 0, 0),
    'ERR_MODULE',
    /memory\.copy.*--disable bulk-memory/,
  );
  refused(doing(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 11, 0), 'ERR_MODULE', /memory\.fill/);
  refused(doing(0x41, 1, 0x40, 0, 0x1a), 'ERR_MODULE', /memory\.grow/);
});

test('an instruction that is not known here is refused: what follows it could not be read', () => {
  // try, catch_all, end, where this version of WebAssembly has them.
  const module = binary({ ...SOUND, code: [[0x06, 0x40, 0x19, 0x0b, 0x41, 0]] });
  assert.throws(
    () => model(module),
    (error: RingbellError) => error.code === 'ERR_MODULE',
  );
});

test('every instruction of a large module is passed over, and the same module with one that is not allowed is refused', async () => {
  const large = await compileAssembly('assembly/index.ts', { options: ['--disable', 'bulk-memory'] });
  const { imports, exports, memory, start, data } = readSections(large);
  assert.equal(
    imports.map(({ module, name }) => `${module}.${name}`),
    ['env.memory'],
  );
  assert.equal(exports.get('copy'), {
    kind: 'function',
    type: '(i32, i32, i32) → nothing',
    value: undefined,
  });
  assert.equal(exports.get('iotlbUnmap')?.type, '(i32, i64, i64) → i32');
  assert.equal([memory, start, data], [false, false, false]);
  const engine = readFileSync(new URL('../../../engine.wasm', import.meta.url));
  assert.throws(() => readSections(engine), /memory\.(copy|fill)/);
});

test('a manifest or a config space that cannot be is refused when the model is served', async () => {
  const bus = new Bus();
  try {
    const module = binary(SOUND);
    const refuses = (options: object, message: RegExp) =>
      rejects(
        serve(new WasmModel({ module, manifest, ...options } as never), { name: 'none', bus }),
        'ERR_ARGUMENT',
        message,
      );
    await refuses({ manifest: { deviceId: 0 } }, /deviceId of the manifest/);
    await refuses({ manifest: { ...manifest, features: [29] } }, /not 29/);
    await refuses({ manifest: { ...manifest, queues: 2 } }, /2 queue/);
    await refuses({ config: () => new Uint8Array(4097) }, /at most 4096 bytes/);
    const none = new WasmModel({ module, manifest, config: () => 'x' as never });
    let error: unknown;
    await serve(none, { name: 'none', bus }).catch((caught) => (error = caught));
    assert.instance(error, TypeError);
  } finally {
    await within(bus.close(), 'closing the bus');
  }
});

test('options that cannot be meant are refused', () => {
  const module = binary(SOUND);
  const refuses = (options: object, message: RegExp) =>
    assert.throws(
      () => new WasmModel({ module, manifest, ...options } as never),
      (error: Error) => message.test(error.message),
    );
  refuses({ manifest: undefined }, /needs a manifest/);
  refuses({ manifest: { ...manifest, limits: { inHand: 1 } } }, /a WasmModel has none/);
  refuses({ config: new Uint8Array(1) }, /config must be a function/);
  refuses({ wasm: module }, /no option 'wasm'/);
});

/** What version 1 has compiled into it. */
const RECORDED = {
  CHAIN_COUNTS: 4,
  CHAIN_SIZE: 8,
  COUNT_MASK: 65535,
  IOTLB_DIRTY: 16,
  MODEL_CONFIG: 16,
  MODEL_CONFIG_BYTES: 20,
  MODEL_INDEX: 4,
  MODEL_LOST: 24,
  MODEL_PRIVATE_BYTES: 28,
  MODEL_QUEUE_STATE: 12,
  MODEL_STATE: 8,
  MODEL_VQ: 0,
  NOTIFY_DUE: 65536,
  PAGE_SIZE: 4096,
  SEGMENT_BYTES: 4,
  SEGMENT_SIZE: 8,
  VERDICT_MEMORY_LOST: 22,
  VERDICT_REQUEST: 17,
  VQ_BURST: 36,
  VQ_BYTES_READ: 392,
  VQ_BYTES_WRITTEN: 400,
  VQ_CHAINS: 24,
  VQ_EPOCH: 304,
  VQ_FEATURES: 48,
  VQ_GATE_CLOSED: 644,
  VQ_IOTLB: 20,
  VQ_IO_ERRORS: 472,
  VQ_SEGMENTS: 28,
};

test('what a module has compiled into it changes with its version', () => {
  // Whoever changes one of these makes modules of before misread: that needs another MODEL_ABI, here and in layout.ts.
  const sources = ['queue', 'chain', 'serve'].map((name) =>
    readFileSync(new URL(`../../../../assembly/library/${name}.ts`, import.meta.url), 'utf8'),
  );
  const names = new Set(
    sources.flatMap((source) =>
      [...source.matchAll(/import \{([^}]*)\} from '\.\.\/(?:layout|dirty)'/g)].flatMap(
        ([, list]) => list!.match(/\b[A-Z][A-Z_]+\b/g) ?? [],
      ),
    ),
  );
  names.add('IOTLB_DIRTY');
  const compiled = Object.fromEntries(
    [...names].toSorted().map((name) => [name, layout[name as keyof typeof layout]]),
  );
  assert.is(layout.MODEL_ABI, 1);
  assert.equal(compiled, RECORDED);
});

test.run();
