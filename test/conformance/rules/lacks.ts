/** Why a rule cannot be played in a world. */
import type { Rule } from '../rule.js';

type Lacks = NonNullable<Rule['lacks']>;

/** Groups and address spaces came with version 1. */
export const lacksApi1: Lacks = (world) =>
  world.apiVersion < 1n ? 'this kernel speaks API version 0 only' : undefined;

/** Opt-ins of VDUSE_SET_FEATURES, bit numbers. */
export function lacksVduseFeature(...bits: number[]): Lacks {
  return (world) =>
    bits.every((bit) => ((world.vduseFeatures ?? 0n) >> BigInt(bit)) & 1n)
      ? undefined
      : 'this kernel does not know the VDUSE feature';
}

/** What holds for whole tables only. */
export const lacksSetMap: Lacks = (world) =>
  world.parent === 'set_map' ? undefined : 'it is about parents that take whole tables';

/** What holds for single mappings only. */
export const lacksDmaMap: Lacks = (world) =>
  world.parent === 'dma_map' ? undefined : 'VDUSE takes whole tables';
