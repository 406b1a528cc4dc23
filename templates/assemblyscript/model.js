import { WasmModel } from 'ringbell';

/** VIRTIO_ID_BLOCK. */
const DEVICE_ID = 2;
/** VIRTIO_BLK_F_MQ: the config space says how many queues there are. */
const FEATURES = [12];
/** Bytes of the disk, as in assembly/model.ts, and of a sector. */
const CAPACITY = 1048576;
const SECTOR = 512;

/** The model of a device with `queues` queues. */
export function createModel(queues = 1) {
  // struct virtio_blk_config, up to num_queues.
  const config = new DataView(new ArrayBuffer(36));
  config.setBigUint64(0, BigInt(CAPACITY / SECTOR), true);
  config.setUint16(34, queues, true);
  return new WasmModel({
    module: new URL('build/model.wasm', import.meta.url),
    deviceId: DEVICE_ID,
    features: FEATURES,
    config: new Uint8Array(config.buffer),
  });
}
