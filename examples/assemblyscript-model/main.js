import { openEntropy, serve, WasmModel } from 'ringbell';

/** VIRTIO_ID_RNG. */
const DEVICE_ID = 4;

const dice = new WasmModel({
  module: new URL('build/model.wasm', import.meta.url),
  manifest: { deviceId: DEVICE_ID },
});
const device = await serve(dice, { name: 'dice0' });
const entropy = await openEntropy('dice0');

const first = new DataView((await entropy.read(8)).buffer).getBigUint64(0, true);
console.log(`the first number is always ${first.toString(16)}`);
const rolls = await entropy.read(60_000);
const counts = [0, 0, 0, 0, 0, 0];
for (const byte of rolls) if (byte < 252) counts[byte % 6]++;
console.log(`${rolls.length} rolls:`, counts.join(' '));

await entropy.close();
await device.close();
