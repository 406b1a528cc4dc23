import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { link, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isSystemError, RingbellError } from '../../errors.js';
import { loadAddon } from '../../native/addon.js';
import type { BaseImage } from './base-image.js';
import { OverlayFile } from './overlay-file.js';
import {
  clustersOf,
  dataOffsetOf,
  decodeHeader,
  encodeHeader,
  fileBytesOf,
  HEADER_SIZE,
  type OverlayHeader,
} from './overlay-format.js';
import { checkMap, forgetUnflushed, OverlayMap } from './overlay-map.js';

/** Another one each time the machine boots, in hexadecimal digits and dashes. */
const BOOT_ID_PATH = '/proc/sys/kernel/random/boot_id';

/** An open overlay file. */
export interface OpenOverlay {
  file: OverlayFile;
  header: OverlayHeader;
  map: OverlayMap;
}

/**
 * Makes an overlay file that changes nothing yet, if there is none. It is there as a whole or not at all, whenever the process or
 * the machine stops. Rejects with a system error.
 */
export async function makeOverlay(
  path: string,
  base: BaseImage,
  size: Pick<OverlayHeader, 'diskBytes' | 'clusterSize'>,
): Promise<void> {
  const header: OverlayHeader = {
    ...size,
    baseBytes: base.bytes,
    fingerprint: await base.fingerprint(),
    bootId: bootId(),
  };
  const temporary = `${path}.${process.pid}.new`;
  const handle = await open(temporary, 'wx', 0o600);
  try {
    // The map has its storage from the start: no state can find the file system full.
    loadAddon().allocate(handle.fd, dataOffsetOf(header));
    await handle.truncate(fileBytesOf(header));
    await handle.write(encodeHeader(header), 0, HEADER_SIZE, 0);
    await handle.sync();
    // Unlike a renaming, it does not replace what somebody else has made meanwhile.
    await link(temporary, path);
  } finally {
    await handle.close();
    await rm(temporary, { force: true });
  }
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/**
 * Opens an overlay file over its base. What was not flushed before the machine booted last is taken back. Rejects with
 * ERR_OVERLAY_FILE, ERR_OVERLAY_BASE, ERR_ARGUMENT, a system error.
 */
export async function openOverlay(path: string, base: BaseImage, readOnly: boolean): Promise<OpenOverlay> {
  const fd = openRegular(path, readOnly);
  const file = new OverlayFile(fd);
  try {
    const headerBytes = Buffer.alloc(HEADER_SIZE);
    await file.read(headerBytes, 0);
    const header = decodeHeader(headerBytes, path);
    if (file.size < fileBytesOf(header))
      throw new RingbellError('ERR_OVERLAY_FILE', `${path} is damaged: it has been cut off`);
    await checkBase(header, path, base);
    const bytes = new Uint8Array(clustersOf(header));
    await file.read(bytes, HEADER_SIZE);
    checkMap(bytes, path);
    if (!bootId().equals(header.bootId)) await recover(file, header, bytes, readOnly);
    return { file, header, map: new OverlayMap(file, bytes) };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** After a boot: the states that are not known to be true are taken back before any is set that is. */
async function recover(
  file: OverlayFile,
  header: OverlayHeader,
  map: Uint8Array,
  readOnly: boolean,
): Promise<void> {
  const changed = forgetUnflushed(map);
  if (readOnly) return;
  if (changed) await file.write(map, HEADER_SIZE);
  await file.datasync();
  await file.write(encodeHeader({ ...header, bootId: bootId() }), 0);
  await file.datasync();
}

async function checkBase(header: OverlayHeader, path: string, base: BaseImage): Promise<void> {
  const refuse = (why: string) =>
    new RingbellError('ERR_OVERLAY_BASE', `${path} was made over another base: ${why}`);
  if (base.bytes !== header.baseBytes) throw refuse(`it had ${header.baseBytes} bytes, not ${base.bytes}`);
  if (!(await base.fingerprint()).equals(header.fingerprint)) throw refuse('its contents are others');
}

function openRegular(path: string, readOnly: boolean): number {
  let fd: number;
  try {
    fd = openSync(path, readOnly ? constants.O_RDONLY : constants.O_RDWR);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new RingbellError('ERR_ARGUMENT', `cannot open the overlay: ${error.message}`, { cause: error });
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new RingbellError('ERR_OVERLAY_FILE', `${path} is not an overlay file`);
}

function bootId(): Buffer {
  return Buffer.from(readFileSync(BOOT_ID_PATH, 'latin1').replaceAll('-', '').trim(), 'hex');
}
