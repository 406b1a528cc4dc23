/** Bytes by suffix. Binary: a disk's 4k is 4096 bytes. */
const SUFFIX_BYTES: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** Bytes of a size such as 512, 4k, 256M, 1.5GiB; undefined when it is none, or no whole number of bytes. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?|b)?$/i.exec(text);
  if (match === null) return undefined;
  const bytes = Number(match[1]) * SUFFIX_BYTES[(match[2] ?? '').toLowerCase()]!;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Bytes for people: '4 KiB', '1.5 GiB'. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toFixed(value >= 100 ? 0 : 1))} ${units[unit]}`;
}

/** A count for people: '12', '45.3 k', '1.21 M'. */
export function formatCount(count: number): string {
  if (count >= 1e6) return `${(count / 1e6).toFixed(2)} M`;
  if (count >= 1e4) return `${(count / 1e3).toFixed(1)} k`;
  return count.toFixed(0);
}

/** A duration in microseconds for people: '7.3', '12 400'. */
export function formatMicroseconds(microseconds: number): string {
  return microseconds < 100
    ? microseconds.toFixed(1)
    : microseconds.toFixed(0).replace(/\B(?=(\d{3})+$)/g, ' ');
}

/** A ratio for people: small ones keep their first digits. */
export function formatRatio(ratio: number): string {
  if (ratio === 0) return '0';
  return ratio < 0.001 ? ratio.toExponential(0) : ratio.toFixed(3);
}
