import * as virtio from '../uapi/virtio.js';

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

/** The fields of a config space, which may be shorter or longer than its struct; none of a kind of device that is not known. */
export function configFields(deviceId: number, space: Uint8Array, features: bigint): ConfigFields {
  if (deviceId !== virtio.VIRTIO_ID_BLOCK) return {};
  const padded = new Uint8Array(virtio.virtioBlkConfig.size);
  padded.set(space.subarray(0, padded.length));
  const raw = virtio.virtioBlkConfig.decode(padded);
  const fields: Record<string, number | bigint> = { capacity: raw.capacity };
  for (const [feature, names] of BLOCK_FIELDS)
    if ((features >> BigInt(feature)) & 1n)
      for (const name of names) fields[name] = raw[name] as number | bigint;
  return fields;
}
