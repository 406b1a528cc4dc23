import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as vduse from '../../host/uapi/vduse.js';
import { type Stage, scenario } from './stage.js';

const BOUNCE_BYTES = 2 ** 16;

/** Runs the queues of a driver in the kernel: its bounce region comes to be with its first request. */
async function start(stage: Stage): Promise<void> {
  assert.ok(await stage.start());
  stage.bounceBytes = BOUNCE_BYTES;
}

const count = ({ ioctls }: Stage, request: number) => ioctls.filter((ioctl) => ioctl === request).length;
const bounce = ({ events }: Stage) => events.filter((event) => event === 'umem' || event === 'fd');
scenario(
  'the bounce region becomes memory of the process, and nothing of it is mapped from the file',
  async (stage) => {
    await start(stage);
    const mapped = count(stage, vduse.VDUSE_IOTLB_GET_FD);
    await stage.miss(0x1234n);
    assert.equal(bounce(stage), ['umem']);
    assert.is(count(stage, vduse.VDUSE_IOTLB_GET_FD), mapped);
    assert.equal([stage.umem!.iova, stage.umem!.size, stage.umem!.asid], [0n, BigInt(BOUNCE_BYTES), 0]);
    assert.ok(stage.umem!.uaddr > stage.aperture.address);
    assert.not(stage.blocks[0]!.miss);
  },
);

scenario(
  'queues that miss it together have it registered once',
  async (stage) => {
    await start(stage);
    await stage.miss(0n, 0);
    await stage.miss(0x2000n, 1);
    assert.is(count(stage, vduse.VDUSE_IOTLB_REG_UMEM), 1);
    assert.equal(bounce(stage), ['umem']);
  },
  { queues: 2 },
);

scenario(
  'it is given back before a reset is answered, and registered anew in the next life',
  async (stage) => {
    await start(stage);
    await stage.miss(0n);
    await stage.status(0);
    assert.is(stage.umem, undefined);
    await start(stage);
    await stage.miss(0n);
    assert.ok(stage.umem);
  },
);

scenario('a memlock limit that is too low is raised', async (stage) => {
  await start(stage);
  stage.umemErrors.push('ENOMEM');
  await stage.miss(0n);
  assert.is(count(stage, vduse.VDUSE_IOTLB_REG_UMEM), 2);
  assert.equal(bounce(stage), ['umem']);
});

scenario('where it cannot be, the file of the kernel is mapped, and that shows', async (stage) => {
  await start(stage);
  stage.umemErrors.push('ENOMEM', 'ENOMEM');
  await stage.miss(0n);
  assert.equal(bounce(stage), ['fd']);
  assert.match(stage.messages.at(-1)!, 'ENOMEM');
  assert.not(stage.blocks[0]!.miss);
  await stage.status(0);
  await start(stage);
  await stage.miss(0n);
  assert.equal(bounce(stage), ['fd', 'umem'], 'each life of the driver tries anew');
});

scenario(
  'where it is not wanted, the file of the kernel is mapped',
  async (stage) => {
    await start(stage);
    await stage.miss(0n);
    assert.equal(bounce(stage), ['fd']);
    assert.is(count(stage, vduse.VDUSE_IOTLB_REG_UMEM), 0);
  },
  { umem: false },
);

scenario('closing the device gives it back while the file can still be told', async (stage) => {
  await start(stage);
  await stage.miss(0n);
  await stage.device.close();
  assert.is(stage.umem, undefined);
});

test.run();
