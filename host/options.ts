import { inspect } from 'node:util';
import { RingbellError } from './errors.js';
import type { FlightRecorderOptions } from './flight.js';

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

/** Judges a signal, if there is one: throws a TypeError for what is no AbortSignal. */
export function checkSignal(signal: unknown): void {
  checkMembers('signal', 'an AbortSignal', signal, ['aborted', 'addEventListener', 'removeEventListener']);
}

/** Judges a bus, if there is one: throws a TypeError for what lacks one of `methods`. */
export function checkBus(bus: unknown, methods: readonly string[]): void {
  checkMembers('bus', 'a Bus', bus, methods);
}

/** Judges a switch, if there is one: throws ERR_ARGUMENT for any but true and false. */
export function checkBoolean(option: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'boolean')
    throw new RingbellError('ERR_ARGUMENT', `${option} must be true or false, not ${inspect(value)}`);
}

/** Judges a number, if there is one: throws ERR_ARGUMENT unless it is an integer from `low` to `high`. */
export function checkInteger(option: string, value: unknown, low: number, high: number): void {
  if (value === undefined) return;
  if (!Number.isInteger(value) || (value as number) < low || (value as number) > high)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `${option} must be an integer from ${low} to ${high}, not ${value}`,
    );
}

/** Judges a queue size, if there is one: throws ERR_ARGUMENT unless it is a power of two from `low` to `high`. */
export function checkQueueSize(option: string, value: number | undefined, low: number, high: number): void {
  checkInteger(option, value, low, high);
  if (value !== undefined && (value & (value - 1)) !== 0)
    throw new RingbellError('ERR_ARGUMENT', `${option} must be a power of two, not ${value}`);
}

/** Judges a mode, if there is one: throws ERR_ARGUMENT for any but 'notify' and 'poll'. */
export function checkMode(value: unknown): void {
  if (value !== undefined && value !== 'notify' && value !== 'poll')
    throw new RingbellError('ERR_ARGUMENT', `mode must be 'notify' or 'poll', not '${value}'`);
}

/** Chains that a flight recorder has room for, unless something else is asked for. More than a burst, so that what broke it is there. */
const FLIGHT_CHAINS_DEFAULT = 128;
const FLIGHT_CHAINS_MAX = 32768;

/** How flight recorders are kept, judged. */
export interface FlightRecorderPlan {
  /** Chains of each queue. */
  readonly chains: number;
  readonly folder: string | undefined;
}

/** Judges whether and how flight recorders are to be kept: undefined for none. Throws ERR_ARGUMENT. */
export function flightRecorderPlan(value: unknown): FlightRecorderPlan | undefined {
  if (value === undefined || value === false) return undefined;
  if (value !== true && (typeof value !== 'object' || value === null))
    throw new RingbellError(
      'ERR_ARGUMENT',
      `flightRecorder must be true, false, or an object, not ${inspect(value)}`,
    );
  const options: FlightRecorderOptions = typeof value === 'object' ? value : {};
  checkOptions('flightRecorder', options, ['chains', 'folder']);
  const { chains = FLIGHT_CHAINS_DEFAULT, folder } = options;
  checkQueueSize('flightRecorder.chains', chains, FLIGHT_CHAINS_DEFAULT, FLIGHT_CHAINS_MAX);
  if (folder !== undefined && (typeof folder !== 'string' || folder === ''))
    throw new RingbellError('ERR_ARGUMENT', `flightRecorder.folder must be a path, not ${inspect(folder)}`);
  return { chains, folder };
}

/** By members, not by class: what another realm or copy of a package has made will do. */
function checkMembers(option: string, kind: string, value: unknown, members: readonly string[]): void {
  if (value === undefined) return;
  if (typeof value !== 'object' || value === null || !members.every((member) => member in value))
    throw new TypeError(`${option} must be ${kind}, not ${inspect(value)}`);
}
