/** Who is under test: the side of a ring whose peer is hostile. */
export const SIDES = ['split device', 'packed device', 'split driver', 'packed driver'] as const;
export type Side = (typeof SIDES)[number];

/** What a side makes of a case: words, the same for each time that it is played. */
export type Play = (side: Side) => string | Promise<string>;

/** One thing that a hostile peer does. */
export interface HostileCase {
  /** What it does. */
  readonly name: string;
  /** The section of the specification that decides, or "policy" where it leaves the choice. */
  readonly rule: string;
  readonly play: Play;
  /** What must come of it, by side; a side that is not named has no such thing. */
  readonly outcomes: Partial<Record<Side, string>>;
}

/** The same outcome on both formats' devices, or drivers. */
export function both(role: 'device' | 'driver', outcome: string): HostileCase['outcomes'] {
  return { [`split ${role}`]: outcome, [`packed ${role}`]: outcome };
}

/** One outcome of several plays, which must agree. */
export function same(outcomes: readonly string[]): string {
  return outcomes.every((outcome) => outcome === outcomes[0]) ? outcomes[0]! : outcomes.join(', or ');
}
