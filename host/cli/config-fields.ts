import { hasBit } from '../uapi/bits.js';
import type { Codec } from '../uapi/codec.js';
import * as virtio from '../uapi/virtio.js';
import { formatMacAddress } from '../vdpa/config.js';

/** Fields of a config space by the kernel's names, as far as the device's features make them valid. */
export type ConfigFields = Readonly<Record<string, number | bigint | string>>;

/** Fields of virtio_blk_config by the feature bit that makes them valid; `capacity` always is. */
const BLOCK_FIELDS: ReadonlyMap<number, readonly (keyof typeof virtio.virtioBlkConfig.fields)[]> = new Map([
  [virtio.VIRTIO_BLK_F_SIZE_MAX, ['size_max']],
  [virtio.VIRTIO_BLK_F_SEG_MAX, ['seg_max']],
  [virtio.VIRTIO_BLK_F_BLK_SIZE, ['blk_size']],
  [virtio.VIRTIO_BLK_F_TOPOLOGY, ['physical_block_exp', 'alignment_offset', 'min_io_size', 'opt_io_size']],
  [virtio.VIRTIO_BLK_F_CONFIG_WCE, ['wce']],
  [virtio.VIRTIO_BLK_F_MQ, ['num_queues']],
  [virtio.VIRTIO_BLK_F_DISCARD, ['max_discard_sectors', 'max_discard_seg', 'discard_sector_alignment']],
  [
    virtio.VIRTIO_BLK_F_WRITE_ZEROES,
    ['max_write_zeroes_sectors', 'max_write_zeroes_seg', 'write_zeroes_may_unmap'],
  ],
]);

/** Fields of virtio_net_config likewise. */
const NET_FIELDS: ReadonlyMap<number, readonly (keyof typeof virtio.virtioNetConfig.fields)[]> = new Map([
  [virtio.VIRTIO_NET_F_MAC, ['mac']],
  [virtio.VIRTIO_NET_F_STATUS, ['status']],
  [virtio.VIRTIO_NET_F_MQ, ['max_virtqueue_pairs']],
  [virtio.VIRTIO_NET_F_MTU, ['mtu']],
  [virtio.VIRTIO_NET_F_SPEED_DUPLEX, ['speed', 'duplex']],
]);

/** The fields of a config space, which may be shorter or longer than its struct; none of a kind of device that is not known. */
export function configFields(deviceId: number, space: Uint8Array, features: bigint): ConfigFields {
  if (deviceId === virtio.VIRTIO_ID_BLOCK) {
    const raw = decodePadded(virtio.virtioBlkConfig, space);
    return { capacity: raw.capacity, ...validFields(raw, BLOCK_FIELDS, features) };
  }
  if (deviceId !== virtio.VIRTIO_ID_NET) return {};
  return validFields(decodePadded(virtio.virtioNetConfig, space), NET_FIELDS, features);
}

function decodePadded<T>(codec: Codec<T, never>, space: Uint8Array): T {
  const padded = new Uint8Array(codec.size);
  padded.set(space.subarray(0, padded.length));
  return codec.decode(padded);
}

function validFields<Name extends string>(
  raw: Readonly<Record<Name, unknown>>,
  byFeature: ReadonlyMap<number, readonly Name[]>,
  features: bigint,
): ConfigFields {
  const fields: Record<string, number | bigint | string> = {};
  for (const [feature, names] of byFeature)
    if (hasBit(features, feature))
      for (const name of names) {
        const value = raw[name] as number | bigint | number[];
        fields[name] = Array.isArray(value) ? formatMacAddress(value) : value;
      }
  return fields;
}
