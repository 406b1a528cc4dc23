import { test } from 'uvu';
import { testKillsUnderLoad } from '../kills-under-load.js';

testKillsUnderLoad('model');

test.run();
