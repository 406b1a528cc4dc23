/** <linux/if_tun.h>, and what of <linux/if.h> goes with it: /dev/net/tun. */
import { char, u16, u32 } from './codec.js';
import { iow } from './ioc.js';
import { struct } from './struct.js';

/** Bytes of an interface's name, with the zero at its end. */
export const IFNAMSIZ = 16;

// ifr_flags of TUNSETIFF.
export const IFF_TAP = 0x0002;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;

// What TUNSETOFFLOAD says of frames that are read: their checksums, or their segments, may be left to do.
export const TUN_F_CSUM = 1;
export const TUN_F_TSO4 = 2;
export const TUN_F_TSO6 = 4;
export const TUN_F_TSO_ECN = 8;
export const TUN_F_UFO = 16;

/** ioctl type; 'T'. */
const TUN = 0x54;

/** The front of struct ifreq, whose other members are of no interest here. */
export const ifreq = struct('ifreq', 40, { ifr_name: [char(IFNAMSIZ), 0], ifr_flags: [u16, IFNAMSIZ] });

/** Takes an ifreq, although its number says otherwise: attaches to an interface, or makes it. Writes its name back. */
export const TUNSETIFF = iow(TUN, 202, u32);
/** The argument itself is a mask of TUN_F_*. */
export const TUNSETOFFLOAD = iow(TUN, 208, u32);
/** Bytes of the header in front of each frame. */
export const TUNSETVNETHDRSZ = iow(TUN, 216, u32);
/** 1 or 0: whether there is somebody at the other end of the wire. */
export const TUNSETCARRIER = iow(TUN, 226, u32);
