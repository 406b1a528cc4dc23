import { test } from 'uvu';
import { BusDriverWorld } from './bus-world.js';
import { playDriverScenes } from './play.js';

playDriverScenes(new BusDriverWorld('mdev'));

test.run();
