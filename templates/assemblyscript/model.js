import { struct, u16, u64, WasmModel } from 'ringbell';

/** VIRTIO_ID_BLOCK. */
const DEVICE_ID = 2;
/** VIRTIO_BLK_F_MQ: the config space says how many queues there are. */
const FEATURES = [12];
/** Bytes of the disk, as in assembly/model.ts, and of a sector. */
const CAPACITY = 1048576;
const SECTOR = 512;

/** The config space, up to the last field that the features make valid: fields and their offsets. */
const blkConfig = struct('virtio_blk_config', 36, { capacity: [u64, 0], num_queues: [u16, 34] });

/** The device: its data path is build/model.wasm. */
export function createModel() {
  return new WasmModel({
    module: new URL('build/model.wasm', import.meta.url),
    manifest: { deviceId: DEVICE_ID, features: FEATURES, queues: { minimum: 1, maximum: 64 } },
    config: ({ queues }) => blkConfig.encode({ capacity: BigInt(CAPACITY / SECTOR), num_queues: queues }),
  });
}
