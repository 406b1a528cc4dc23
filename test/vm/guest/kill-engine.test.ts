import { test } from 'uvu';
import { testKillsUnderLoad } from '../kills-under-load.js';

testKillsUnderLoad('engine');

test.run();
