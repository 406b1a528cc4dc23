import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VQ_IOTLB } from '../../assembly/layout.js';
import * as vduse from '../../host/uapi/vduse.js';
import { type Stage, scenario } from './stage.js';

const TWO_GROUPS = { queues: 4, groups: 2, apiVersion: vduse.VDUSE_API_VERSION_1 };

/** IOTLB of each queue, numbered by first appearance. */
function iotlbs({ aperture, blocks }: Stage): number[] {
  const seen: number[] = [];
  return blocks.map(({ vq }) => {
    const iotlb = aperture.data.getUint32(vq + VQ_IOTLB, true);
    if (!seen.includes(iotlb)) seen.push(iotlb);
    return seen.indexOf(iotlb);
  });
}

const assign = async (stage: Stage, group: number, asid: number) =>
  (await stage.message(vduse.VDUSE_SET_VQ_GROUP_ASID, { vq_group_asid: { group, asid } })).result;

scenario(
  'queues are dealt out to groups',
  async (stage) => {
    await stage.status(0);
    assert.equal(stage.groups, [0, 1, 0, 1]);
  },
  TWO_GROUPS,
);

scenario('version 0 knows no group, and asks for regions without an address space', async (stage) => {
  await stage.start();
  assert.equal(stage.groups, [0]);
  assert.equal([...stage.lookups], []);
  assert.is(stage.ioctls.filter((request) => request === vduse.VDUSE_IOTLB_GET_FD).length, 1);
});

scenario(
  'a group goes where the driver sends it, and back with a reset',
  async (stage) => {
    await stage.status(0);
    assert.is(await assign(stage, 1, 1), vduse.VDUSE_REQ_RESULT_OK);
    assert.equal(iotlbs(stage), [0, 1, 0, 1]);
    await stage.status(0);
    assert.equal(iotlbs(stage), [0, 0, 0, 0]);
  },
  TWO_GROUPS,
);

scenario(
  'a group or an address space that is not there is refused',
  async (stage) => {
    assert.is(await assign(stage, 2, 0), vduse.VDUSE_REQ_RESULT_FAILED);
    assert.is(await assign(stage, 0, 2), vduse.VDUSE_REQ_RESULT_FAILED);
    assert.equal(iotlbs(stage), [0, 0, 0, 0]);
  },
  TWO_GROUPS,
);

scenario(
  'each address space has mappings of its own, which change by themselves',
  async (stage) => {
    for (const status of [0, 1]) await stage.status(status);
    await assign(stage, 1, 1);
    await stage.status(11);
    assert.ok(await stage.status(15));
    assert.equal(
      [...stage.lookups],
      [
        [0, 1],
        [1, 1],
      ],
    );
    const everything = { start: 0n, last: 2n ** 64n - 1n };
    await stage.message(vduse.VDUSE_UPDATE_IOTLB, { iova_v2: { ...everything, asid: 1 } });
    assert.equal(
      [...stage.lookups],
      [
        [0, 1],
        [1, 2],
      ],
    );
    assert.ok(stage.isOpen(0) && stage.isOpen(1));
  },
  TWO_GROUPS,
);

scenario('version 0 says nothing of address spaces in what it sends either', async (stage) => {
  await stage.start();
  const everything = { start: 0n, last: 2n ** 64n - 1n };
  // What would be the address space of version 1 is padding here.
  await stage.message(vduse.VDUSE_UPDATE_IOTLB, { iova_v2: { ...everything, asid: 7 } });
  assert.is(stage.ioctls.filter((request) => request === vduse.VDUSE_IOTLB_GET_FD).length, 2);
});

test.run();
