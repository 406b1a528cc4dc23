import { readFileSync, writeFileSync } from 'node:fs';

/** A case that has failed once: its target, what was wrong, the choices that it consists of. */
export interface Repro {
  target: string;
  failure: string;
  choices: number[];
}

/** Reads a case. TypeError where the file is none. */
export function readRepro(path: string): Repro {
  const repro = JSON.parse(readFileSync(path, 'utf8')) as Partial<Repro>;
  const isCase = typeof repro.target === 'string' && Array.isArray(repro.choices);
  if (!isCase) throw new TypeError(`${path} is no case of the fuzzer`);
  return repro as Repro;
}

export function writeRepro(path: string, repro: Repro): void {
  writeFileSync(
    path,
    `${JSON.stringify({ ...repro, choices: undefined }, null, 2).replace(/\n}$/, `,\n  "choices": [${repro.choices.join(', ')}]\n}`)}\n`,
  );
}
