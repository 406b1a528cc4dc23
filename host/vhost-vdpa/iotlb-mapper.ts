import { isSystemError, RingbellError } from '../errors.js';
import { Mutex } from '../mutex.js';
import { hasBit } from '../uapi/bits.js';
import {
  VHOST_BACKEND_F_IOTLB_ASID,
  VHOST_BACKEND_F_IOTLB_BATCH,
  VHOST_BACKEND_F_IOTLB_MSG_V2,
  VHOST_IOTLB_BATCH_BEGIN,
  VHOST_IOTLB_BATCH_END,
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_MSG,
  VHOST_IOTLB_MSG_V2,
  VHOST_IOTLB_UPDATE,
  vhostMsg,
  vhostMsgV2,
} from '../uapi/vhost.js';
import type { VhostVdpaFile } from './file.js';
import {
  endOf,
  type Invalidation,
  type Mapping,
  type MemoryRegion,
  mappingOf,
  memoryTable,
  tableDifference,
  type Update,
} from './memory-table.js';

/** Memory that the device is to see in one of its address spaces. */
export interface IotlbRegion extends MemoryRegion {
  /** Address space, 0 by default. Others need VHOST_BACKEND_F_IOTLB_ASID. */
  asid?: number;
}

/** What a change of an address space took. */
export interface IotlbChange {
  /** Messages written, batch markers included. */
  readonly messages: number;
  /** Of them, VHOST_IOTLB_UPDATE. */
  readonly updates: number;
  /** Of them, VHOST_IOTLB_INVALIDATE. */
  readonly invalidations: number;
  /**
   * Whether the device has confirmed what it sees now. It is asked at an update outside a batch only; what it answers to an
   * invalidation and to the end of a batch the kernel drops. The next update tells.
   */
  readonly confirmed: boolean;
}

type Step = Update | Invalidation;

/** One address space, as the kernel has it. */
interface Space {
  /** Ascending by IOVA: one for each update that was accepted. */
  mappings: Mapping[];
  confirmed: boolean;
}

/** Messages from which on a batch pays: its markers are two more, and its last update goes by itself (see `#changeInBatch`). */
const BATCH_WORTHWHILE = 3;
const LAST_IOVA = 2n ** 64n - 1n;

const MARKER: Mapping = { iova: 0n, bytes: 0n, address: 0n, perm: 0 };

/**
 * The IOTLB of a device as its driver sees it. INVALIDATE removes whole mappings, so that only what was mapped is
 * invalidated, exactly: this class remembers each update that was accepted, and nothing else. Calls are carried out one after
 * the other. A refused message rejects with the file's SystemError, and nothing has changed.
 */
export class IotlbMapper {
  readonly #file: VhostVdpaFile;
  readonly #backendFeatures: bigint;
  readonly #mutex = new Mutex();
  readonly #spaces = new Map<number, Space>();
  readonly #written = { messages: 0, updates: 0, invalidations: 0 };
  #inBatch = false;

  /** `backendFeatures`: those acknowledged. */
  constructor(file: VhostVdpaFile, backendFeatures: bigint) {
    this.#file = file;
    this.#backendFeatures = backendFeatures;
  }

