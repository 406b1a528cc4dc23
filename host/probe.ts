import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { arch, availableParallelism, platform, release } from 'node:os';
import { gunzipSync } from 'node:zlib';
import { Memory, validate } from './aperture/web-assembly.js';
import { loadAddon } from './native/addon.js';
import { locateAddon } from './native/locate.js';

/** 'warning': it works, with a limit; 'missing': what depends on it does not work. */
export type CheckState = 'ok' | 'warning' | 'missing';

/** What a check is for: everything, the kernel's vhost-vdpa (driver side), the kernel's VDUSE (device side). */
export type CheckArea = 'embedded' | 'vhost-vdpa' | 'vduse';

/** One thing that was looked at. */
export interface Check {
  /** What depends on it. */
  readonly area: CheckArea;
  /** Stable: what was looked at. */
  readonly name: string;
  /** How it turned out. */
  readonly state: CheckState;
  /** What was found, for people. */
  readonly found: string;
  /** What to do about it, for people; absent when there is nothing to do. */
  readonly remedy?: string;
}

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
/** Bytes that RLIMIT_MEMLOCK should allow: the largest bounce domain of a VDUSE device, a usual driver's memory. */
const MEMLOCK_BYTES = 64 * 2 ** 20;
/** Each module, what it is for and in which release the kernel got it. */
const MODULES = [
  { name: 'vdpa', area: 'vduse', since: '5.7', config: 'CONFIG_VDPA' },
  { name: 'vduse', area: 'vduse', since: '5.15', config: 'CONFIG_VDPA_USER' },
  { name: 'virtio_vdpa', area: 'vduse', since: '5.7', config: 'CONFIG_VIRTIO_VDPA' },
  { name: 'vhost_vdpa', area: 'vhost-vdpa', since: '5.7', config: 'CONFIG_VHOST_VDPA' },
] as const;

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

type Finding = Omit<Check, 'area' | 'name'>;

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
  check('vhost-vdpa', 'memlock', lookAtMemlock);
  for (const module of MODULES) check(module.area, `module ${module.name}`, () => lookAtModule(module));
  const drivable = check('vhost-vdpa', '/dev/vhost-vdpa-*', lookAtVhostVdpaNodes);
  const creatable = check('vduse', '/dev/vduse/control', lookAtVduseControl);

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

function lookAtMemlock(): Finding {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  const text = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1];
  if (text === 'unlimited') return { state: 'ok', found: text };
  const bytes = Number(text);
  const found = `${Math.floor(bytes / 1024)} KiB may be locked`;
  if (bytes >= MEMLOCK_BYTES) return { state: 'ok', found };
  return {
    state: 'warning',
    found,
    remedy: `ulimit -l ${MEMLOCK_BYTES / 1024}: the kernel pins a driver's memory within this limit, for root too`,
  };
}

function lookAtModule({ name, config, since }: (typeof MODULES)[number]): Finding {
  if (existsSync(`/sys/module/${name}`)) return { state: 'ok', found: 'loaded' };
  const folder = `/lib/modules/${release()}`;
  // File names have dashes or underscores as their authors pleased; the kernel takes both for the same.
  const file = new RegExp(`/${name.replace('_', '[-_]')}\\.ko`);
  if (file.test(textOf(`${folder}/modules.builtin`))) return { state: 'ok', found: 'built in' };
  if (file.test(textOf(`${folder}/modules.dep`)))
    return { state: 'missing', found: 'available, not loaded', remedy: `sudo modprobe ${name}` };
  const configuration = kernelConfiguration();
  if (configuration.includes(`\n${config}=y`)) return { state: 'ok', found: 'built in' };
  if (existsSync(folder) || (configuration !== '' && !configuration.includes(`\n${config}=m`)))
    return {
      state: 'missing',
      found: 'not part of this kernel',
      remedy: `use a kernel from ${since} with ${config} (Debian: linux-image-6.12-amd64 or later)`,
    };
  return {
    state: 'missing',
    found: `not loaded, and ${folder} is not here`,
    remedy: `sudo modprobe ${name}, on the host if this is a container`,
  };
}

/** What the running kernel was built with; empty where it does not tell. */
function kernelConfiguration(): string {
  const compressed = '/proc/config.gz';
  if (existsSync(compressed)) return gunzipSync(readFileSync(compressed)).toString();
  return textOf(`/boot/config-${release()}`);
}

function textOf(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

function lookAtVhostVdpaNodes(): Finding {
  const nodes = readdirSync('/dev').filter((name) => /^vhost-vdpa-\d+$/.test(name));
  if (nodes.length === 0)
    return {
      state: 'missing',
      found: 'none',
      remedy:
        'add a device and bind it: vdpa dev add …, then echo NAME > /sys/bus/vdpa/drivers/vhost_vdpa/bind',
    };
  const allowed = nodes.filter((name) => mayOpen(`/dev/${name}`));
  if (allowed.length > 0) return { state: 'ok', found: allowed.map((name) => `/dev/${name}`).join(', ') };
  return {
    state: 'missing',
    found: `${nodes.map((name) => `/dev/${name}`).join(', ')}: permission denied`,
    remedy: `sudo chown ${userName()} /dev/${nodes[0]}`,
  };
}

function lookAtVduseControl(): Finding {
  const node = '/dev/vduse/control';
  if (!existsSync(node))
    return { state: 'missing', found: 'not there', remedy: 'comes with the module vduse' };
  if (mayOpen(node)) return { state: 'ok', found: 'may be opened' };
  return { state: 'missing', found: 'permission denied', remedy: `sudo chown ${userName()} ${node}` };
}

/** Whether this user may read and write the node. */
function mayOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** For a command line that the shell completes where the environment does not name the user. */
function userName(): string {
  return process.env.USER || '$(id -un)';
}

function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split('\n', 1)[0]!;
}
