/** What the kernel offers beyond the in-process bus: a look for each check. */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
} from 'node:fs';
import { release } from 'node:os';
import { gunzipSync } from 'node:zlib';
import type { Finding } from './check.js';
import { loadAddon } from './native/addon.js';
import { u64 } from './uapi/codec.js';
import { vduseFeatureNames } from './uapi/names.js';
import { VDPA_GENL_NAME, VDPA_GENL_VERSION } from './uapi/vdpa.js';
import { VDUSE_GET_API_VERSION, VDUSE_GET_FEATURES } from './uapi/vduse.js';
import { GenericNetlinkFamily } from './vdpa/generic-netlink.js';
import { VDPA_BUS } from './vdpa/sysfs-device.js';

/** Bytes that RLIMIT_MEMLOCK should allow: the largest bounce domain of a VDUSE device, a usual driver's memory. */
const MEMLOCK_BYTES = 64 * 2 ** 20;
/** Where VDUSE devices are created. */
const VDUSE_CONTROL = '/dev/vduse/control';
/** Bit of the capability that changes of the bus take (linux/capability.h). */
const CAP_NET_ADMIN = 12n;
/** Each module, what it is for and in which release the kernel got it. */
export const MODULES = [
  { name: 'vdpa', area: 'vduse', since: '5.7', config: 'CONFIG_VDPA' },
  { name: 'vduse', area: 'vduse', since: '5.15', config: 'CONFIG_VDPA_USER' },
  { name: 'virtio_vdpa', area: 'vduse', since: '5.7', config: 'CONFIG_VIRTIO_VDPA' },
  { name: 'virtio_blk', area: 'vduse', since: '2.6.24', config: 'CONFIG_VIRTIO_BLK' },
  { name: 'vhost_vdpa', area: 'vhost-vdpa', since: '5.7', config: 'CONFIG_VHOST_VDPA' },
] as const;

/** How much memory may be locked. */
export function lookAtMemlock(): Finding {
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

/** Whether a module is there. */
export function lookAtModule({ name, config, since }: (typeof MODULES)[number]): Finding {
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

/** Which devices may be driven. */
export function lookAtVhostVdpaNodes(): Finding {
  const nodes = readdirSync('/dev').filter((name) => /^vhost-vdpa-\d+$/.test(name));
  if (nodes.length === 0)
    return {
      state: 'missing',
      found: 'none',
      remedy: 'ringbell serve blk --name disk0 --size 64M --attach vhost makes one; of others: ringbell info',
    };
  const allowed = nodes.filter((name) => mayOpen(`/dev/${name}`));
  if (allowed.length > 0) return { state: 'ok', found: allowed.map((name) => `/dev/${name}`).join(', ') };
  return {
    state: 'missing',
    found: `${nodes.map((name) => `/dev/${name}`).join(', ')}: permission denied`,
    remedy: `sudo chown ${userName()} /dev/${nodes[0]}`,
  };
}

/** Whether devices may be created. */
export function lookAtVduseControl(): Finding {
  const node = VDUSE_CONTROL;
  if (!existsSync(node))
    return { state: 'missing', found: 'not there', remedy: 'comes with the module vduse' };
  if (mayOpen(node)) return { state: 'ok', found: 'may be opened' };
  return { state: 'missing', found: 'permission denied', remedy: `sudo chown ${userName()} ${node}` };
}

/** What keeps a device that the CPU's memory is not shown to by the kernel itself apart: hardware needs one, VDUSE does not. */
export function lookAtIommu(): Finding {
  const units = namesIn('/sys/class/iommu');
  if (units.length > 0) return { state: 'ok', found: units.join(', ') };
  return {
    state: 'warning',
    found: 'none',
    remedy:
      'only vDPA hardware needs one: turn it on in the firmware, and boot with intel_iommu=on or its like',
  };
}

/** Devices on the bus whose parents are on PCI: only such have doorbell pages. */
export function lookAtHardware(): Finding {
  const devices = namesIn(`${VDPA_BUS}/devices`).filter((name) =>
    realpathSync(`${VDPA_BUS}/devices/${name}`).includes('/pci'),
  );
  if (devices.length > 0) return { state: 'ok', found: `${devices.join(', ')}: may have doorbell pages` };
  return {
    state: 'warning',
    found: 'no device of a PCI function on the bus: doorbells are eventfds',
    remedy:
      'bind a virtio function to vp-vdpa, or a network card to its vDPA driver, and ringbell info its device',
  };
}

/** What this VDUSE can do. */
export function lookAtVduseApi(): Finding {
  if (!mayOpen(VDUSE_CONTROL))
    return { state: 'missing', found: 'cannot be asked', remedy: `needs ${VDUSE_CONTROL}` };
  const fd = openSync(VDUSE_CONTROL, 'r+');
  try {
    const version = new Uint8Array(u64.size);
    loadAddon().ioctl(fd, VDUSE_GET_API_VERSION, version);
    const found = `version ${u64.decode(version)}`;
    try {
      const features = new Uint8Array(u64.size);
      loadAddon().ioctl(fd, VDUSE_GET_FEATURES, features);
      return { state: 'ok', found: [found, ...vduseFeatureNames(u64.decode(features))].join(', ') };
    } catch {
      return {
        state: 'ok',
        found: `${found}, no features: queues that are enabled late are found by looking`,
      };
    }
  } finally {
    closeSync(fd);
  }
}

/** Whether devices can be put on the bus. */
export function lookAtVdpaNetlink(): Finding {
  if (GenericNetlinkFamily.find(VDPA_GENL_NAME, VDPA_GENL_VERSION)) return { state: 'ok', found: 'answers' };
  return {
    state: 'missing',
    found: 'no such family',
    remedy: 'sudo modprobe vdpa; it is seen in the first network namespace only',
  };
}

/** Whether this process may put them there. */
export function lookAtNetAdmin(): Finding {
  const effective = /^CapEff:\s*([\da-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
  if ((BigInt(`0x${effective ?? 0}`) >> CAP_NET_ADMIN) & 1n) return { state: 'ok', found: 'yes' };
  return {
    state: 'missing',
    found: 'no: devices cannot be put on the bus',
    remedy: 'run as root, or serve with attach: false and let root put the device on the bus',
  };
}

/** Who takes a new device. */
export function lookAtAutoprobe(): Finding {
  const path = `${VDPA_BUS}/drivers_autoprobe`;
  if (!existsSync(path)) return { state: 'missing', found: 'no vDPA bus', remedy: 'sudo modprobe vdpa' };
  if (readFileSync(path, 'latin1').trim() === '0')
    return { state: 'ok', found: 'off: devices wait until they are bound' };
  const drivers = namesIn(`${VDPA_BUS}/drivers`);
  const taker = drivers.length === 1 ? drivers[0]! : 'the first driver that was loaded';
  return { state: 'ok', found: `on: without attach, ${taker} takes new devices` };
}

function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
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