  /** What the device was told of, ascending by address space and IOVA: an entry for each update. */
  get mapped(): readonly Required<IotlbRegion>[] {
    return [...this.#spaces]
      .sort(([a], [b]) => a - b)
      .flatMap(([asid, { mappings }]) => mappings.map((mapping) => ({ ...mapping, asid })));
  }

  /**
   * Maps all regions, or none. Many of one address space go as a batch; when the device does not confirm it, the regions are
   * tried again one by one, which either works or names the culprit.
   */
  map(regions: readonly IotlbRegion[]): Promise<void> {
    return this.#mutex.run(async () => {
      const updates = new Map<number, Update[]>();
      for (const region of regions) {
        const { asid = 0 } = region;
        const update: Update = { kind: 'update', mapping: mappingOf(region), stays: false };
        updates.set(asid, [...(updates.get(asid) ?? []), update]);
      }
      const done: [number, Update[]][] = [];
      for (const [asid, steps] of updates) {
        try {
          await this.#change(asid, steps);
        } catch (error) {
          for (const [other, accepted] of done) await this.#undo(other, accepted);
          throw error;
        }
        done.push([asid, steps]);
      }
    });
  }

  /** Unmaps what lies in a range. ERR_ARGUMENT if a mapping reaches out of it: it would go whole. */
  unmap(range: { iova: bigint; bytes: bigint; asid?: number }): Promise<void> {
    return this.#mutex.run(async () => {
      const { asid = 0 } = range;
      const inside = this.#space(asid).mappings.filter(
        (mapping) => mapping.iova < endOf(range) && range.iova < endOf(mapping),
      );
      const outside = inside.find((mapping) => mapping.iova < range.iova || endOf(mapping) > endOf(range));
      if (outside)
        throw new RingbellError(
          'ERR_ARGUMENT',
          `the mapping at IOVA 0x${outside.iova.toString(16)}, of ${outside.bytes} bytes, goes whole or not at all`,
        );
      if (inside.length) await this.#invalidate(asid, inside);
    });
  }

  /**
   * Makes `regions` all that an address space has, by the fewest messages (see `tableDifference`): what stays is not
   * touched. Where a mapping has to be cut, which the kernel cannot, `mayCut` is asked: what stays of it is unmapped for a
   * moment then, except where a batch makes one change of it all, as it does for parents that take whole tables. Refused, it
   * is ERR_MEMORY_IN_USE.
   *
   * A change that is refused, or that the device does not confirm, is undone. ERR_MEMORY_TABLE when that is refused too: the
   * device sees nothing of the address space any more.
   */
  setMemTable(
    regions: readonly MemoryRegion[],
    asid: number,
    mayCut: () => Promise<boolean>,
  ): Promise<IotlbChange> {
    const table = memoryTable(regions, this.#file.pageSize);
    return this.#mutex.run(async () => {
      const before = { ...this.#written };
      const { steps, cut } = tableDifference(this.#space(asid).mappings, table);
      if (cut.length && !(await mayCut()))
        throw new RingbellError(
          'ERR_MEMORY_IN_USE',
          `memory at IOVA 0x${cut[0]!.iova.toString(16)} stays, but its mapping goes: it would be unmapped for a moment`,
        );
      await this.#change(asid, steps);
      return {
        messages: this.#written.messages - before.messages,
        updates: this.#written.updates - before.updates,
        invalidations: this.#written.invalidations - before.invalidations,
        confirmed: this.#space(asid).confirmed,
      };
    });
  }

  /**
   * Maps again what was mapped: a reset makes the device forget its mappings, unless VHOST_BACKEND_F_IOTLB_PERSIST is
   * acknowledged, while the kernel's own table keeps them and would refuse the overlap.
   */
  renew(): Promise<void> {
    return this.#mutex.run(async () => {
      for (const [asid, { mappings }] of this.#spaces)
        if (mappings.length) await this.#rebuild(asid, mappings);
    });
  }

  /** Unmaps everything that can be. Rejects with the first refusal. */
  unmapAll(): Promise<void> {
    return this.#mutex.run(async () => {
      const refusals: unknown[] = [];
      for (const [asid, { mappings }] of this.#spaces)
        if (mappings.length) await this.#invalidate(asid, mappings).catch((error) => refusals.push(error));
      if (refusals.length) throw refusals[0];
    });
  }

  /** Carries out all steps, or none. */
  async #change(asid: number, steps: readonly Step[]): Promise<void> {
    const { mappings } = this.#space(asid);
    const cuts = steps.some((step) => step.kind === 'update' && step.stays);
    if (this.#has(VHOST_BACKEND_F_IOTLB_BATCH) && (cuts || steps.length >= BATCH_WORTHWHILE)) {
      const unconfirmed = await this.#changeInBatch(asid, steps, mappings);
      if (!unconfirmed) return;
      if (cuts) throw unconfirmed;
    }
    await this.#carryOut(asid, steps, mappings);
  }

  /**
   * Carries out all steps in a batch, except for the last, if that maps new memory: the kernel drops what the device says to
   * the table at BATCH_END, but reports what it says to the whole table at an update outside a batch. So a parent that takes
   * whole tables is given two, however many steps there are. Resolves to the refusal if the device does not confirm; nothing
   * has changed then.
   */
  async #changeInBatch(asid: number, steps: readonly Step[], before: readonly Mapping[]): Promise<unknown> {
    const last = steps.at(-1);
    const confirming = last?.kind === 'update' && !last.stays ? last : undefined;
    try {
      await this.#write(VHOST_IOTLB_BATCH_BEGIN, asid, MARKER);
    } catch (error) {
      return error;
    }
    this.#inBatch = true;
    try {
      await this.#carryOut(asid, confirming ? steps.slice(0, -1) : steps, before);
    } catch (error) {
      await this.#endBatch(asid).catch(() => {});
      throw error;
    }
    try {
      await this.#endBatch(asid);
      if (confirming) await this.#send(asid, confirming);
      return undefined;
    } catch (error) {
      await this.#restore(asid, before, error);
      return error;
    }
  }

  /** A batch that stays open swallows every later change without a word: its end is tried twice. */
  async #endBatch(asid: number): Promise<void> {
    try {
      await this.#write(VHOST_IOTLB_BATCH_END, asid, MARKER).catch(() =>
        this.#write(VHOST_IOTLB_BATCH_END, asid, MARKER),
      );
    } finally {
      this.#inBatch = false;
      this.#space(asid).confirmed = false;
    }
  }

  /** Sends steps one by one. One that is refused undoes those before it, and rejects. */
  async #carryOut(asid: number, steps: readonly Step[], before: readonly Mapping[]): Promise<void> {
    for (const [index, step] of steps.entries()) {
      try {
        await this.#send(asid, step);
      } catch (error) {
        // The range that the kernel undoes of a refused update at IOVA 0 wraps to everything (vhost_vdpa_va_map).
        const isSwept = step.kind === 'update' && step.mapping.iova === 0n;
        if (isSwept || !(await this.#undo(asid, steps.slice(0, index))))
          await this.#restore(asid, before, error);
        throw error;
      }
    }
  }

  /** Takes steps back, the last one first: false when that is refused. */
  async #undo(asid: number, steps: readonly Step[]): Promise<boolean> {
    try {
      for (const step of steps.toReversed()) {
        if (step.kind === 'update') await this.#invalidate(asid, [step.mapping]);
        else for (const mapping of step.mappings) await this.#update(asid, mapping);
      }
      return true;
    } catch (error) {
      if (!isSystemError(error)) throw error;
      return false;
    }
  }

  /** Makes sure that an address space has `mappings` and no others, whatever it has. ERR_MEMORY_TABLE if it cannot. */
  async #restore(asid: number, mappings: readonly Mapping[], cause: unknown): Promise<void> {
    try {
      await this.#rebuild(asid, mappings);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      const left = this.#space(asid).mappings.length;
      throw new RingbellError(
        'ERR_MEMORY_TABLE',
        `a change of address space ${asid} was refused, and so was what it had before: the device sees ${left ? `${left} mappings` : 'nothing'} of it`,
        { cause },
      );
    }
  }

  /** Takes away whatever there is and maps `mappings`, which have been all that there was, or nothing. */
  async #rebuild(asid: number, mappings: readonly Mapping[]): Promise<void> {
    const suspects = [...mappings, ...this.#space(asid).mappings];
    if (suspects.length) await this.#invalidate(asid, suspects);
    await this.#change(
      asid,
      mappings.map((mapping) => ({ kind: 'update', mapping, stays: false })),
    );
  }

  #send(asid: number, step: Step): Promise<void> {
    return step.kind === 'update' ? this.#update(asid, step.mapping) : this.#invalidate(asid, step.mappings);
  }

  async #update(asid: number, mapping: Mapping): Promise<void> {
    await this.#write(VHOST_IOTLB_UPDATE, asid, mapping);
    const space = this.#space(asid);
    const index = space.mappings.findIndex(({ iova }) => iova > mapping.iova);
    space.mappings = space.mappings.toSpliced(index < 0 ? space.mappings.length : index, 0, mapping);
    space.confirmed = !this.#inBatch;
  }

  /** Invalidates the range that `mappings` span: nothing else is mapped in it. */
  async #invalidate(asid: number, mappings: readonly Mapping[]): Promise<void> {
    const iova = mappings.reduce(
      (first, mapping) => (mapping.iova < first ? mapping.iova : first),
      LAST_IOVA,
    );
    const end = mappings.reduce((last, mapping) => (endOf(mapping) > last ? endOf(mapping) : last), 0n);
    // 2^64 bytes cannot be said; one less touch all the same.
    const bytes = end - iova > LAST_IOVA ? LAST_IOVA : end - iova;
    await this.#write(VHOST_IOTLB_INVALIDATE, asid, { ...MARKER, iova, bytes });
    const space = this.#space(asid);
    space.mappings = space.mappings.filter((mapping) => mapping.iova < iova || mapping.iova >= end);
    space.confirmed = false;
  }

  /** In version 2 where the device's kernel knows it; version 1 has no address space to say. */
  async #write(type: number, asid: number, { iova, bytes, address, perm }: Mapping): Promise<void> {
    if (asid && !this.#has(VHOST_BACKEND_F_IOTLB_ASID))
      throw new RingbellError(
        'ERR_NOT_SUPPORTED',
        `${this.#file.name} has one address space, no number ${asid}`,
      );
    const iotlb = { iova, size: bytes, uaddr: address, perm, type };
    this.#written.messages++;
    if (type === VHOST_IOTLB_UPDATE) this.#written.updates++;
    if (type === VHOST_IOTLB_INVALIDATE) this.#written.invalidations++;
    await this.#file.write(
      this.#has(VHOST_BACKEND_F_IOTLB_MSG_V2)
        ? vhostMsgV2.encode({ type: VHOST_IOTLB_MSG_V2, asid, iotlb })
        : vhostMsg.encode({ type: VHOST_IOTLB_MSG, iotlb }),
    );
  }

  #space(asid: number): Space {
    let space = this.#spaces.get(asid);
    if (!space) {
      space = { mappings: [], confirmed: true };
      this.#spaces.set(asid, space);
    }
    return space;
  }

  #has(feature: number): boolean {
    return hasBit(this.#backendFeatures, feature);
  }
}
