/** What rules of the IOTLB share: a driver's memory to map, and how the device sees what was mapped. */
import { readSync } from 'node:fs';
import { isSystemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import * as vduse from '../../host/uapi/vduse.js';
import type { VduseFile } from '../../host/vduse/file.js';
import { LAST_IOVA, type Request } from './protocol.js';
import { onScene, type Rule, type Scene, type SceneOptions } from './rule.js';

/** Bytes of a page. */
export const PAGE = 4096n;

/** Pages of a driver's memory that a rule can map. */
const PAGES = 16;

/** A rule's `play` on a scene whose driver has memory at `uaddr`: pages that begin with their number. */
export function onMemory(
  act: (scene: Scene, uaddr: bigint) => Promise<void>,
  options: SceneOptions = {},
): Rule['play'] {
  return onScene(async (scene) => {
    const { address } = await scene.world.memory([{ page: 0, pages: PAGES }]);
    await act(scene, address);
  }, options);
}

/** What the device finds in [start, last] of an address space; undefined for nothing. */
export async function region(device: VduseFile, start = 0n, last = LAST_IOVA, asid?: number) {
  const codec = asid === undefined ? vduse.vduseIotlbEntry : vduse.vduseIotlbEntryV2;
  const argument = codec.encode({ start, last, ...(asid === undefined ? {} : { asid }) });
  const request = asid === undefined ? vduse.VDUSE_IOTLB_GET_FD : vduse.VDUSE_IOTLB_GET_FD2;
  let fd: number;
  try {
    fd = await device.ioctl(request, argument);
  } catch (error) {
    if (isSystemError(error, 'EINVAL')) return undefined;
    throw error;
  }
  const entry = vduse.vduseIotlbEntry.decode(argument);
  const byte = new Uint8Array(1);
  try {
    readSync(fd, byte, 0, 1, Number(entry.offset));
  } finally {
    loadAddon().close(fd);
  }
  return { ...entry, firstByte: byte[0] };
}

/** The ranges that the device was told of. */
export function updates(requests: readonly Request[]): [bigint, bigint][] {
  return requests
    .filter(({ type }) => type === vduse.VDUSE_UPDATE_IOTLB)
    .map(({ iova }) => [iova.start, iova.last]);
}
