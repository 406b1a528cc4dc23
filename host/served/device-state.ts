import { crc32 } from 'node:zlib';
import { RingbellError } from '../errors.js';
import type { AttachedModel } from '../models/model.js';
import type { QueueBlock } from '../queue/queue-block.js';
import { featureNames } from '../uapi/names.js';

const MAGIC = Buffer.from('ringbell state\0\0', 'latin1');
const VERSION = 1;
/** Offsets of the header's fields. The bases of the queues, the model's state and a CRC-32 of all that follow. */
const VERSION_AT = 16;
const DEVICE_ID_AT = 20;
const FEATURES_AT = 24;
const QUEUES_AT = 32;
const MODEL_BYTES_AT = 36;
const HEADER_BYTES = 40;
const WORD_BYTES = 4;

/** What a device is at a moment at which no request is in flight: enough for another one to go on with its rings. */
export interface DeviceState {
  /** VIRTIO_ID_*. */
  readonly deviceId: number;
  /** Features that it offers, as a mask. */
  readonly features: bigint;
  /** Where each queue goes on: a vring base, as vhost has it. */
  readonly bases: readonly number[];
  /** What the model's `save` gave. */
  readonly model: Uint8Array;
}

/** The bytes of a state: little-endian, versioned, with a checksum. */
function encodeDeviceState({ deviceId, features, bases, model }: DeviceState): Uint8Array<ArrayBuffer> {
  const bytes = Buffer.alloc(HEADER_BYTES + (bases.length + 1) * WORD_BYTES + model.length);
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(VERSION, VERSION_AT);
  bytes.writeUInt32LE(deviceId, DEVICE_ID_AT);
  bytes.writeBigUInt64LE(features, FEATURES_AT);
  bytes.writeUInt32LE(bases.length, QUEUES_AT);
  bytes.writeUInt32LE(model.length, MODEL_BYTES_AT);
  for (const [index, base] of bases.entries()) bytes.writeUInt32LE(base, HEADER_BYTES + index * WORD_BYTES);
  bytes.set(model, HEADER_BYTES + bases.length * WORD_BYTES);
  const end = bytes.length - WORD_BYTES;
  bytes.writeUInt32LE(crc32(bytes.subarray(0, end)), end);
  return Uint8Array.from(bytes);
}

/** What `save` of a device has written. Throws ERR_STATE for bytes that are no state, of another version, or damaged. */
export function readDeviceState(state: Uint8Array): DeviceState {
  const bytes = Buffer.from(state.buffer, state.byteOffset, state.byteLength);
  if (bytes.length < HEADER_BYTES + WORD_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC))
    throw new RingbellError('ERR_STATE', 'these bytes are no state of a device');
  const version = bytes.readUInt32LE(VERSION_AT);
  if (version !== VERSION)
    throw new RingbellError('ERR_STATE', `the state is of version ${version}, not ${VERSION}`);
  const queues = bytes.readUInt32LE(QUEUES_AT);
  const modelAt = HEADER_BYTES + queues * WORD_BYTES;
  const end = modelAt + bytes.readUInt32LE(MODEL_BYTES_AT);
  if (bytes.length !== end + WORD_BYTES || crc32(bytes.subarray(0, end)) !== bytes.readUInt32LE(end))
    throw new RingbellError('ERR_STATE', 'the state is damaged: its length or its checksum is not right');
  return {
    deviceId: bytes.readUInt32LE(DEVICE_ID_AT),
    features: bytes.readBigUInt64LE(FEATURES_AT),
    bases: Array.from({ length: queues }, (_, index) =>
      bytes.readUInt32LE(HEADER_BYTES + index * WORD_BYTES),
    ),
    model: Uint8Array.from(bytes.subarray(modelAt, end)),
  };
}

/** A served device, as far as its state is concerned. */
export interface StatefulDevice {
  readonly name: string;
  readonly deviceId: number;
  /** Features that it offers, as a mask. */
  readonly features: bigint;
  readonly blocks: readonly QueueBlock[];
  readonly attached: AttachedModel;
}

/**
 * Takes the state of a device, whose queues `paused` keeps from running while it calls what it is given. Rejects with
 * ERR_NOT_SUPPORTED, ERR_IN_FLIGHT, ERR_MODEL, and as `paused`.
 */
export async function saveDevice(
  { name, deviceId, features, blocks, attached }: StatefulDevice,
  paused: (take: () => undefined) => Promise<void>,
): Promise<Uint8Array> {
  const { save } = attached;
  if (!save) throw new RingbellError('ERR_NOT_SUPPORTED', `the model of ${name} cannot be saved`);
  let bases: number[] = [];
  let model = Promise.resolve(new Uint8Array(0));
  await paused(() => {
    const busy = blocks.findIndex(({ inFlight }) => inFlight > 0);
    if (busy >= 0)
      throw new RingbellError('ERR_IN_FLIGHT', `requests of queue ${busy} of ${name} are in flight`);
    bases = blocks.map(({ base }) => base);
    model = (async () => Uint8Array.from(await save()))();
    // It may reject before anybody waits for it.
    model.catch(() => {});
    return undefined;
  });
  try {
    return encodeDeviceState({ deviceId, features, bases, model: await model });
  } catch (error) {
    throw modelError(name, 'be saved', error);
  }
}

/** Has the model of a device go on from a state. Throws ERR_STATE unless it is of a device of the same kind, ERR_NOT_SUPPORTED, ERR_MODEL. */
export async function restoreDevice(device: StatefulDevice, state: Uint8Array): Promise<void> {
  const { name, deviceId, features, blocks, attached } = device;
  const saved = readDeviceState(state);
  const refuse = (why: string) => new RingbellError('ERR_STATE', `the state is of a device with ${why}`);
  if (saved.deviceId !== deviceId) throw refuse(`device id ${saved.deviceId}, and ${name} has ${deviceId}`);
  if (saved.bases.length !== blocks.length)
    throw refuse(`${saved.bases.length} queue(s), and ${name} has ${blocks.length}`);
  const missing = saved.features & ~features;
  if (missing) throw refuse(`${featureNames(deviceId, missing).join(', ')}, which ${name} does not offer`);
  const { restore } = attached;
  if (!restore) throw new RingbellError('ERR_NOT_SUPPORTED', `the model of ${name} cannot be restored`);
  try {
    await restore(saved.model);
  } catch (error) {
    throw error instanceof RingbellError ? error : modelError(name, 'be restored', error);
  }
}

function modelError(name: string, what: string, cause: unknown): RingbellError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new RingbellError('ERR_MODEL', `the model of ${name} failed to ${what}: ${why}`, { cause });
}
