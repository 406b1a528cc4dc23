/** What can stand in a line, and in one at a time. */
interface Waiting<T> {
  next: T | undefined;
}

/** Those that wait for a slot of a queue, first come first served. What joins in one turn of the event loop is moved up together. */
export class WaitingLine<T extends Waiting<T>> {
  readonly #moveUp: () => void;
  #first: T | undefined;
  #last: T | undefined;
  #scheduled = false;

  /** `moveUp` is called when the code that has joined somebody has ended, once a turn. */
  constructor(moveUp: () => void) {
    this.#moveUp = moveUp;
  }

  /** Who is next. */
  get first(): T | undefined {
    return this.#first;
  }

  join(one: T): void {
    if (this.#last) this.#last.next = one;
    else this.#first = one;
    this.#last = one;
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#moveUp();
    });
  }

  /** Puts those back, in front of all others, who had left. */
  rejoin(ones: readonly T[]): void {
    for (const one of ones.toReversed()) {
      one.next = this.#first;
      this.#first = one;
      this.#last ??= one;
    }
  }

  /** Lets go of who is next. */
  leave(): void {
    this.#first = this.#first?.next;
    if (!this.#first) this.#last = undefined;
  }

  /** Lets go of everybody, whom `leaving` is told of. */
  dissolve(leaving: (one: T) => void): void {
    for (let one = this.#first; one; one = one.next) leaving(one);
    this.#first = this.#last = undefined;
  }
}
