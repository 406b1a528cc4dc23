import type { OpenBlockOptions } from '../../host/drivers/blk.js';
import { NbdDisk, type NbdDiskOptions } from '../../host/models/nbd/nbd-disk.js';
import { type Scene, scene, within } from '../models/fixture.js';
import { type Script, ScriptedServer } from './scripted-server.js';

/** A disk on an NBD server that is served and driven. */
export interface NbdScene extends Scene {
  model: NbdDisk;
  /** Codes of why there was no connection, in order. */
  reasons: string[];
}

/** Connects to a URI, serves what is there, drives it, and leaves nothing behind. */
export async function nbdScene(
  uri: string,
  options: NbdDiskOptions & { queues?: number; open?: OpenBlockOptions },
  body: (scene: NbdScene) => Promise<void>,
): Promise<void> {
  const { open, queues = 1, ...rest } = options;
  const model = await within(NbdDisk.connect(uri, rest), 'connect');
  const reasons: string[] = [];
  model.events.on('reconnecting', ({ code }) => reasons.push(code));
  try {
    await scene(model, { queues, ...(open && { open }) }, (each) => body({ ...each, model, reasons }));
  } finally {
    await within(model.close(), 'closing the model');
  }
}

/** The same with a server in this process. */
export async function scriptedScene(
  script: Script,
  options: NbdDiskOptions & { queues?: number; open?: OpenBlockOptions },
  body: (scene: NbdScene & { server: ScriptedServer }) => Promise<void>,
): Promise<void> {
  const server = await ScriptedServer.start(script);
  try {
    await nbdScene(server.uri, options, (each) => body({ ...each, server }));
  } finally {
    await server.close();
  }
}

/** What a call rejects with. */
export async function failure(call: Promise<unknown>): Promise<Error & { code?: string }> {
  try {
    await call;
  } catch (error) {
    return error as Error;
  }
  throw new Error('the call succeeded');
}
