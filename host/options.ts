import { inspect } from 'node:util';
import { RingbellError } from './errors.js';

/**
 * Judges the options that `caller` was given, before anything reads them: throws a TypeError for what is no object,
 * ERR_ARGUMENT for a name that is not among `names`, if those are given.
 */
export function checkOptions(caller: string, options: unknown, names?: readonly string[]): void {
  if (typeof options !== 'object' || options === null)
    throw new TypeError(`the options of ${caller} must be an object, not ${inspect(options)}`);
  const unknown = names && Object.keys(options).find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `${caller} has no option '${unknown}': there are ${names?.join(', ')}`,
    );
}
