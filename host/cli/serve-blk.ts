import { statSync } from 'node:fs';
import { BlockDevice, NbdDisk, OverlayDisk } from '../index.js';
import { type Arguments, UsageError } from './arguments.js';
import { givenImage, SECTOR_BYTES } from './image.js';
import type { OpenedModel, ServedKind } from './serve-kind.js';
import { formatBytes } from './units.js';

/** Where the bytes of a disk are. */
interface DiskPlan {
  /** Path of the image; undefined for a disk that is in none. */
  file: string | undefined;
  /** Path of the base under it, if `file` is an overlay. */
  base: string | undefined;
  /** URI of the export of an NBD server; undefined for a disk that is not there. */
  nbd: string | undefined;
  /** Of the image or the memory; undefined for what says so itself when it is open. */
  bytes: number | undefined;
  readOnly: boolean;
}

/** What can be served as a disk. */
type DiskModel = BlockDevice | NbdDisk | OverlayDisk;

/** Disks: of an image, of changes over one, of an NBD server, in memory. */
export const blk: ServedKind = {
  name: 'blk',
  queues: 1,
  options: {
    file: { value: 'FILE', help: 'image, or block device, to serve' },
    base: { value: 'FILE', help: 'keep what is changed in --file, over this image, which is only read' },
    nbd: { value: 'URI', help: 'serve the export of an NBD server instead: nbd://HOST/EXPORT' },
    size: { value: 'BYTES', help: 'serve a disk in memory of this size instead' },
    'read-only': { help: 'refuse everything that changes the disk' },
  },
  plan: (values) => {
    const plan = planOf(values);
    return async (signal) => opened(await modelOf(plan, signal), plan);
  },
};

function opened(model: DiskModel, { file, base, nbd, bytes: planned }: DiskPlan): OpenedModel {
  const { capacity: bytes = planned, readOnly } = model;
  return {
    model,
    text: () => {
      const size = bytes === undefined ? '' : `, ${formatBytes(bytes)}`;
      const over = base === undefined ? '' : ` over ${base}`;
      return `${file ?? nbd ?? 'memory'}${over}${size}${readOnly ? ', read-only' : ''}`;
    },
    facts: () => ({
      ...{ file: file ?? null, base: base ?? null, nbd: nbd ?? null },
      ...{ bytes: bytes ?? null, readOnly },
    }),
    ...(model instanceof NbdDisk && { follow: (report) => report.follow(model) }),
    close: async () => {
      if (!(model instanceof BlockDevice)) await model.close();
    },
  };
}

async function modelOf(
  { nbd, file, base, bytes, readOnly }: DiskPlan,
  signal: AbortSignal,
): Promise<DiskModel> {
  if (nbd !== undefined) return NbdDisk.connect(nbd, { readOnly, signal });
  if (base !== undefined) return OverlayDisk.open({ file: file!, base, readOnly });
  return new BlockDevice(file === undefined ? { memory: bytes!, readOnly } : { file, readOnly });
}

function planOf(values: Arguments): DiskPlan {
  const file = values.text('file');
  const nbd = values.text('nbd');
  if (['file', 'nbd', 'size'].filter((option) => values.given(option)).length !== 1)
    throw new UsageError('give one of --file FILE, --nbd URI and, for a disk in memory, --size BYTES');
  const base = values.text('base');
  if (base !== undefined && file === undefined)
    throw new UsageError('--base needs --file: what is changed has to be kept somewhere');
  return {
    ...{ file, base, nbd },
    bytes: values.given('size')
      ? values.bytes('size', { minimum: SECTOR_BYTES, maximum: 3.5 * 2 ** 30, multiple: SECTOR_BYTES })
      : file === undefined || base !== undefined
        ? undefined
        : bytesOf(file),
    readOnly: values.flag('read-only'),
  };
}

/** Bytes of an image; undefined for a block device, which says so itself. Throws UsageError for what cannot be served. */
function bytesOf(file: string): number | undefined {
  if (statSync(file, { throwIfNoEntry: false })?.isBlockDevice()) return undefined;
  return givenImage('file', file).bytes;
}
