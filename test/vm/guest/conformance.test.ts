import { test } from 'uvu';
import { KernelWorld } from '../../conformance/kernel-world.js';
import { playRules } from '../../conformance/play.js';
import { rules } from '../../conformance/rules/index.js';

playRules(rules, () => KernelWorld.create());

test.run();
