import { type ConsoleMessage, encodeMessage } from '../../uapi/console-message.js';
import type { Chain } from '../chain.js';

/** The device's messages to its driver: they wait for buffers, and buffers for messages. */
export class ControlQueue {
  readonly #buffers: Chain[] = [];
  #messages: ConsoleMessage[] = [];

  /** The driver has room for messages. */
  give(chains: readonly Chain[]): void {
    this.#buffers.push(...chains);
    this.#flush();
  }

  /** Sends a message, in the order of the calls. One about the same that still waits is out of date. */
  send(message: ConsoleMessage): void {
    const { id, event } = message;
    this.#messages = this.#messages.filter((other) => other.id !== id || other.event !== event);
    this.#messages.push(message);
    this.#flush();
  }

  /** The driver has gone. */
  forget(): void {
    this.#messages = [];
    for (const chain of this.#buffers.splice(0)) chain.complete();
  }

  #flush(): void {
    while (this.#messages.length > 0 && this.#buffers.length > 0) {
      const chain = this.#buffers.shift() as Chain;
      const bytes = encodeMessage(this.#messages[0] as ConsoleMessage);
      // Half a message is none.
      if (chain.writableBytes < bytes.length) {
        chain.refuse();
        continue;
      }
      this.#messages.shift();
      chain.write(0, bytes);
      chain.complete(bytes.length);
    }
  }
}
