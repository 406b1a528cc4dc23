import { test } from 'uvu';
import { defineTrials } from './trials.js';

defineTrials(0);

test.run();
