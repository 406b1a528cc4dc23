import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Ring } from '../ring/ring.js';
import type { Side } from '../ring/sides.js';

/** Bytes that each chain is said to have been written, as by the other sides. */
const USED_LENGTH = 1;
/** Bytes of what a driver sends with a request: what the null model of the contract gets as a copy. */
const READABLE_BYTES = 2000;

/** What of v86's virtqueue a device of that emulator uses: src/virtio.js. */
interface VirtQueue {
  desc_addr: number;
  avail_addr: number;
  avail_last_idx: number;
  used_addr: number;
  num_staged_replies: number;
  has_request(): boolean;
  pop_request(): BufferChain;
  push_reply(chain: BufferChain): void;
  flush_replies(): void;
}

interface BufferChain {
  length_readable: number;
  length_written: number;
  get_next_blob(into: Uint8Array): number;
}

type VirtQueueClass = new (cpu: object, virtio: object, options: object) => VirtQueue;

/** Where a checkout of https://github.com/copy/v86 lies: its packages do not export the virtqueue. */
export const { V86: V86_FOLDER } = process.env;

/** The virtqueue of the emulator v86, in JavaScript, with a device that does nothing: on a split ring, in memory of one region. */
export function v86Side(ring: Ring, burst: number, folder: string): Side {
  const { data } = ring;
  const u8 = new Uint8Array(ring.memory.buffer);
  // Its guest's addresses have 32 bits: the low halves of IOVAs are places in the region; those of rings are linear.
  const cpu = {
    read16: (address: number) => data.getUint16(address, true),
    read32s: (address: number) => data.getInt32(address, true),
    write16: (address: number, value: number) => data.setUint16(address, value, true),
    write32: (address: number, value: number) => data.setUint32(address, value, true),
    read_blob: (address: number, bytes: number) =>
      u8.subarray(ring.buffers + address, ring.buffers + address + bytes),
  };
  const virtio = { is_feature_negotiated: () => false, raise_irq: () => {} };
  const queue = new (load(folder))(cpu, virtio, { size_supported: ring.size, notify_offset: 0 });
  const bytes = new Uint8Array(READABLE_BYTES);
  return {
    start: (base) => {
      queue.desc_addr = ring.table;
      queue.avail_addr = ring.avail;
      queue.used_addr = ring.used;
      queue.avail_last_idx = base;
      queue.num_staged_replies = 0;
    },
    drain: () => {
      let served = 0;
      while (queue.has_request()) {
        for (let count = 0; count < burst && queue.has_request(); count++, served++) {
          const chain = queue.pop_request();
          chain.get_next_blob(bytes.subarray(0, chain.length_readable));
          chain.length_written = USED_LENGTH;
          queue.push_reply(chain);
        }
        queue.flush_replies();
      }
      return served;
    },
    takeDigest: () => undefined,
  };
}

/** Its class, with the constants in front, without what its own release build leaves out: logging and assertions. */
function load(folder: string): VirtQueueClass {
  const source = readFileSync(join(folder, 'src/virtio.js'), 'utf8').replace(/^export /gm, '');
  const constants = source.match(/^const VIRT.*;$/gm) ?? [];
  const code = source
    .slice(source.indexOf('function VirtQueue('))
    .replace(/\bdbg_(?:log|assert)\([\s\S]*?\);$/gm, '');
  return new Function('DEBUG', `${constants.join('\n')}\n${code}\nreturn VirtQueue;`)(
    false,
  ) as VirtQueueClass;
}
