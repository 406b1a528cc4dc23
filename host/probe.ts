import { existsSync, readFileSync } from 'node:fs';
import { arch, availableParallelism, platform, release } from 'node:os';
import { Memory, validate } from './aperture/web-assembly.js';
import type { Check, CheckArea, Finding } from './check.js';
import { loadAddon } from './native/addon.js';
import { locateAddon } from './native/locate.js';
import * as kernel from './probe-kernel.js';

/** What this machine can do. */
export interface Probe {
  /** The in-process bus works here: nothing else is needed for `serve` and `openBlock` by name. */
  readonly embedded: boolean;
  /** Devices of the kernel's vDPA bus can be driven now: at least one /dev/vhost-vdpa-N may be opened. */
  readonly vhostVdpa: boolean;
  /** Devices can be created on the kernel's vDPA bus now: /dev/vduse/control may be opened. */
  readonly vduse: boolean;
  /** Everything that was looked at, by area. */
  readonly checks: readonly Check[];
}

/** Oldest Node.js that package.json allows. */
const NODE_MINIMUM = [20, 19] as const;
/** WASM pages (64 KiB) of the largest aperture. */
const APERTURE_PAGES = 65536;
/** (module (func (drop (v128.const 0)))): is there SIMD? */
const SIMD_MODULE = Uint8Array.from([
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 4, 1, 0x60, 0, 0],
  ...[3, 2, 1, 0],
  ...[10, 23, 1, 21, 0, 0xfd, 12, ...new Array<number>(16).fill(0), 0x1a, 0x0b],
]);
/** (module (memory 1 1 shared) (func (drop (i32.atomic.load (i32.const 0))))): are there threads? */
const THREADS_MODULE = Uint8Array.from([
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 4, 1, 0x60, 0, 0],
  ...[3, 2, 1, 0],
  ...[5, 4, 1, 3, 1, 1],
  ...[10, 11, 1, 9, 0, 0x41, 0, 0xfe, 0x10, 2, 0, 0x1a, 0x0b],
]);

/** Looks at what this machine can do, without changing anything. Never throws: what cannot be found out is a warning. */
export function probe(): Probe {
  const checks: Check[] = [];
  const check = (area: CheckArea, name: string, look: () => Finding): Check => {
    let finding: Finding;
    try {
      finding = look();
    } catch (error) {
      finding = { state: 'warning', found: `cannot tell: ${messageOf(error)}` };
    }
    const result = { area, name, ...finding };
    checks.push(result);
    return result;
  };

  check('embedded', 'platform', lookAtPlatform);
  check('embedded', 'node', lookAtNode);
  check('embedded', 'processors', lookAtProcessors);
  check('embedded', 'wasm-simd', () => lookAtFeature(SIMD_MODULE));
  check('embedded', 'wasm-threads', () => lookAtFeature(THREADS_MODULE));
  check('embedded', 'wasm-shared-memory', lookAtSharedMemory);
  check('embedded', 'engine', lookAtEngine);
  check('embedded', 'addon', lookAtAddon);
  check('vhost-vdpa', 'memlock', kernel.lookAtMemlock);
  for (const module of kernel.MODULES)
    check(module.area, `module ${module.name}`, () => kernel.lookAtModule(module));
  const drivable = check('vhost-vdpa', '/dev/vhost-vdpa-*', kernel.lookAtVhostVdpaNodes);
  check('vhost-vdpa', 'IOMMU', kernel.lookAtIommu);
  check('vhost-vdpa', 'hardware', kernel.lookAtHardware);
  const creatable = check('vduse', '/dev/vduse/control', kernel.lookAtVduseControl);
  check('vduse', 'VDUSE API', kernel.lookAtVduseApi);
  check('vduse', 'vDPA netlink', kernel.lookAtVdpaNetlink);
  check('vduse', 'CAP_NET_ADMIN', kernel.lookAtNetAdmin);
  check('vduse', 'drivers_autoprobe', kernel.lookAtAutoprobe);

  const embedded = checks.every(({ area, state }) => area !== 'embedded' || state !== 'missing');
  return {
    embedded,
    vhostVdpa: embedded && drivable.state === 'ok',
    vduse: embedded && creatable.state === 'ok',
    checks,
  };
}

function lookAtPlatform(): Finding {
  const found = `${platform()} ${release()} on ${arch()}`;
  if (platform() !== 'linux')
    return { state: 'missing', found, remedy: 'run it on Linux: a container or a VM will do' };
  if (arch() !== 'x64' && arch() !== 'arm64')
    return { state: 'warning', found, remedy: 'untested here; x64 and arm64 are supported' };
  return { state: 'ok', found };
}

function lookAtNode(): Finding {
  const found = process.version;
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > NODE_MINIMUM[0] || (major === NODE_MINIMUM[0] && minor >= NODE_MINIMUM[1]))
    return { state: 'ok', found };
  return { state: 'missing', found, remedy: `install Node.js ${NODE_MINIMUM.join('.')} or later` };
}

function lookAtProcessors(): Finding {
  const count = availableParallelism();
  if (count > 1) return { state: 'ok', found: `${count}` };
  return {
    state: 'warning',
    found: '1',
    remedy: "use mode 'notify': polling sides take turns on one processor",
  };
}

/** What is found of WebAssembly's parts where Node.js runs without it. */
const NO_WEBASSEMBLY: Finding = {
  state: 'missing',
  found: 'no WebAssembly',
  remedy: 'start Node.js without --jitless',
};
const hasWebAssembly = typeof Memory === 'function';

function lookAtFeature(module: Uint8Array): Finding {
  if (!hasWebAssembly) return NO_WEBASSEMBLY;
  if (validate(module)) return { state: 'ok', found: 'yes' };
  return {
    state: 'missing',
    found: 'no',
    remedy: 'start Node.js without the flags that turn it off',
  };
}

function lookAtSharedMemory(): Finding {
  if (!hasWebAssembly) return NO_WEBASSEMBLY;
  try {
    new Memory({ initial: APERTURE_PAGES, maximum: APERTURE_PAGES, shared: true });
    return { state: 'ok', found: '4 GiB reserved and given back' };
  } catch (error) {
    return {
      state: 'missing',
      found: messageOf(error),
      remedy:
        'raise the limit on address space (ulimit -v unlimited), or the memory.overcommit of the container',
    };
  }
}

function lookAtEngine(): Finding {
  if (!hasWebAssembly) return NO_WEBASSEMBLY;
  const file = new URL('../engine.wasm', import.meta.url);
  if (!existsSync(file))
    return {
      state: 'missing',
      found: `${file.pathname} is not there`,
      remedy: 'npm run build:assembly, or install again',
    };
  if (!validate(readFileSync(file)))
    return {
      state: 'missing',
      found: `${file.pathname} is not valid here`,
      remedy: 'install again, or a later Node.js',
    };
  return { state: 'ok', found: file.pathname };
}

function lookAtAddon(): Finding {
  let path: string;
  try {
    path = locateAddon();
  } catch (error) {
    // The message says what to do.
    return { state: 'missing', found: messageOf(error) };
  }
  try {
    // A memory file proves more than loading does: a sandbox may refuse it.
    loadAddon().close(loadAddon().memfd('ringbell-probe', 4096, true));
  } catch (error) {
    return {
      state: 'missing',
      found: `${path}: ${messageOf(error)}`,
      remedy: 'build it for this machine: npm run build:native (needs a C++ compiler, make and python3)',
    };
  }
  return { state: 'ok', found: path };
}

function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split('\n', 1)[0]!;
}
