import type { Observable } from './snapshot.js';

/** Devices that this thread serves or drives now, in the order in which they were opened. */
const open = new Set<Observable>();

/** How many want to know how long requests take. */
let watchers = 0;

/** Has `device` found by whoever asks for all, until it is removed. */
export function addOpenDevice(device: Observable): void {
  open.add(device);
  if (watchers > 0) device.timeRequests?.(true);
}

export function removeOpenDevice(device: Observable): void {
  open.delete(device);
}

/** All devices that are open now. */
export function openDevices(): Observable[] {
  return [...open];
}

/** Has some requests of every device timed, until whoever asked for it has called what is returned. */
export function timeRequests(): () => void {
  if (watchers++ === 0) for (const device of open) device.timeRequests?.(true);
  let ended = false;
  return () => {
    if (ended) return;
    ended = true;
    if (--watchers === 0) for (const device of open) device.timeRequests?.(false);
  };
}
