import type { NetHeader } from './net-header.js';
import { NetModel } from './net-model.js';

/** A network device that hands its driver every frame that it sends. */
export class LoopbackNet extends NetModel {
  override transmit(frame: Uint8Array, header: NetHeader, pair: number): void {
    this.receive(frame, header, pair);
  }
}
