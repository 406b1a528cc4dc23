import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TurnGiver } from '../../host/queue/turn-giver.js';

/** A giver of turns that take others `microseconds` each. */
function giver(microseconds = 0) {
  let turns = 0;
  const made = new TurnGiver(() => {
    turns++;
    return microseconds;
  });
  /** Bursts until the next turn, that one's included. */
  const until = () => {
    const before = turns;
    let bursts = 0;
    while (turns === before) {
      made.give();
      bursts++;
    }
    return bursts;
  };
  return { giver: made, turns: () => turns, until };
}

test('turns that bring something are given after each burst', () => {
  const { giver: g, turns } = giver();
  for (let burst = 0; burst < 10; burst++) g.give();
  assert.is(turns(), 10);
});

test('turns that bring nothing become rarer, down to one in 65 bursts', () => {
  const { giver: g, until } = giver();
  assert.is(until(), 1);
  const waits: number[] = [];
  for (let miss = 0; miss < 8; miss++) {
    g.missed();
    waits.push(until());
  }
  assert.equal(waits, [2, 3, 5, 9, 17, 33, 65, 65]);
});

test('one that brings something again makes them frequent again', () => {
  const { giver: g, until } = giver();
  until();
  for (let miss = 0; miss < 8; miss++) {
    g.missed();
    until();
  }
  assert.is(until(), 1, 'the burst after it served something');
  g.missed();
  assert.is(until(), 2);
});

test('having nothing to serve without a turn before it is nobody’s fault', () => {
  const { giver: g, until } = giver();
  g.missed();
  g.missed();
  assert.is(until(), 1);
});

test('a turn that somebody else takes, and long, is as good as none', () => {
  const { giver: g, turns, until } = giver(5001);
  g.give();
  assert.is(until(), 2);
  assert.is(until(), 3);
  assert.is(turns(), 3);
});

test.run();
