import type { Observable } from './snapshot.js';

/** Devices that this thread serves or drives now, in the order in which they were opened. */
const open = new Set<Observable>();

/** Has `device` found by whoever asks for all, until it is removed. */
export function addOpenDevice(device: Observable): void {
  open.add(device);
}

export function removeOpenDevice(device: Observable): void {
  open.delete(device);
}

/** All devices that are open now. */
export function openDevices(): Observable[] {
  return [...open];
}
