import { systemError } from '../errors.js';
import { messageName } from '../uapi/names.js';
import type { Decoded, Initializer } from '../uapi/struct.js';
import { VDUSE_REQ_RESULT_OK, vduseDevRequest, vduseDevResponse } from '../uapi/vduse.js';
import type { FaultInjection } from './fault-injection.js';
import { isZero } from './user-memory.js';

/** Milliseconds; VDUSE_MSG_DEFAULT_TIMEOUT. */
export const MESSAGE_TIMEOUT_MS = 30_000;

/** struct vduse_dev_response. */
export type MessageResponse = Decoded<typeof vduseDevResponse>;

/** A request that the device has yet to answer: struct vduse_dev_msg. */
interface Message {
  readonly id: number;
  readonly type: number;
  readonly bytes: Uint8Array;
  complete(response: MessageResponse | undefined): void;
}

interface Reader {
  resolve(request: Uint8Array): void;
  reject(error: unknown): void;
}

/**
 * The messages between the bus and one VDUSE device. A message that is not answered in time breaks the device for ever:
 * whatever is asked of it afterwards fails with EIO, its ioctls with EPERM, until it is destroyed.
 */
export class MessageQueue {
  /** Milliseconds; 0: wait for ever. */
  timeout = MESSAGE_TIMEOUT_MS;
  readonly #name: string;
  readonly #faults: FaultInjection;
  /** Messages that nobody has read, and messages read and not answered: send_list and recv_list. */
  #send: Message[] = [];
  #receive: Message[] = [];
  #readers: Reader[] = [];
  #unique = 0;
  #broken = false;

  constructor(name: string, faults: FaultInjection) {
    this.#name = name;
    this.#faults = faults;
  }

  /** Whether a message timed out, or the device refused one that it may not refuse. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Asks the device and waits for its answer (vduse_dev_msg_sync). EIO when it answers "failed", or not in time. */
  async request(values: Initializer<typeof vduseDevRequest.fields>): Promise<MessageResponse> {
    const type = values.type ?? 0;
    if (this.#broken) throw this.#failure(type, 'is broken');
    const lost = (await this.#faults.strike('message', this.#name, type)) === 'lost';
    if (this.#broken) throw this.#failure(type, 'is broken');
    const id = this.#unique;
    this.#unique = (this.#unique + 1) >>> 0;
    const response = await new Promise<MessageResponse | undefined>((resolve) => {
      const timer = this.timeout ? setTimeout(() => this.#expire(message), this.timeout) : undefined;
      const message: Message = {
        id,
        type,
        bytes: vduseDevRequest.encode({ ...values, request_id: id }),
        complete: (answer) => {
          clearTimeout(timer);
          resolve(answer);
        },
      };
      // A lost message waits among those already read: its answer never comes.
      if (lost) this.#receive.push(message);
      else this.#send.push(message);
      this.#deliver();
    });
    if (response?.result !== VDUSE_REQ_RESULT_OK)
      throw this.#failure(type, response ? 'answered "failed"' : 'did not answer');
    return response;
  }

  /** The next message for the device. Waits for one; EIO once the device is broken. */
  read(): Promise<Uint8Array> {
    // The kernel's poll(2) says POLLERR here, and a blocking read waits for good. This seam has no poll.
    if (this.#broken) return Promise.reject(systemError('EIO', 'read', `${this.#name} is broken`));
    return new Promise((resolve, reject) => {
      this.#readers.push({ resolve, reject });
      this.#deliver();
    });
  }

  /** Takes the device's answer. EINVAL for a short one or one with reserved bits, ENOENT for an unknown request. */
  async answer(bytes: Uint8Array): Promise<void> {
    if (bytes.byteLength < vduseDevResponse.size)
      throw systemError('EINVAL', 'write', `a response has ${vduseDevResponse.size} bytes`);
    const response = vduseDevResponse.decode(bytes);
    if (!isZero(response.reserved)) throw systemError('EINVAL', 'write', 'reserved fields must be zero');
    const find = () => this.#receive.find((candidate) => candidate.id === response.request_id);
    const message = find();
    if (message && (await this.#faults.strike('reply', this.#name, message.type)) === 'lost') return;
    // Looked up again: it may have timed out while a fault held the answer up.
    if (!message || find() !== message)
      throw systemError('ENOENT', 'write', `no request ${response.request_id} waits for an answer`);
    this.#receive.splice(this.#receive.indexOf(message), 1);
    message.complete(response);
  }

  /** The device's file was closed: what it read and did not answer is for whoever opens it next. */
  requeue(): void {
    this.#send.unshift(...this.#receive);
    this.#receive = [];
    for (const reader of this.#readers.splice(0))
      reader.reject(systemError('EBADF', 'read', `${this.#name} was closed`));
  }

  /** Gives up on the device for ever (vduse_dev_broken): every message fails, now and later. */
  break(): void {
    if (this.#broken) return;
    this.#broken = true;
    for (const message of [...this.#receive.splice(0), ...this.#send.splice(0)]) message.complete(undefined);
    for (const reader of this.#readers.splice(0))
      reader.reject(systemError('EIO', 'read', `${this.#name} is broken`));
  }

  #expire(message: Message): void {
    this.#send = this.#send.filter((candidate) => candidate !== message);
    this.#receive = this.#receive.filter((candidate) => candidate !== message);
    message.complete(undefined);
    this.break();
  }

  #deliver(): void {
    while (this.#readers.length && this.#send.length) {
      const message = this.#send.shift()!;
      this.#receive.push(message);
      // A copy: the message is sent again if the reader goes away without an answer.
      this.#readers.shift()!.resolve(message.bytes.slice());
    }
  }

  #failure(type: number, what: string): Error {
    return systemError('EIO', 'ioctl', `${this.#name} ${what} (${messageName(type)})`);
  }
}
