import { test } from 'uvu';
import { DriverProcess } from '../../conformance/driver-process.js';
import { KernelWorld } from '../../conformance/kernel-world.js';
import { playRules } from '../../conformance/play.js';
import { vduseRules } from '../../conformance/rules/index.js';
import { modprobe } from '../fixture.js';

modprobe('vduse', 'vhost_vdpa');
const drivers = new DriverProcess();
playRules(vduseRules, () => KernelWorld.create(drivers));
test.after(() => drivers.close());

test.run();
