import { test } from 'uvu';
import { DiskProcess } from '../../conformance/driver/disk-process.js';
import { KernelDriverWorld } from '../../conformance/driver/kernel-world.js';
import { playDriverScenes } from '../../conformance/driver/play.js';
import { modprobe } from '../fixture.js';

modprobe('vduse', 'vhost_vdpa');
const disks = new DiskProcess();
playDriverScenes(() => new KernelDriverWorld(disks));
test.after(() => disks.close());

test.run();
