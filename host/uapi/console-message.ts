/** What both sides of a console agree on: which queue is whose ("Console Device", "Virtqueues"), and control messages. */
import { virtioConsoleControl } from './virtio.js';

/** Queues of the device's messages to the driver, and of the driver's to the device. */
export const CONTROL_RECEIVEQ = 2;
export const CONTROL_TRANSMITQ = 3;
/** Ports at most: each has two queues, of 64 that a device has, and the control queues are two. */
export const PORTS_LIMIT = 31;

/** What a control message says. */
export interface ConsoleMessage {
  /** The port that it is about. */
  readonly id: number;
  /** VIRTIO_CONSOLE_*. */
  readonly event: number;
  readonly value: number;
  /** What it says besides: a name, or a size. */
  readonly rest?: Uint8Array;
}

/** Columns and rows of characters of a terminal. */
export interface ConsoleSize {
  readonly cols: number;
  readonly rows: number;
}

/** Index of the queue that port `id` receives from: it transmits to the next. Seen from the driver. */
export function receiveqOf(id: number): number {
  return id === 0 ? 0 : 2 * (id + 1);
}

/** The port whose data queue `index` carries: any but the control queues. */
export function portOf(index: number): number {
  return index < CONTROL_RECEIVEQ ? 0 : (index >> 1) - 1;
}

/** Queues of a device of `ports` ports with control queues; of one without, two. */
export function consoleQueues(ports: number): number {
  return 2 * (ports + 1);
}

export function encodeMessage({ id, event, value, rest = new Uint8Array(0) }: ConsoleMessage): Uint8Array {
  return Buffer.concat([virtioConsoleControl.encode({ id, event, value }), rest]);
}

/** Undefined for what is too short to be one. */
export function decodeMessage(bytes: Uint8Array): Required<ConsoleMessage> | undefined {
  const { size } = virtioConsoleControl;
  if (bytes.length < size) return undefined;
  return { ...virtioConsoleControl.decode(bytes.subarray(0, size)), rest: bytes.subarray(size) };
}

/** struct virtio_console_resize. */
export function encodeSize({ cols, rows }: ConsoleSize): Uint8Array {
  return Uint8Array.of(cols & 0xff, cols >> 8, rows & 0xff, rows >> 8);
}

/** Undefined for what is too short to be one. */
export function decodeSize(bytes: Uint8Array): ConsoleSize | undefined {
  if (bytes.length < 4) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { cols: view.getUint16(0, true), rows: view.getUint16(2, true) };
}
