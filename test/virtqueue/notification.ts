/**
 * Whether a side that has moved its index from `before` to `after` owes a notification to one that asked for it at `event`
 * ("Used Buffer Notification Suppression", "Available Buffer Notification Suppression"): one of the entries that were
 * added is the one asked for. Indices are modulo 2^16.
 */
export function passes(event: number, before: number, after: number): boolean {
  for (let index = before; index !== after; index = (index + 1) & 0xffff) if (index === event) return true;
  return false;
}
