import { test } from 'uvu';
import { BusWorld } from './bus-world.js';
import { playRules } from './play.js';
import { iotlbRules, rules } from './rules/index.js';

playRules(rules, async () => new BusWorld('set_map'));
playRules(iotlbRules, async () => new BusWorld('dma_map'), 'dma_map: ');

test.run();
