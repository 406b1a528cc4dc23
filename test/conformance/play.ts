import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { within } from './protocol.js';
import type { At, Rule } from './rule.js';
import type { World } from './world.js';

/** Milliseconds; a rule that takes longer is broken. */
const RULE_TIMEOUT_MS = 20_000;

/** Registers each rule as a test, played in a world of its own. */
export function playRules(rules: readonly Rule[], createWorld: () => Promise<World>, prefix = ''): void {
  for (const rule of rules)
    test(`${prefix}${rule.name}`, async () => {
      const world = await createWorld();
      try {
        const reason = rule.lacks?.(world);
        if (reason) {
          console.log(`skipped: ${rule.name}: ${reason}`);
          return;
        }
        await within(rule.play(world, atOf(rule, world)), rule.name, RULE_TIMEOUT_MS);
      } finally {
        await world[Symbol.asyncDispose]();
      }
    });
}

/** What `play` may ask about the place: only what the rule's `differs` has explained. */
function atOf(rule: Rule, world: World): At {
  return (place) => {
    assert.ok(
      rule.differs?.some(({ at }) => at === place),
      `'${rule.name}' does not say why ${place} differs`,
    );
    return world.place === place;
  };
}
