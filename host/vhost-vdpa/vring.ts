import { u16 } from '../uapi/codec.js';
import * as vhost from '../uapi/vhost.js';
import { SPLIT_VRING_BASE_RESET } from '../uapi/vring-base.js';
import type { VhostVdpaFile } from './file.js';
import { call, get, probe } from './ioctl.js';

/** Where a virtqueue lies and who rings for it. Addresses are IOVAs. */
export interface Vring {
  index: number;
  /** Entries. */
  num: number;
  desc: bigint;
  avail: bigint;
  used: bigint;
  /** Where to start from, as vhost has it for the format of the ring; SPLIT_VRING_BASE_RESET if left out. */
  base?: number;
  kickFd: number;
  callFd: number;
}

/** The most entries that queue `index` may have. Rejects with ERR_CONTROL_PLANE. */
export async function maxVringNum(file: VhostVdpaFile, index: number): Promise<number> {
  const argument = vhost.vhostVringState.encode({ index });
  const own = await probe(file, vhost.VHOST_VDPA_GET_VRING_SIZE, vhost.vhostVringState, argument);
  return own?.num || get(file, vhost.VHOST_VDPA_GET_VRING_NUM, u16);
}

/** Sets a queue up: size, position, addresses, eventfds. Rejects with ERR_CONTROL_PLANE. */
export async function setVring(file: VhostVdpaFile, vring: Vring): Promise<void> {
  const { index, num, base = SPLIT_VRING_BASE_RESET, desc, avail, used } = vring;
  const eventfd = (fd: number) => vhost.vhostVringFile.encode({ index, fd });
  await setVringState(file, vhost.VHOST_SET_VRING_NUM, index, num);
  await setVringState(file, vhost.VHOST_SET_VRING_BASE, index, base);
  await call(
    file,
    vhost.VHOST_SET_VRING_ADDR,
    vhost.vhostVringAddr.encode({
      index,
      desc_user_addr: desc,
      avail_user_addr: avail,
      used_user_addr: used,
    }),
  );
  await call(file, vhost.VHOST_SET_VRING_CALL, eventfd(vring.callFd));
  await call(file, vhost.VHOST_SET_VRING_KICK, eventfd(vring.kickFd));
}

/** Sends an ioctl that takes struct vhost_vring_state: a number for queue, or group, `index`. Rejects with ERR_CONTROL_PLANE. */
export async function setVringState(
  file: VhostVdpaFile,
  request: number,
  index: number,
  num: number,
): Promise<void> {
  await call(file, request, vhost.vhostVringState.encode({ index, num }));
}

/** Sends an ioctl that gives one: the number of queue `index`. Rejects with ERR_CONTROL_PLANE. */
export async function getVringState(file: VhostVdpaFile, request: number, index: number): Promise<number> {
  const argument = vhost.vhostVringState.encode({ index });
  await call(file, request, argument);
  return vhost.vhostVringState.get(argument, 'num');
}
