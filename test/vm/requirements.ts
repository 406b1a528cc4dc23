import { accessSync, constants, existsSync, readFileSync } from 'node:fs';

/** Why this machine cannot do something: what is missing, for its user to get. */
export class MissingRequirement extends Error {}

/** Where tools are that an ordinary user's PATH leaves out. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/sbin'];
/** Tools that every run needs, with the Debian package of each. */
const TOOLS_TO_RUN = {
  'qemu-system-x86_64': 'qemu-system-x86',
  flock: 'util-linux',
  setpriv: 'util-linux',
};
/** Tools that a kernel is got and packed with, with the Debian package of each. */
const TOOLS_TO_PREPARE = {
  'apt-get': 'apt',
  'apt-cache': 'apt',
  'dpkg-deb': 'dpkg',
  modprobe: 'kmod',
  depmod: 'kmod',
  xz: 'xz-utils',
  tar: 'tar',
  make: 'make',
  gcc: 'gcc',
  strip: 'binutils',
};
/** Keys that signed Debian's archives, those of other releases than the installed one included. */
export const ARCHIVE_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Path of a tool, or undefined. */
export function findTool(name: string): string | undefined {
  return [...(process.env.PATH ?? '').split(':'), ...SYSTEM_FOLDERS]
    .map((folder) => `${folder}/${name}`)
    .find((path) => canAccess(path, constants.X_OK));
}

/** Path of a busybox that needs no library. Throws MissingRequirement. */
export function findBusybox(): string {
  const path = findTool('busybox');
  // An executable that needs a dynamic linker names it.
  if (!path || readFileSync(path).includes('/ld-linux'))
    throw missing({ 'static busybox': 'busybox-static' });
  return path;
}

/** Throws MissingRequirement unless machines can be started here. */
export function requireToRun(): void {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new MissingRequirement('the virtual machines need Linux on x86-64');
  requireTools(TOOLS_TO_RUN);
  findBusybox();
}

/** Throws MissingRequirement unless a kernel can be got and packed here. */
export function requireToPrepare(): void {
  requireTools(TOOLS_TO_PREPARE);
  if (!existsSync(ARCHIVE_KEYRING)) throw missing({ [ARCHIVE_KEYRING]: 'debian-archive-keyring' });
}

/** Whether this machine's KVM runs a kernel as distributed: a KVM without hardware behind it does not. */
export function hasHardwareVirtualization(): boolean {
  return (
    /\b(svm|vmx)\b/.test(readFileSync('/proc/cpuinfo', 'latin1')) &&
    canAccess('/dev/kvm', constants.R_OK | constants.W_OK)
  );
}

function requireTools(tools: Record<string, string>): void {
  const absent = Object.entries(tools).filter(([tool]) => !findTool(tool));
  if (absent.length) throw missing(Object.fromEntries(absent));
}

function missing(tools: Record<string, string>): MissingRequirement {
  const packages = [...new Set(Object.values(tools))].join(' ');
  return new MissingRequirement(
    `missing: ${Object.keys(tools).join(', ')}\nas root: apt-get install --no-install-recommends ${packages}`,
  );
}

function canAccess(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
