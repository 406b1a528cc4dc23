import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TurnGiver } from '../../host/queue/turn-giver.js';

function giver(turn = () => {}) {
  let turns = 0;
  const made = new TurnGiver(() => {
    turns++;
    turn();
  });
  return { giver: made, turns: () => turns };
}

test('a turn that brings something is given each time', () => {
  const { giver: g, turns } = giver();
  for (let round = 0; round < 10; round++) {
    assert.ok(g.give(), 'look again');
    g.taken();
  }
  assert.is(turns(), 10);
});

test('a turn that brings nothing is followed by sleep, and left out 64 times', () => {
  const { giver: g, turns } = giver();
  assert.ok(g.give());
  assert.not(g.give(), 'sleep');
  for (let round = 0; round < 64; round++) {
    g.taken();
    assert.not(g.give());
  }
  assert.is(turns(), 1);
  g.taken();
  assert.ok(g.give(), 'tried again');
  assert.is(turns(), 2);
});

test('a turn that somebody else takes, and long, is left out likewise', () => {
  const { giver: g, turns } = giver(() => {
    const end = performance.now() + 6;
    while (performance.now() < end);
  });
  assert.ok(g.give(), 'look again all the same');
  g.taken();
  assert.not(g.give());
  assert.is(turns(), 1);
});

test.run();
