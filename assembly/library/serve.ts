// The loop around a model's handler. One call from JavaScript serves burst after burst; of a burst the engine parses the
// chains in one call and publishes them in another, both from WebAssembly to WebAssembly, and the handler is compiled into
// the loop between.

import { dirtyTracked } from '../dirty';
import {
  CHAIN_COUNTS,
  CHAIN_SIZE,
  COUNT_MASK,
  MODEL_LOST,
  NOTIFY_DUE,
  SEGMENT_BYTES,
  SEGMENT_SIZE,
  VERDICT_MEMORY_LOST,
  VERDICT_REQUEST,
  VQ_BURST,
  VQ_CHAINS,
  VQ_GATE_CLOSED,
  VQ_IOTLB,
  VQ_SEGMENTS,
} from '../layout';
import { Chain, enterChain, isRefused } from './chain';
import { deviceBreak, devicePop, devicePush, deviceReturn, dirtyMark } from './engine';
import { Queue } from './queue';

/**
 * Serves a queue with a model: `Model` is an unmanaged class, whose fields are the state of the device, with a method
 * `handle(chain: Chain, queue: Queue): u32`, which returns how many bytes it has written. Goes on until an interrupt is due,
 * `spins` looks in a row have found nothing, or `bursts` bursts were served: chains served, with NOTIFY_DUE. What a module
 * exports as `serve` returns this.
 */
export function serveQueue<Model>(queue: Queue, spins: u32, bursts: u32): u32 {
  const vq = queue.vq;
  let total: u32 = 0;
  let idle: u32 = 0;
  // The gate is read on each round: the control plane waits for one request, never for the budget.
  while (bursts > 0 && idle <= spins && atomic.load<u32>(vq, VQ_GATE_CLOSED) == 0) {
    const result = serveBurst<Model>(queue, vq);
    if (result == 0) {
      idle++;
      continue;
    }
    idle = 0;
    bursts--;
    total = min(total + (result & COUNT_MASK), COUNT_MASK);
    if (result & NOTIFY_DUE) return total | NOTIFY_DUE;
  }
  return total;
}

/** One burst. */
// @ts-ignore: decorator
@inline
function serveBurst<Model>(queue: Queue, vq: usize): u32 {
  const count = devicePop(vq, load<u32>(vq, VQ_BURST));
  if (count == 0) return 0;
  const lost: usize = load<u32>(changetype<usize>(queue), MODEL_LOST);
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  const tracked = dirtyTracked(iotlb);
  const model = changetype<Model>(queue.state);
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  let served: u32 = 0;
  for (; served < count; served++, chain += CHAIN_SIZE) {
    if (atomic.load<u32>(vq, VQ_GATE_CLOSED) | atomic.load<u32>(lost)) {
      deviceReturn(vq, served, count);
      break;
    }
    const counts = load<u32>(chain, CHAIN_COUNTS);
    const end = segment + (counts >> 16) * SEGMENT_SIZE;
    enterChain(segment, queue);
    let written: u32 = model.handle(changetype<Chain>(chain), queue);
    if (isRefused()) {
      deviceBreak(vq, VERDICT_REQUEST, <u32>load<u16>(chain));
      break;
    }
    if (written != 0 || tracked) {
      const writable = segment + (counts & 0xffff) * SEGMENT_SIZE;
      // Never more than the driver has room for ("The Virtqueue Used Ring"), whatever a handler says.
      written = min(written, bytesOf(writable, end));
      if (tracked) mark(iotlb, writable, end);
    }
    store<u32>(chain, written, CHAIN_COUNTS);
    segment = end;
  }
  if (atomic.load<u32>(lost)) {
    deviceBreak(vq, VERDICT_MEMORY_LOST, 0);
    return 0;
  }
  return devicePush(vq, served);
}

function bytesOf(segment: usize, end: usize): u32 {
  let bytes: u32 = 0;
  for (; segment < end; segment += SEGMENT_SIZE) bytes += load<u32>(segment, SEGMENT_BYTES);
  return bytes;
}

/** Marks all that the handler may have written, however much it says that it has: a mark too many costs a copy of a page. */
function mark(iotlb: usize, segment: usize, end: usize): void {
  for (; segment < end; segment += SEGMENT_SIZE)
    dirtyMark(iotlb, load<u32>(segment), load<u32>(segment, SEGMENT_BYTES));
}
