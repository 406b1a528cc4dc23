import { BlockModel, openBlock, serve } from 'ringbell';

/** Bytes of a line: 16 of them are a sector. */
const LINE = 32;

/** A disk of a tebibyte that is stored nowhere: line n says whether n is prime. */
class Primes extends BlockModel {
  capacity = 2 ** 40;

  read(offset, into) {
    for (let at = 0; at < into.length; at += LINE) into.set(lineOf((offset + at) / LINE), at);
  }
}

function lineOf(n) {
  const divisor = smallestDivisor(n);
  const text = n < 2 ? '' : divisor === n ? ' is prime' : ` = ${divisor} x ${n / divisor}`;
  return Buffer.from(`${n}${text}`.padEnd(LINE - 1).concat('\n'));
}

function smallestDivisor(n) {
  for (let divisor = 2; divisor * divisor <= n; divisor++) if (n % divisor === 0) return divisor;
  return n;
}

const device = await serve(new Primes(), { name: 'primes' });
const disk = await openBlock('primes');
console.log(`${disk.capacity / 2 ** 40} TiB, of which nothing is stored`);
for (const n of [96, 1_000_000, 2 ** 31 - 1]) {
  const offset = n * LINE;
  const sector = await disk.read(offset - (offset % 512), 512);
  console.log(
    Buffer.from(sector)
      .toString('latin1', offset % 512, (offset % 512) + LINE)
      .trimEnd(),
  );
}
await disk.close();
await device.close();
