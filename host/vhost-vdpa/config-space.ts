import { RingbellError } from '../errors.js';
import { VHOST_VDPA_GET_CONFIG, VHOST_VDPA_SET_CONFIG, vhostVdpaConfig } from '../uapi/vhost.js';
import type { VhostVdpaFile } from './file.js';
import { call } from './ioctl.js';

/** Reads of the config space until two in a row agree. */
const READS_MAX = 16;

/**
 * The first `bytes` of the config space of a device. vhost-vdpa has no way to ask for the config generation, and VDUSE changes
 * it at a reset only: so reads are repeated until two in a row are equal, lest a 64-bit field be torn. Rejects with
 * ERR_CONTROL_PLANE, also when the space never settles.
 */
export async function getConfig(file: VhostVdpaFile, bytes: number): Promise<Uint8Array> {
  let last: Uint8Array | undefined;
  for (let reads = 0; reads < READS_MAX; reads++) {
    const argument = vhostVdpaConfig.encode({ off: 0, len: bytes, buf: new Uint8Array(bytes) });
    await call(file, VHOST_VDPA_GET_CONFIG, argument);
    const buf = vhostVdpaConfig.get(argument, 'buf');
    if (last && Buffer.compare(last, buf) === 0) return buf;
    last = buf;
  }
  throw new RingbellError(
    'ERR_CONTROL_PLANE',
    `${file.name}: the config space changed during each of ${READS_MAX} reads`,
  );
}

/** Writes to it at byte `off`. Rejects with ERR_CONTROL_PLANE. */
export async function setConfig(file: VhostVdpaFile, off: number, bytes: Uint8Array): Promise<void> {
  await call(file, VHOST_VDPA_SET_CONFIG, vhostVdpaConfig.encode({ off, len: bytes.byteLength, buf: bytes }));
}
