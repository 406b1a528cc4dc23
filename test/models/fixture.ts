import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { type OpenBlockOptions, openBlock } from '../../host/drivers/blk.js';
import type { BlockDisk } from '../../host/drivers/block-disk.js';
import { type ErrorCode, RingbellError } from '../../host/errors.js';
import type { Model } from '../../host/models/model.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import { until, within } from '../waiting.js';

export { until, within };

/** A bus of one's own, a device on it and a driver for it. */
export interface Scene {
  bus: Bus;
  device: ServedDevice;
  disk: BlockDisk;
  /** Codes of the errors that the device has emitted. */
  errors: ErrorCode[];
}

/** Serves a model, drives it, and leaves nothing behind. */
export async function scene(
  model: Model,
  options: Partial<ServeOptions> & { open?: OpenBlockOptions },
  body: (scene: Scene) => Promise<void>,
): Promise<void> {
  const { open, ...serveOptions } = options;
  const bus = new Bus();
  const device = await within(serve(model, { name: 'disk0', bus, ...serveOptions }), 'serve');
  const errors: ErrorCode[] = [];
  device.on('error', (error) => errors.push(error.code));
  try {
    const disk = await within(openBlock('disk0', { bus, ...open }), 'openBlock');
    try {
      await body({ bus, device, disk, errors });
    } finally {
      await within(disk.close(), 'closing the disk');
    }
  } finally {
    await within(device.close(), 'closing the device');
    await within(bus.close(), 'closing the bus');
  }
}

/** The next error that a device emits. */
export async function nextError(device: ServedDevice): Promise<RingbellError> {
  const [error] = await within(
    once(device, 'error', { captureRejections: false } as never),
    'an error event',
  );
  return error as RingbellError;
}

/** A file of `bytes` random bytes in a directory of its own, which goes with `remove`. */
export function imageFile(bytes: number): { path: string; contents: Buffer; remove: () => void } {
  const directory = mkdtempSync(join(tmpdir(), 'ringbell-'));
  const path = join(directory, 'disk.img');
  const contents = randomBytes(bytes);
  writeFileSync(path, contents);
  return { path, contents, remove: () => rmSync(directory, { recursive: true, force: true }) };
}

/** Asserts that a call rejects with a code of ours. */
export async function rejects(call: Promise<unknown>, code: string, message = /./): Promise<void> {
  let error: unknown;
  try {
    await call;
  } catch (caught) {
    error = caught;
  }
  assert.ok(error instanceof RingbellError, `expected ${code}, got ${error ?? 'success'}`);
  assert.is(error.code, code, error.message);
  assert.match(error.message, message);
}
