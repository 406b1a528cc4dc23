import { inspect } from 'node:util';
import { ETH_ALEN } from '../../uapi/virtio.js';
import { MacTable, macAt } from './mac-table.js';
import type { NetHeader } from './net-header.js';
import { NetModel } from './net-model.js';
import type { NetOptions } from './net-options.js';

/** The bit of an address's first byte that says: of many devices. */
const MULTICAST = 1;

/** What a switch has counted since it was made. Frames. */
export interface NetSwitchStats {
  /** That went to the one port where their address had been seen. */
  forwarded: number;
  /** That went to all other ports: to many addresses, or to one that had not been seen. */
  flooded: number;
  /** To an address at the port that they came from, which goes nowhere. */
  filtered: number;
  /** Addresses that are known. */
  addresses: number;
}

/**
 * A learning switch between network devices of this process: each port is a model to serve. A frame goes to the port where its
 * address was last seen, or to all others. Each port has buffers, and drops, of its own: one that takes nothing holds up nobody.
 */
export class NetSwitch {
  readonly #ports = new Set<NetPort>();
  readonly #table = new MacTable<NetPort>();
  readonly #counts = { forwarded: 0, flooded: 0, filtered: 0 };

  /** A new port, which is there until `remove`. Throws as `NetModel` does. */
  port(options: NetOptions = {}): NetModel {
    const port = new NetPort(options, (...frame) => this.#pass(...frame));
    this.#ports.add(port);
    return port;
  }

  /** Takes a port away: nothing passes there from now on. Whether it was there. */
  remove(port: NetModel): boolean {
    this.#table.forget(port as NetPort);
    return this.#ports.delete(port as NetPort);
  }

  /** What has passed. */
  stats(): NetSwitchStats {
    return { ...this.#counts, addresses: this.#table.size };
  }

  #pass(from: NetPort, frame: Uint8Array, header: NetHeader, pair: number): void {
    if (!this.#ports.has(from)) return;
    const now = performance.now();
    // Nobody can be sent from the address of many.
    if (!(frame[ETH_ALEN]! & MULTICAST)) this.#table.learn(macAt(frame, ETH_ALEN), from, now);
    const to = frame[0]! & MULTICAST ? undefined : this.#table.find(macAt(frame, 0), now);
    if (to === from) this.#counts.filtered++;
    else if (to) {
      this.#counts.forwarded++;
      to.receive(frame, header, pair);
    } else {
      this.#counts.flooded++;
      for (const port of this.#ports) if (port !== from) port.receive(frame, header, pair);
    }
  }

  [inspect.custom](): string {
    return `NetSwitch { ${this.#ports.size} ports, ${this.#table.size} addresses }`;
  }
}

/** Passes on what a port has been sent. */
type Pass = (from: NetPort, frame: Uint8Array, header: NetHeader, pair: number) => void;

/** A port of a switch. */
class NetPort extends NetModel {
  readonly #pass: Pass;

  constructor(options: NetOptions, pass: Pass) {
    super(options);
    this.#pass = pass;
  }

  override transmit(frame: Uint8Array, header: NetHeader, pair: number): void {
    this.#pass(this, frame, header, pair);
  }
}
