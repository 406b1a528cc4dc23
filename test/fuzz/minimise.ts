/** Plays that a minimisation may take. */
const BUDGET = 4000;

/**
 * Makes the choices of a failing case fewer and smaller for as long as it fails: pieces are left out, then turned to 0,
 * then single choices made less. What follows the last choice that is not 0 says nothing.
 */
export async function minimise(
  choices: readonly number[],
  fails: (choices: readonly number[]) => Promise<boolean>,
): Promise<number[]> {
  let best = trim([...choices]);
  let left = BUDGET;
  const attempt = async (candidate: number[]): Promise<boolean> => {
    const trimmed = trim(candidate);
    if (left-- <= 0 || !smaller(trimmed, best) || !(await fails(trimmed))) return false;
    best = trimmed;
    return true;
  };
  for (let before = -1; before !== weight(best) && left > 0; ) {
    before = weight(best);
    for (let piece = best.length >> 1; piece >= 1; piece >>= 1)
      for (let at = 0; at < best.length && left > 0; )
        if (!(await attempt([...best.slice(0, at), ...best.slice(at + piece)]))) at += piece;
    for (let piece = best.length >> 1; piece >= 1; piece >>= 1)
      for (let at = 0; at < best.length && left > 0; at += piece)
        await attempt(best.map((value, i) => (i >= at && i < at + piece ? 0 : value)));
    for (let at = 0; at < best.length && left > 0; at++)
      for (const less of [(value: number) => value >> 1, (value: number) => value - 1])
        while (best[at] && (await attempt(best.map((value, i) => (i === at ? less(value) : value)))));
  }
  return best;
}

function trim(choices: number[]): number[] {
  while (choices.at(-1) === 0) choices.pop();
  return choices;
}

function weight(choices: readonly number[]): number {
  return choices.reduce((sum, value) => sum + value, choices.length * 2 ** 32);
}

function smaller(a: readonly number[], b: readonly number[]): boolean {
  return weight(a) < weight(b);
}
