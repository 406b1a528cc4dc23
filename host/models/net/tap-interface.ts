import { closeSync, constants, openSync, writevSync } from 'node:fs';
import { isSystemError, RingbellError } from '../../errors.js';
import { loadAddon, type Watcher } from '../../native/addon.js';
import { u32 } from '../../uapi/codec.js';
import * as tun from '../../uapi/tun.js';
import { VIRTIO_NET_HDR_SIZE } from '../../uapi/virtio.js';

const TUN_DEVICE = '/dev/net/tun';
/** Frames that are read in one go, and bytes of them. */
const BURST_FRAMES = 64;
const BURST_BYTES = 2 ** 18;

/** What to do about an errno of opening. */
const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'load the module: modprobe tun',
  ENODEV: 'load the module: modprobe tun',
  EACCES: 'run it as root, or give the user access to /dev/net/tun',
  EPERM:
    'run it with CAP_NET_ADMIN, or have root make the interface for this user: ip tuntap add mode tap user …',
  EBUSY: 'another program has the interface',
  EINVAL: 'an interface of that name is no tap, or was made with another number of queues',
};

/** One queue of a tap interface of the kernel: frames out and in, each with a virtio_net_hdr_v1 in front. */
export class TapQueue {
  readonly #fd: number;
  readonly #longest: number;
  readonly #lengths = new Uint32Array(BURST_FRAMES);
  readonly #into = new Uint8Array(BURST_BYTES);
  #watcher: Watcher | undefined;

  constructor(fd: number, longest: number) {
    this.#fd = fd;
    this.#longest = longest;
  }

  /** Calls back while there are frames to read, until `pause`. Does not keep the process alive. */
  watch(readable: () => void): void {
    if (this.#watcher) return;
    this.#watcher = loadAddon().watch(this.#fd, readable);
    this.#watcher.unref();
  }

  pause(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  /** The next frames, none if there are none. Throws the SystemError of an interface that has gone. */
  read(): Uint8Array[] {
    const count = loadAddon().readFrames(this.#fd, this.#into, this.#lengths, this.#longest);
    let at = 0;
    return Array.from({ length: count }, (_, index) => {
      const packet = this.#into.slice(at, at + this.#lengths[index]!);
      at += packet.length;
      return packet;
    });
  }

  /** Sends a frame. Throws the SystemError of one that the kernel does not take. */
  write(header: Uint8Array, frame: Uint8Array): void {
    writevSync(this.#fd, [header, frame]);
  }

  /** Says which offloads frames may have that are read: TUN_F_*. */
  setOffload(flags: number): void {
    loadAddon().ioctl(this.#fd, tun.TUNSETOFFLOAD, flags);
  }

  setCarrier(up: boolean): void {
    loadAddon().ioctl(this.#fd, tun.TUNSETCARRIER, u32.encode(up ? 1 : 0));
  }

  close(): void {
    this.pause();
    closeSync(this.#fd);
  }
}

/** A tap interface of the kernel, which lasts for as long as this does unless it was made to stay. */
export class TapInterface {
  readonly name: string;
  readonly queues: readonly TapQueue[];

  /**
   * Attaches to the interface `name`, which is made if there is none; one of the kernel's choice for ''. Frames have `longest` bytes
   * at most, headers included. Throws ERR_TAP.
   */
  static open(name: string, queues: number, longest: number): TapInterface {
    const fds: number[] = [];
    const mode = tun.IFF_TAP | tun.IFF_NO_PI | tun.IFF_VNET_HDR;
    let attached = name;
    try {
      for (let queue = 0; queue < queues; queue++) {
        const fd = openSync(TUN_DEVICE, constants.O_RDWR | constants.O_NONBLOCK);
        fds.push(fd);
        const ifr_flags = queues > 1 ? mode | tun.IFF_MULTI_QUEUE : mode;
        const request = tun.ifreq.encode({ ifr_name: attached, ifr_flags });
        loadAddon().ioctl(fd, tun.TUNSETIFF, request);
        attached = tun.ifreq.get(request, 'ifr_name');
        loadAddon().ioctl(fd, tun.TUNSETVNETHDRSZ, u32.encode(VIRTIO_NET_HDR_SIZE));
      }
    } catch (error) {
      for (const fd of fds) closeSync(fd);
      throw tapError(name, error);
    }
    return new TapInterface(
      attached,
      fds.map((fd) => new TapQueue(fd, longest)),
    );
  }

  private constructor(name: string, queues: readonly TapQueue[]) {
    this.name = name;
    this.queues = queues;
  }

  close(): void {
    for (const queue of this.queues) queue.close();
  }
}

/** What keeps a tap interface from being used, with what to do about it. */
export function tapError(name: string, cause: unknown): unknown {
  if (!isSystemError(cause)) return cause;
  const { code, errno, syscall } = cause;
  const remedy = REMEDIES[code] ? `: ${REMEDIES[code]}` : '';
  return new RingbellError('ERR_TAP', `tap ${name}: ${syscall}: ${code}${remedy}`, {
    ...{ cause, errno, syscall },
  });
}
