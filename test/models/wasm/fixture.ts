import { compileAssembly, type Edit } from '../../../bench/build-assembly.js';
import { WasmModel } from '../../../host/models/wasm/wasm-model.js';
import { VIRTIO_BLK_F_MQ, VIRTIO_ID_BLOCK, virtioBlkConfig } from '../../../host/uapi/virtio.js';

/** Bytes of the disk of test/models/wasm/assembly/disk.ts. */
export const DISK_BYTES = 2 ** 20;

/** The module of test/models/wasm/assembly/NAME.ts, compiled as `ringbell new-model` has it compiled. */
export function compileModel(name: string, edit?: Edit): Promise<Uint8Array> {
  return compileAssembly(`test/models/wasm/assembly/${name}.ts`, {
    options: ['--disable', 'bulk-memory', '--initialMemory', '0'],
    ...(edit && { edit }),
  });
}

/** A disk in AssemblyScript, of DISK_BYTES bytes with `queues` queues. */
export function diskModel(module: Uint8Array, queues = 1): WasmModel {
  return new WasmModel({
    module,
    manifest: { deviceId: VIRTIO_ID_BLOCK, features: queues > 1 ? [VIRTIO_BLK_F_MQ] : [], queues },
    config: () => virtioBlkConfig.encode({ capacity: BigInt(DISK_BYTES / 512), num_queues: queues }),
  });
}
