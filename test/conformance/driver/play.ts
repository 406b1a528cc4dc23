import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { within } from '../protocol.js';
import { type DriverScene, driverScenes } from './scenes.js';
import type { DriverWorld } from './world.js';

/** Milliseconds; a scene that takes longer is broken, also where a busy machine emulates the CPU. */
const SCENE_TIMEOUT_MS = 90_000;

/** Registers every scene as a test. */
export function playDriverScenes(world: DriverWorld): void {
  for (const scene of driverScenes)
    test(scene.name, () => within(play(scene, world), scene.name, SCENE_TIMEOUT_MS));
  test.after(async () => world[Symbol.asyncDispose]());
}

async function play(scene: DriverScene, world: DriverWorld): Promise<void> {
  const device = await world.serve(scene.device);
  const disk = await device.open(scene.open);
  try {
    await scene.play({ world, device, disk });
    assert.equal(await device.errors(), scene.errors ?? []);
  } finally {
    await device.release();
    await disk.close();
  }
}
