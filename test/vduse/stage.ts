import { closeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VQ_FAULT_IOVA, VQ_MISS } from '../../assembly/layout.js';
import { Aperture } from '../../host/aperture/aperture.js';
import { type ErrnoName, systemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import { QueueBlock } from '../../host/queue/queue-block.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from '../../host/uapi/virtio.js';
import { decodePackedVringBase, PACKED_VRING_BASE_RESET } from '../../host/uapi/vring-base.js';
import { VduseDevice } from '../../host/vduse/device.js';
import { DirtyPages } from '../../host/vduse/dirty-pages.js';
import { DriverMemory } from '../../host/vduse/driver-memory.js';
import { Life } from '../../host/vduse/life.js';
import { VDUSE_GET_LOG_FD } from '../../host/vduse/log-extension.js';
import { within } from '../conformance/protocol.js';
import { FakeVduseFile } from './fake-file.js';

const FEATURES = (1n << BigInt(VIRTIO_F_VERSION_1)) | (1n << BigInt(VIRTIO_F_ACCESS_PLATFORM));
export const FEATURES_OK = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
export const DRIVER_OK = FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
/** IOVA of the rings: not aligned to a page, and behind 2^40. */
export const RINGS = 0x100_0000_0800n;
export const REGION_BYTES = 0x3000;
/** Byte of the driver's file at which the region starts. */
const REGION_OFFSET = 0x1800n;

type Info = Parameters<typeof vduse.vduseVqInfo.encode>[0];

export interface StageOptions {
  queues?: number;
  groups?: number;
  apiVersion?: number;
  umem?: boolean;
  /** Another process has left the device on its bus. */
  takenOver?: boolean;
  /** Rings are packed: offered, and accepted. */
  packed?: boolean;
  /** VDUSE_F_*, bit numbers. */
  features?: readonly number[];
}

/** A device whose transport is the test: one file of driver memory, one region of it. */
export class Stage {
  readonly file = new FakeVduseFile();
  readonly aperture = Aperture.create({ bytes: 2 ** 26, privateBytes: 2 ** 22 });
  readonly events: string[] = [];
  /** Messages of the errors. */
  readonly messages: string[] = [];
  readonly ioctls: number[] = [];
  /** Group of each queue, as VDUSE_VQ_SETUP had it. */
  readonly groups: number[] = [];
  readonly blocks: QueueBlock[];
  readonly kickFds: number[] = [];
  readonly device: VduseDevice;
  readonly running: Promise<void>;
  /** What VDUSE_VQ_GET_INFO answers, by queue. */
  info: Info[];
  perm = vduse.VDUSE_ACCESS_RW;
  mapped = true;
  features = FEATURES;
  /** IOTLB_GET_FD2 by address space: how often it was asked. */
  readonly lookups = new Map<number, number>();
  /** Bytes of the bounce region at IOVA 0; there is none while it is 0. */
  bounceBytes = 0;
  /** What VDUSE_IOTLB_REG_UMEM answers, once each; it succeeds when there is none left. */
  readonly umemErrors: ErrnoName[] = [];
  /** Members of the registration in place. */
  umem: ReturnType<typeof vduse.vduseIovaUmem.decode> | undefined;
  readonly #memfd = loadAddon().memfd('driver', 65536, true);
  readonly #fds: number[] = [this.#memfd];
  #lastId = 0;

  constructor(options: StageOptions) {
    const {
      queues = 1,
      groups = 1,
      apiVersion = vduse.VDUSE_API_VERSION,
      features = [],
      umem = true,
      takenOver = false,
      packed = false,
    } = options;
    if (packed) this.features |= 1n << BigInt(VIRTIO_F_RING_PACKED);
    const iotlbs = Array.from({ length: groups }, () => DriverMemory.allocateIotlb(this.aperture));
    const sigbusFlag = this.aperture.allocate(4);
    this.blocks = Array.from({ length: queues }, () => QueueBlock.allocate(this.aperture, 64, iotlbs[0]!));
    for (let index = 0; index < queues; index++) this.kickFds.push(this.#eventfd());
    this.info = this.blocks.map((_, index) => ({
      num: 16,
      desc_addr: RINGS + BigInt(index) * 0x800n,
      driver_addr: RINGS + BigInt(index) * 0x800n + 0x200n,
      device_addr: RINGS + BigInt(index) * 0x800n + 0x400n,
      ...(packed
        ? { packed: decodePackedVringBase(PACKED_VRING_BASE_RESET) }
        : { split: { avail_index: 0 } }),
      ready: 1,
    }));
    this.file.onIoctl = (request, argument) => this.#ioctl(request, argument!);
    const layout = {
      protocol: { apiVersion, features: features.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n) },
      features: this.features,
      iotlbs,
      dirty: DirtyPages.allocate(this.aperture),
      life: Life.allocate(this.aperture),
      groups,
      umem,
      queues: this.blocks.map(({ vq }, index) => ({
        vq,
        wakeFd: this.#eventfd(),
        kickFd: this.kickFds[index]!,
      })),
      queueSize: 64,
      takenOver,
      pauseLimitMs: 20,
      sigbusFlag,
      memoryLossIsFinal: false,
      reportIoErrors: true,
    };
    this.device = new VduseDevice(this.file, this.aperture, layout, {
      status: (status) => this.events.push(`status ${status}`),
      bounceBuffer: (bounceBuffer, reason) => {
        this.events.push(bounceBuffer);
        if (reason) this.messages.push(reason);
      },
      error: (code, message) => {
        this.events.push(code);
        this.messages.push(message);
      },
    });
    this.running = this.device.start().then(() => this.device.run());
  }

  /** Sends a message and waits for its answer. */
  async message(
    type: number,
    body: Partial<Parameters<typeof vduse.vduseDevRequest.encode>[0]> = {},
  ): Promise<ReturnType<typeof vduse.vduseDevResponse.decode>> {
    const request_id = ++this.#lastId;
    const answered = this.file.written.length;
    const answer = this.file.nextAnswer();
    this.file.send(vduse.vduseDevRequest.encode({ type, request_id, ...body }));
    await within(answer, `an answer to message ${type}`);
    // What is done after the reply is done by the time that anything else can be asked for.
    await new Promise((resolve) => setImmediate(resolve));
    const response = vduse.vduseDevResponse.decode(this.file.written[answered]!);
    assert.is(response.request_id, request_id);
    return response;
  }

  /** Writes a status: whether the device took it. */
  async status(status: number): Promise<boolean> {
    return (
      (await this.message(vduse.VDUSE_SET_STATUS, { s: { status } })).result === vduse.VDUSE_REQ_RESULT_OK
    );
  }

  /** From 0 to DRIVER_OK. */
  async start(): Promise<boolean> {
    for (const status of [0, VIRTIO_CONFIG_S_ACKNOWLEDGE, FEATURES_OK])
      assert.ok(await this.status(status), `status ${status}`);
    return this.status(DRIVER_OK);
  }

  /** Has a queue miss the region at `iova`, as a pop does, and waits until that has been looked after. */
  async miss(iova: bigint, index = 0): Promise<void> {
    const { vq } = this.blocks[index]!;
    this.aperture.data.setBigUint64(vq + VQ_FAULT_IOVA, iova, true);
    Atomics.store(this.aperture.i32, (vq + VQ_MISS) / 4, 1);
    await this.device.attend();
  }

  /** Has the kick eventfd of a queue signalled, as the transport does. */
  kick(index: number): void {
    loadAddon().eventfdSignal(this.kickFds[index]!);
  }

  /** Whether a queue may run. */
  isOpen(index = 0): boolean {
    const { gate } = this.blocks[index]!;
    if (!gate.enter()) return false;
    gate.leave();
    return true;
  }

  async close(): Promise<void> {
    await this.device.close();
    await this.running;
    this.aperture.close();
    for (const fd of this.#fds) closeSync(fd);
  }

  #ioctl(request: number, argument: Uint8Array): number {
    this.ioctls.push(request);
    switch (request) {
      case vduse.VDUSE_VQ_SETUP: {
        const { index, group } = vduse.vduseVqConfig.decode(argument);
        this.groups[index] = group;
        return 0;
      }
      case vduse.VDUSE_DEV_GET_FEATURES:
        argument.set(u64.encode(this.features));
        return 0;
      case vduse.VDUSE_VQ_GET_INFO: {
        const { index } = vduse.vduseVqInfo.decode(argument);
        vduse.vduseVqInfo.set(argument, this.info[index]!);
        return 0;
      }
      case vduse.VDUSE_IOTLB_GET_FD: {
        const { start } = vduse.vduseIotlbEntry.decode(argument);
        return this.#getFd(start, (entry) => vduse.vduseIotlbEntry.set(argument, entry));
      }
      case vduse.VDUSE_IOTLB_GET_FD2: {
        const { start, asid } = vduse.vduseIotlbEntryV2.decode(argument);
        this.lookups.set(asid, (this.lookups.get(asid) ?? 0) + 1);
        return this.#getFd(start, (entry) => vduse.vduseIotlbEntryV2.set(argument, entry));
      }
      case vduse.VDUSE_IOTLB_GET_INFO: {
        const { start } = vduse.vduseIovaInfo.decode(argument);
        if (start >= this.bounceBytes) throw systemError('EINVAL', 'ioctl');
        const capability = BigInt(vduse.VDUSE_IOVA_CAP_UMEM);
        vduse.vduseIovaInfo.set(argument, { start: 0n, last: BigInt(this.bounceBytes) - 1n, capability });
        return 0;
      }
      case vduse.VDUSE_IOTLB_REG_UMEM: {
        const error = this.umemErrors.shift();
        if (error) throw systemError(error, 'ioctl');
        this.umem = vduse.vduseIovaUmem.decode(argument);
        return 0;
      }
      case vduse.VDUSE_IOTLB_DEREG_UMEM:
        this.umem = undefined;
        return 0;
      case VDUSE_GET_LOG_FD:
        // As the kernel has it.
        throw systemError('ENOTTY', 'ioctl');
      default:
        return 0;
    }
  }

  #getFd(
    iova: bigint,
    answer: (entry: { offset: bigint; start: bigint; last: bigint; perm: number }) => void,
  ): number {
    if (iova < this.bounceBytes)
      answer({ offset: 0n, start: 0n, last: BigInt(this.bounceBytes) - 1n, perm: vduse.VDUSE_ACCESS_RW });
    else {
      const last = RINGS + BigInt(REGION_BYTES) - 1n;
      if (!this.mapped || iova < RINGS || iova > last) throw systemError('EINVAL', 'ioctl');
      answer({ offset: REGION_OFFSET, start: RINGS, last, perm: this.perm });
    }
    return loadAddon().duplicate(this.#memfd);
  }

  #eventfd(): number {
    const fd = loadAddon().eventfd();
    this.#fds.push(fd);
    return fd;
  }
}

/** A test on a stage of its own. */
export function scenario(
  name: string,
  body: (stage: Stage) => Promise<void>,
  options: StageOptions = {},
): void {
  test(name, async () => {
    const stage = new Stage(options);
    try {
      await body(stage);
    } finally {
      await stage.close();
    }
  });
}
