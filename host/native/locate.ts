import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { RingbellError } from '../errors.js';

/** The package's own folder. */
export const PACKAGE_ROOT = fileURLToPath(new URL('../../../', import.meta.url));
/** Where a build in a clone leaves the addon. */
export const BUILT_ADDON = `${PACKAGE_ROOT}native/build/Release/ringbell.node`;
/** What is mapped into this process, by file name. */
const MAPS = '/proc/self/maps';
/** Processors that the addon can be built for. */
const ARCHITECTURES: readonly string[] = ['x64', 'arm64'];

/**
 * Whether this process runs on musl. The loader that is mapped into it says so at once; `process.report` says it too,
 * but collects a whole report first, and waits for every worker thread to answer.
 */
function isMusl(): boolean {
  return existsSync(MAPS) && readFileSync(MAPS, 'latin1').includes('/ld-musl-');
}

/** `linux-x64`, `linux-arm64-musl`: the name of this machine's folder in prebuilds/. */
export function platformName(): string {
  return `${process.platform}-${process.arch}${process.platform === 'linux' && isMusl() ? '-musl' : ''}`;
}

/** Where a shipped addon for this machine is. */
export function prebuiltAddon(): string {
  return `${PACKAGE_ROOT}prebuilds/${platformName()}/ringbell.node`;
}

/**
 * Path of the addon: what RINGBELL_ADDON names, else the one prebuilt for this machine, else the one built here. Throws
 * ERR_ADDON_MISSING, saying what was looked for and what to do.
 */
export function locateAddon(): string {
  const named = process.env.RINGBELL_ADDON;
  if (named !== undefined && named !== '') {
    if (existsSync(named)) return named;
    throw new RingbellError('ERR_ADDON_MISSING', `RINGBELL_ADDON names ${named}, which does not exist`);
  }
  if (process.platform !== 'linux')
    throw new RingbellError(
      'ERR_ADDON_MISSING',
      `the native addon runs on Linux only, and this is ${process.platform}: use a Linux machine, container or VM`,
    );
  const candidates = [prebuiltAddon(), BUILT_ADDON];
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  const remedy = ARCHITECTURES.includes(process.arch)
    ? 'run `npm run build:native` in a clone of the repository; for a package installed elsewhere, set RINGBELL_ADDON to the path of what that built'
    : `it is made for ${ARCHITECTURES.join(' and ')} only`;
  throw new RingbellError(
    'ERR_ADDON_MISSING',
    `no native addon for ${platformName()}; looked for ${candidates.join(' and ')}: ${remedy}`,
  );
}
