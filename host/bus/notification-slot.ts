import { loadAddon } from '../native/addon.js';
import type { EventfdContext } from './eventfd-context.js';

/** What passes through a slot: kicks, which the device waits for, or interrupts, which it only ever signals. */
export type NotificationKind = 'kick' | 'call';

/**
 * A descriptor number that never changes and is at any time another name of one eventfd: the one that the other side has
 * bound, or an idle one of the bus's own. So a notification goes from one side to the other with nobody relaying it, and
 * each side may bind, unbind or go away while a thread of the other uses the number.
 */
export class NotificationSlot {
  readonly fd: number;
  readonly #kind: NotificationKind;
  readonly #idle: number;
  #target: EventfdContext | undefined;

  constructor(kind: NotificationKind) {
    const addon = loadAddon();
    this.#kind = kind;
    this.#idle = addon.eventfd();
    this.fd = addon.duplicate(this.#idle);
  }

  /** Makes the slot another name of `target`, or of the idle eventfd. The target until now must still be held. */
  point(target: EventfdContext | undefined): void {
    if (target === this.#target) return;
    const addon = loadAddon();
    const previous = this.#target?.fd ?? this.#idle;
    // What woke the device from the idle eventfd, when that was last exchanged, is no notification of anybody's.
    if (!target) addon.eventfdDrain(this.#idle);
    addon.duplicate(target?.fd ?? this.#idle, this.fd);
    this.#target = target;
    // An eventfd that the driver lets go of interrupts it no more.
    if (this.#kind === 'call') return;
    // vhost has relayed a kick by the time that the driver binds another eventfd: one that still waits here moves along.
    if (addon.eventfdDrain(previous)) addon.eventfdSignal(this.fd);
    // A thread inside poll(2) holds the previous eventfd, not the number. Signalled after the exchange, it wakes, finds
    // the new eventfd under the number and polls that.
    addon.eventfdSignal(previous);
  }

  /** Nobody may be using the number any more. */
  close(): void {
    loadAddon().close(this.fd);
    loadAddon().close(this.#idle);
  }
}
