import * as assert from 'uvu/assert';
import * as vduse from '../../../host/uapi/vduse.js';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTQ_AVAIL_ALIGN,
  VIRTQ_DESC_ALIGN,
  VIRTQ_USED_ALIGN,
} from '../../../host/uapi/virtio.js';
import { Stage as Device, DRIVER_OK, FEATURES_OK, REGION_BYTES, RINGS } from '../../vduse/stage.js';
import type { Choices } from '../choices.js';
import { Reached, type Target } from '../target.js';

const QUEUES = 2;
/** Entries; the most that a queue of the stage has. */
const QUEUE_SIZE = 64;
/** What the device of the stage offers; its driver can do without none of it. */
const NEEDED = (1n << BigInt(VIRTIO_F_VERSION_1)) | (1n << BigInt(VIRTIO_F_ACCESS_PLATFORM));
const OK = vduse.VDUSE_REQ_RESULT_OK;
const FAILED = vduse.VDUSE_REQ_RESULT_FAILED;
const TYPES = [
  vduse.VDUSE_SET_STATUS,
  vduse.VDUSE_SET_STATUS,
  vduse.VDUSE_GET_VQ_STATE,
  vduse.VDUSE_UPDATE_IOTLB,
  vduse.VDUSE_SET_VQ_GROUP_ASID,
  vduse.VDUSE_SET_VQ_READY,
  vduse.VDUSE_SUSPEND,
];

type Info = Device['info'][number];

/** Whether rings of `bytes` bytes at `address` are where a device can reach them. */
function mapped(address: bigint, bytes: number, align: number): boolean {
  const end = RINGS + BigInt(REGION_BYTES);
  return address % BigInt(align) === 0n && address >= RINGS && address + BigInt(bytes) <= end;
}

/** Whether a queue can be run: the rules for a split virtqueue of "Virtqueues", and what is mapped. */
function canRun({ num, desc_addr, driver_addr, device_addr }: Info): boolean {
  const size = num as number;
  const isSize = size > 0 && size <= QUEUE_SIZE && (size & (size - 1)) === 0;
  return (
    isSize &&
    mapped(desc_addr as bigint, size * 16, VIRTQ_DESC_ALIGN) &&
    mapped(driver_addr as bigint, 6 + size * 2, VIRTQ_AVAIL_ALIGN) &&
    mapped(device_addr as bigint, 6 + size * 8, VIRTQ_USED_ALIGN)
  );
}

/** A transport that says anything, in any order: each message must be answered, and a reset must help. */
class Transport {
  readonly reached = new Reached();
  readonly #device: Device;
  readonly #soundInfo: Info[];

