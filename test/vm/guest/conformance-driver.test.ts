import { test } from 'uvu';
import { KernelDriverWorld } from '../../conformance/driver/kernel-world.js';
import { playDriverScenes } from '../../conformance/driver/play.js';
import { modprobe } from '../fixture.js';

modprobe('vduse', 'vhost_vdpa');
playDriverScenes(new KernelDriverWorld());

test.run();
