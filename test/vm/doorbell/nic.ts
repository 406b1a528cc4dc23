import { existsSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { NetInterface } from '../../../host/drivers/net-interface.js';
import { bindDriver, modprobe, shell, until } from '../fixture.js';

/** The machine's network devices, by address on its PCI bus. */
export const NIC = {
  /** Behind the IOMMU, with a notification page for each queue. */
  PAGES: '0000:00:10.0',
  /** Behind the IOMMU, with the notification areas of all queues on one page. */
  SHARED_PAGE: '0000:00:11.0',
  /** With pages, but past the IOMMU: it does not offer VIRTIO_F_ACCESS_PLATFORM. */
  PAST_IOMMU: '0000:00:12.0',
} as const;

/** EtherType for local experiments (IEEE 802). */
const ETH_P_802_EX1 = [0x88, 0xb5];
/** Address of the gateway in QEMU's user network: frames for it go nowhere else. */
const GATEWAY = [0x52, 0x55, 10, 0, 2, 2];
/** Bytes of a test frame. */
const FRAME_BYTES = 60;
/** Bytes of its payload. */
const PAYLOAD = 14;

/** Gives a network device from the PCI bus to vp_vdpa, and that to vhost_vdpa. Resolves to the path of the character device. */
export async function bindNic(address: string): Promise<string> {
  modprobe('vhost_vdpa', 'vp_vdpa');
  const name = `vp${address.slice(8, 10)}`;
  const device = `/sys/bus/pci/devices/${address}`;
  if (existsSync(`/sys/bus/vdpa/devices/${name}`)) shell(`vdpa dev del ${name}`);
  if (existsSync(`${device}/driver`)) writeFileSync(`${device}/driver/unbind`, address);
  // vp-vdpa knows no ids of its own.
  writeFileSync(`${device}/driver_override`, 'vp-vdpa');
  writeFileSync('/sys/bus/pci/drivers/vp-vdpa/bind', address);
  await until(`${basename(device)} at vp_vdpa`, () => existsSync(`${device}/driver`));
  shell(`vdpa dev add name ${name} mgmtdev pci/${address}`);
  return bindDriver(name, 'vhost_vdpa');
}

/** Takes a device from `bindNic` off the vDPA bus, and its driver away. */
export function unbindNic(address: string): void {
  shell(`vdpa dev del vp${address.slice(8, 10)}`);
  writeFileSync(`/sys/bus/pci/devices/${address}/driver/unbind`, address);
}

/** The bytes of an interface's address. */
export function addressOf(net: NetInterface): number[] {
  return (net.config.mac as string).split(':').map((byte) => Number.parseInt(byte, 16));
}

/** A frame of a test's own, with a text in it that tells it from all others. */
export function textFrame(net: NetInterface, text: string): Uint8Array {
  const frame = new Uint8Array(FRAME_BYTES);
  frame.set([...GATEWAY, ...addressOf(net), ...ETH_P_802_EX1]);
  frame.set(new TextEncoder().encode(text), PAYLOAD);
  return frame;
}

/** The text of such a frame; undefined for any other. */
export function textOf(frame: Uint8Array): string | undefined {
  const isOurs = ETH_P_802_EX1.every((byte, index) => frame[PAYLOAD - ETH_P_802_EX1.length + index] === byte);
  if (!isOurs) return undefined;
  const end = frame.indexOf(0, PAYLOAD);
  return new TextDecoder().decode(frame.subarray(PAYLOAD, end < 0 ? frame.length : end));
}

/** An ARP request for the gateway's address. */
export function arpRequest(net: NetInterface): Uint8Array {
  const frame = new Uint8Array(42);
  const mac = addressOf(net);
  // Ethernet: broadcast, ARP. Then: Ethernet and IPv4, request, from us at 10.0.2.15, who has 10.0.2.2?
  frame.fill(0xff, 0, 6);
  frame.set([...mac, 8, 6], 6);
  frame.set([0, 1, 8, 0, 6, 4, 0, 1, ...mac, 10, 0, 2, 15], 14);
  frame.set([10, 0, 2, 2], 38);
  return frame;
}

/** Whether a frame is the gateway's answer to that. */
export function isArpReply(frame: Uint8Array): boolean {
  return (
    frame[12] === 8 && frame[13] === 6 && frame[21] === 2 && frame.subarray(28, 32).join('.') === '10.0.2.2'
  );
}
