import { readFileSync } from 'node:fs';
import { instantiateSync } from '@assemblyscript/loader';
import {
  COUNT_MASK,
  MODEL_BLOCK_SIZE,
  MODEL_LOST,
  MODEL_VQ,
  VQ_BURST,
  VQ_F_PACKED,
} from '../../assembly/layout.js';
import {
  RING_EVENT_FLAGS_DISABLE,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_AVAIL_FLAGS,
} from '../../assembly/virtio.js';
import { Module } from '../../host/aperture/web-assembly.js';
import { assemblyFile } from '../build.js';
import type { Ring } from '../ring/ring.js';
import type { Side } from '../ring/sides.js';

/** Bursts of one call: more than a ring has. */
const BURSTS = 2 ** 20;

/** The null model that is compiled into one module with the engine: bench/assembly/null.ts. */
export function builtIn(ring: Ring, burst: number): Side {
  const { nullPoll } = instantiate('null', ring, {}) as {
    nullPoll(vq: number, lost: number, spins: number, bursts: number): number;
  };
  const lost = ring.allocate(4);
  return nullSide(ring, burst, () => nullPoll(ring.vq, lost, 0, BURSTS));
}

/** The null model in a module of its own, which calls the engine's exports: bench/assembly/model.ts. */
export function linked(ring: Ring, burst: number): Side {
  const { serve } = instantiate('model', ring, ring.engine) as {
    serve(queue: number, spins: number, bursts: number): number;
  };
  const block = ring.allocate(MODEL_BLOCK_SIZE);
  ring.data.setUint32(block + MODEL_VQ, ring.vq, true);
  ring.data.setUint32(block + MODEL_LOST, ring.allocate(4), true);
  return nullSide(ring, burst, () => serve(block, 0, BURSTS));
}

function instantiate(name: string, ring: Ring, engine: object): unknown {
  const module = new Module(readFileSync(assemblyFile(name)));
  const imports = { env: { memory: ring.memory }, engine };
  return instantiateSync(module as never, imports as never).instance.exports;
}

function nullSide(ring: Ring, burst: number, serve: () => number): Side {
  return {
    start: (base) => {
      // Nobody is to be interrupted, or each burst would end a call.
      if (ring.flags & VQ_F_PACKED) ring.data.setUint32(ring.avail, RING_EVENT_FLAGS_DISABLE << 16, true);
      else ring.data.setUint16(ring.avail + VIRTQ_AVAIL_FLAGS, VIRTQ_AVAIL_F_NO_INTERRUPT, true);
      ring.data.setUint32(ring.vq + VQ_BURST, burst, true);
      ring.engine.deviceStart(ring.vq, base);
    },
    drain: () => serve() & COUNT_MASK,
    takeDigest: () => 0,
  };
}
