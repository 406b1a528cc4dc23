import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NIC } from './nic.js';

/** What the guest did, by network device: for the tests on the host, which see what QEMU saw of it. */
export interface Evidence {
  /** Texts of the frames sent, in order. */
  sent: Record<keyof typeof NIC, string[]>;
  /** Notifications sent, by queue. */
  kicks: Record<keyof typeof NIC, [receive: number, transmit: number]>;
}

/** Reads what the guest left in the folder of artefacts. */
export function readEvidence(artefacts: string): Evidence {
  return JSON.parse(readFileSync(join(artefacts, 'doorbell.json'), 'utf8'));
}
