import {
  MODEL_CONFIG,
  MODEL_CONFIG_BYTES,
  MODEL_INDEX,
  MODEL_PRIVATE_BYTES,
  MODEL_QUEUE_STATE,
  MODEL_STATE,
  MODEL_VQ,
  PAGE_SIZE,
  VQ_BYTES_READ,
  VQ_BYTES_WRITTEN,
  VQ_EPOCH,
  VQ_FEATURES,
  VQ_IO_ERRORS,
} from '../layout';
import { add } from '../notify';

/** A virtqueue of the device, as its model sees it: the MODEL block of layout.ts. The host makes it. */
@unmanaged
export class Queue {
  /** The queue's index. */
  @inline
  get index(): u32 {
    return load<u32>(changetype<usize>(this), MODEL_INDEX);
  }

  /**
   * The state of the device, `stateBytes` bytes: zeroed when the device is served, then the model's alone. Queues on
   * different threads share it: what more than one of them writes needs atomic operations.
   */
  @inline
  get state(): usize {
    return load<u32>(changetype<usize>(this), MODEL_STATE);
  }

  /** The state of this queue, `queueStateBytes` bytes, zeroed likewise. No other queue's thread touches it. */
  @inline
  get queueState(): usize {
    return load<u32>(changetype<usize>(this), MODEL_QUEUE_STATE);
  }

  /** The config space as the model was given it, `configBytes` bytes. To be read only. */
  @inline
  get config(): usize {
    return load<u32>(changetype<usize>(this), MODEL_CONFIG);
  }

  @inline
  get configBytes(): u32 {
    return load<u32>(changetype<usize>(this), MODEL_CONFIG_BYTES);
  }

  /** Changes each time that a driver starts the queue: what was noted of another driver is stale then. */
  @inline
  get epoch(): u32 {
    return load<u32>(this.vq, VQ_EPOCH);
  }

  /** Whether the feature of bit number `bit` was negotiated. */
  @inline
  negotiated(bit: u32): bool {
    return ((load<u64>(this.vq, VQ_FEATURES) >> bit) & 1) != 0;
  }

  /** Counts bytes that drivers have read from the device (`bytesRead` of the device's stats). */
  @inline
  countRead(bytes: u64): void {
    add(this.vq + VQ_BYTES_READ, bytes);
  }

  /** Counts bytes that drivers have written to the device (`bytesWritten`). */
  @inline
  countWritten(bytes: u64): void {
    add(this.vq + VQ_BYTES_WRITTEN, bytes);
  }

  /** Counts a request that ended with an error (`ioErrors`). */
  @inline
  countError(): void {
    add(this.vq + VQ_IO_ERRORS, 1);
  }

  /** Linear address of the VQ block. */
  @inline
  get vq(): usize {
    return load<u32>(changetype<usize>(this), MODEL_VQ);
  }

  /**
   * Whether [linear, linear + bytes) is memory that a model may have a pointer to: it is there whatever the driver does. A
   * bulk copy elsewhere would not trap, but end the process.
   */
  owns(linear: usize, bytes: u32): bool {
    const end = <u64>linear + <u64>bytes;
    return linear >= <usize>PAGE_SIZE && end <= <u64>load<u32>(changetype<usize>(this), MODEL_PRIVATE_BYTES);
  }
}