  constructor() {
    this.#device = new Device({
      queues: QUEUES,
      groups: 2,
      apiVersion: vduse.VDUSE_API_VERSION_1,
      features: [vduse.VDUSE_F_QUEUE_READY, vduse.VDUSE_F_SUSPEND],
    });
    this.#soundInfo = this.#device.info;
  }

  async play(choices: Choices): Promise<number> {
    const device = this.#device;
    device.info = this.#soundInfo.map((info) => ({ ...info }));
    device.features = NEEDED;
    assert.ok(await device.status(0), 'a reset');
    let status = 0;
    let suspended = false;
    const steps = 2 + choices.below(16);
    for (let i = 0; i < steps; i++) {
      if (choices.once(4)) this.#disturb(choices);
      const type = choices.once(20) ? choices.below(64) : choices.pick(TYPES);
      const index = choices.once(10) ? choices.pick([QUEUES, 0xffffffff]) : choices.below(QUEUES);
      let expected: number | undefined;
      let body: Parameters<Device['message']>[1] = {};
      switch (type) {
        case vduse.VDUSE_SET_STATUS: {
          // Bits are only ever added: the transport sees to that (vhost_vdpa_set_status).
          const wanted = choices.pick([FEATURES_OK, DRIVER_OK, 1, 3, 0, choices.below(256)]);
          const next = wanted && wanted | status;
          body = { s: { status: next } };
          if (next === 0) expected = OK;
          else if (next & ~status & VIRTIO_CONFIG_S_FEATURES_OK && device.features !== NEEDED)
            expected = FAILED;
          else if (next & ~status & VIRTIO_CONFIG_S_DRIVER_OK) {
            const ready = device.info.filter((info) => info.ready);
            if (!ready.every(canRun)) expected = FAILED;
          } else expected = OK;
          break;
        }
        case vduse.VDUSE_GET_VQ_STATE:
          body = { vq_state: { index } };
          if (index >= QUEUES) expected = FAILED;
          break;
        case vduse.VDUSE_UPDATE_IOTLB: {
          const start = choices.pick([0n, RINGS, RINGS + 4096n, 2n ** 64n - 1n]);
          const last = choices.pick([2n ** 64n - 1n, RINGS + 4095n, 0n]);
          body = { iova_v2: { start, last, asid: choices.below(3) } };
          break;
        }
        case vduse.VDUSE_SET_VQ_GROUP_ASID:
          body = { vq_group_asid: { group: choices.below(4), asid: choices.below(4) } };
          break;
        case vduse.VDUSE_SET_VQ_READY:
          // Never refused: a transport would take the device for broken.
          body = { vq_ready: { num: index, ready: choices.below(2) } };
          if (index < QUEUES) device.info[index] = { ...device.info[index]!, ready: body.vq_ready!.ready! };
          expected = OK;
          break;
        case vduse.VDUSE_SUSPEND:
          expected = OK;
          break;
        default:
          expected = FAILED;
      }
      const { result } = await device.message(type, body);
      this.reached.count(`message ${TYPES.includes(type) ? type : 'unknown'} ${result}`);
      if (expected === undefined) assert.ok(result === OK || result === FAILED, 'a result there is');
      else assert.is(result, expected, `result of message ${type}`);
      if (type === vduse.VDUSE_SET_STATUS && result === OK) {
        status = body.s!.status as number;
        if (status === 0) suspended = false;
      }
      if (type === vduse.VDUSE_SUSPEND) suspended = true;
      for (let queue = 0; queue < QUEUES; queue++) {
        const runs = status & VIRTIO_CONFIG_S_DRIVER_OK && !suspended;
        if (!runs) assert.not.ok(device.isOpen(queue), 'a queue runs without a driver');
      }
    }
    device.info = this.#soundInfo;
    device.features = NEEDED;
    assert.ok(await device.start(), 'a reset helps');
    for (let queue = 0; queue < QUEUES; queue++) assert.ok(device.isOpen(queue), `queue ${queue} runs`);
    device.events.length = 0;
    device.messages.length = 0;
    device.ioctls.length = 0;
    device.file.written.length = 0;
    return steps;
  }

  close(): Promise<void> {
    return this.#device.close();
  }

  /** What a driver has set up changes, for better or worse. */
  #disturb(choices: Choices): void {
    const device = this.#device;
    const index = choices.below(QUEUES);
    const change = (info: Partial<Info>) => {
      device.info[index] = { ...device.info[index]!, ...info };
    };
    switch (choices.below(6)) {
      case 0:
        change({ ready: choices.below(2) });
        break;
      case 1:
        change({ num: choices.pick([16, 0, 3, 64, 128, 0xffffffff]) });
        break;
      case 2:
        change({
          desc_addr: choices.pick([
            RINGS,
            RINGS + 8n,
            0n,
            2n ** 64n - 16n,
            RINGS + BigInt(REGION_BYTES) - 16n,
          ]),
        });
        break;
      case 3:
        change({ driver_addr: choices.pick([RINGS + 0x200n, RINGS + 0x201n, 0n, 2n ** 64n - 2n]) });
        break;
      case 4:
        change({
          device_addr: choices.pick([RINGS + 0x400n, RINGS + 0x402n, 0n, RINGS + BigInt(REGION_BYTES) - 4n]),
        });
        break;
      case 5:
        device.features = choices.pick([NEEDED, 0n, NEEDED | 1n, NEEDED & (NEEDED - 1n)]);
        break;
    }
  }
}

/** The control plane of a served device under messages in any order, about rings set up in any way. */
export const vduseMessages: Target = {
  name: 'vduse-messages',
  about: "messages of a transport to a device's control plane: each answered, none fatal, a reset helps",
  operations: 'messages',
  tested: 300,
  start: async () => {
    const transport = new Transport();
    return {
      play: (choices) => transport.play(choices),
      reached: transport.reached,
      close: () => transport.close(),
    };
  },
};
