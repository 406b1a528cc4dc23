import { loadAddon } from '../native/addon.js';
import type { EventfdContext } from './eventfd-context.js';

/**
 * A descriptor number that never changes and is at any time another name of one eventfd: the one that the other side has
 * bound, or an idle one of the bus's own. So a notification goes from one side to the other with nobody relaying it, and
 * each side may bind, unbind or go away while a thread of the other uses the number.
 */
export class NotificationSlot {
  readonly fd: number;
  readonly #idle: number;
  #target: EventfdContext | undefined;

  constructor() {
    const addon = loadAddon();
    this.#idle = addon.eventfd();
    this.fd = addon.duplicate(this.#idle);
  }

  /** Makes the slot another name of `target`, or of the idle eventfd. */
  point(target: EventfdContext | undefined): void {
    if (target === this.#target) return;
    this.#target = target;
    const addon = loadAddon();
    const previous = addon.duplicate(this.fd);
    addon.duplicate(target?.fd ?? this.#idle, this.fd);
    // A thread inside poll(2) holds the previous eventfd, not the number. Signalled after the exchange, it wakes, finds
    // the new eventfd under the number and polls that. Never drained here: a waiter re-reads the counter when it wakes.
    addon.eventfdSignal(previous);
    loadAddon().close(previous);
  }

  /** Nobody may be using the number any more. */
  close(): void {
    loadAddon().close(this.fd);
    loadAddon().close(this.#idle);
  }
}
