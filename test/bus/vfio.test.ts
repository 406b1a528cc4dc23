import { closeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ParentKind } from '../../host/bus/index.js';
import { isSystemError } from '../../host/errors.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vfio from '../../host/uapi/vfio.js';
import type { VduseFile } from '../../host/vduse/file.js';
import type { VfioContainerFile, VfioGroupFile } from '../../host/vhost-vdpa/vfio-file.js';
import { createDevice, fails, LAST_IOVA, NAME, Responder, SharedMemory } from './fixture.js';
import { dmaMap, mapDma, mapFails, mdevScene, unmapDma } from './mdev-fixture.js';

const PAGE = 4096n;
/** IOVA of a test. */
const IOVA = 0x1_0000_0000n;

/** What a device sees: start, last and permission of each mapping. */
async function deviceSees(file: VduseFile): Promise<[start: bigint, last: bigint, perm: number][]> {
  const seen: [bigint, bigint, number][] = [];
  for (let start = 0n; start <= LAST_IOVA; ) {
    const entry = vduse.vduseIotlbEntry.encode({ start, last: LAST_IOVA });
    try {
      closeSync(await file.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry));
    } catch (error) {
      assert.ok(isSystemError(error, 'EINVAL'));
      break;
    }
    const { start: first, last, perm } = vduse.vduseIotlbEntry.decode(entry);
    seen.push([first, last, perm]);
    start = last + 1n;
  }
  return seen;
}

async function groupFlags(group: VfioGroupFile): Promise<number> {
  const status = vfio.vfioGroupStatus.encode({ argsz: vfio.vfioGroupStatus.size });
  assert.is(await group.ioctl(vfio.VFIO_GROUP_GET_STATUS, status), 0);
  return vfio.vfioGroupStatus.get(status, 'flags');
}

const extension = (container: VfioContainerFile, number: number) =>
  container.ioctl(vfio.VFIO_CHECK_EXTENSION, number);

test('a container has an API version and extensions, and an IOMMU once it has a group', () =>
  mdevScene(async ({ container, group }) => {
    assert.is(await container.ioctl(vfio.VFIO_GET_API_VERSION), vfio.VFIO_API_VERSION);
    for (const type of [vfio.VFIO_TYPE1_IOMMU, vfio.VFIO_TYPE1v2_IOMMU, vfio.VFIO_TYPE1_NESTING_IOMMU])
      assert.is(await extension(container, type), 1);
    // VFIO_SPAPR_TCE_IOMMU.
    assert.is(await extension(container, 2), 0);
    assert.is(await extension(container, vfio.VFIO_DMA_CC_IOMMU), 0);
    const info = vfio.vfioIommuType1Info.encode({ argsz: vfio.vfioIommuType1Info.size });
    await fails(container.ioctl(vfio.VFIO_IOMMU_GET_INFO, info), 'EINVAL', 'ioctl');
    await fails(container.ioctl(vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU), 'EINVAL', 'ioctl');
    await group.setContainer(container);
    await fails(container.ioctl(vfio.VFIO_SET_IOMMU, 2), 'ENODEV', 'ioctl');
    assert.is(await container.ioctl(vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU), 0);
    await fails(container.ioctl(vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU), 'EINVAL', 'ioctl');
    assert.is(await extension(container, vfio.VFIO_DMA_CC_IOMMU), 1);
    assert.is(await container.ioctl(vfio.VFIO_IOMMU_GET_INFO, info), 0);
    const { flags, iova_pgsizes } = vfio.vfioIommuType1Info.decode(info);
    assert.is(flags, vfio.VFIO_IOMMU_INFO_PGSIZES);
    assert.is(iova_pgsizes, 0xffff_ffff_ffff_f000n);
    await fails(container.ioctl(vfio.VFIO_DEVICE_RESET), 'ENOTTY', 'ioctl');
  }));

test('argsz says how much of a structure the caller has', () =>
  mdevScene(async ({ container, group, openDevice }) => {
    await openDevice();
    const short = { argsz: 7 };
    const status = vfio.vfioGroupStatus;
    await fails(group.ioctl(vfio.VFIO_GROUP_GET_STATUS, status.encode(short)), 'EINVAL');
    await fails(group.ioctl(vfio.VFIO_GROUP_GET_STATUS, new Uint8Array(7)), 'EFAULT');
    for (const [request, codec] of [
      [vfio.VFIO_IOMMU_GET_INFO, vfio.vfioIommuType1Info],
      [vfio.VFIO_IOMMU_MAP_DMA, vfio.vfioIommuType1DmaMap],
      [vfio.VFIO_IOMMU_UNMAP_DMA, vfio.vfioIommuType1DmaUnmap],
    ] as const) {
      await fails(container.ioctl(request, codec.encode({ argsz: codec.size - 1 })), 'EINVAL');
      await fails(container.ioctl(request, codec.encode({ argsz: codec.size }).subarray(1)), 'EFAULT');
      await fails(container.ioctl(request), 'EFAULT');
    }
  }));

test('a group is opened once, is in one container, and tells', () =>
  mdevScene(async ({ bus, container, group }) => {
    assert.is(await groupFlags(group), vfio.VFIO_GROUP_FLAGS_VIABLE);
    await fails(bus.openVfioGroup(NAME), 'EBUSY', 'open');
    await fails(bus.openVfioGroup('nobody'), 'ENOENT', 'open');
    await fails(bus.openVhostVdpa(NAME), 'ENOENT', 'open');
    await fails(group.ioctl(vfio.VFIO_GROUP_UNSET_CONTAINER), 'EINVAL', 'ioctl');
    await fails(group.setContainer(group as never), 'EINVAL', 'ioctl');
    await group.setContainer(container);
    const set = vfio.VFIO_GROUP_FLAGS_VIABLE | vfio.VFIO_GROUP_FLAGS_CONTAINER_SET;
    assert.is(await groupFlags(group), set);
    await fails(group.setContainer(await bus.openVfioContainer()), 'EINVAL', 'ioctl');
    await fails(group.openDevice(NAME), 'EINVAL', 'ioctl');
    await container.ioctl(vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1_IOMMU);
    await fails(group.openDevice('nobody'), 'ENODEV', 'ioctl');
    const device = await group.openDevice(NAME);
    await fails(group.openDevice(NAME), 'EBUSY', 'ioctl');
    await fails(group.ioctl(vfio.VFIO_GROUP_UNSET_CONTAINER), 'EBUSY', 'ioctl');
    await device.close();
    await group.ioctl(vfio.VFIO_GROUP_UNSET_CONTAINER);
    assert.is(await groupFlags(group), vfio.VFIO_GROUP_FLAGS_VIABLE);
    // The last group has taken the IOMMU with it.
    assert.is(await extension(container, vfio.VFIO_DMA_CC_IOMMU), 0);
    const info = vfio.vfioIommuType1Info.encode({ argsz: vfio.vfioIommuType1Info.size });
    await fails(container.ioctl(vfio.VFIO_IOMMU_GET_INFO, info), 'EINVAL', 'ioctl');
    await fails(group.ioctl(vfio.VFIO_DEVICE_RESET), 'ENOTTY', 'ioctl');
    await group.close();
    await fails(group.ioctl(vfio.VFIO_GROUP_UNSET_CONTAINER), 'EBADF', 'ioctl');
    await (await bus.openVfioGroup(NAME)).close();
  }));

test('container, group and device are closed in any order', () =>
  mdevScene(async ({ bus, container, group, openDevice, vduse: file }) => {
    const memory = new SharedMemory(4096);
    const device = await openDevice();
    await mapDma(container, { iova: IOVA, size: PAGE, vaddr: memory.address });
    await container.close();
    await fails(container.ioctl(vfio.VFIO_GET_API_VERSION), 'EBADF', 'ioctl');
    await group.close();
    // The device keeps the group, and the group the container.
    await fails(bus.openVfioGroup(NAME), 'EBUSY', 'open');
    assert.is((await deviceSees(file)).length, 1);
    await device.close();
    assert.equal(await deviceSees(file), []);
    await (await bus.openVfioGroup(NAME)).close();
  }));

for (const parent of ['set_map', 'dma_map'] as ParentKind[])
  test(`what is mapped is what the device sees, on a parent with ${parent}`, () =>
    mdevScene(
      async ({ container, openDevice, vduse: file }) => {
        const memory = new SharedMemory(4 * 4096);
        const device = await openDevice();
        await mapDma(container, { iova: IOVA, size: PAGE, vaddr: memory.address });
        await mapDma(container, {
          iova: IOVA + PAGE,
          size: 2n * PAGE,
          vaddr: memory.address + PAGE,
          flags: vfio.VFIO_DMA_MAP_FLAG_READ,
        });
        await mapDma(container, {
          iova: 2n ** 64n - PAGE,
          size: PAGE,
          vaddr: memory.address,
          flags: vfio.VFIO_DMA_MAP_FLAG_WRITE,
        });
        const all: [bigint, bigint, number][] = [
          [IOVA, IOVA + PAGE - 1n, vduse.VDUSE_ACCESS_RW],
          [IOVA + PAGE, IOVA + 3n * PAGE - 1n, vduse.VDUSE_ACCESS_RO],
          [2n ** 64n - PAGE, 2n ** 64n - 1n, vduse.VDUSE_ACCESS_WO],
        ];
        assert.equal(await deviceSees(file), all);
        // They are the container's: a device that comes and goes leaves them.
        await device.close();
        assert.equal(await deviceSees(file), all);
        assert.is(await unmapDma(container, { iova: IOVA, size: 8n * PAGE }), 3n * PAGE);
        assert.equal(await deviceSees(file), all.slice(2));
        assert.is(await unmapDma(container, { iova: IOVA, size: 8n * PAGE }), 0n);
      },
      { parent },
    ));

test('mappings are whole pages of shared files, with a permission, and do not overlap', () =>
  mdevScene(async ({ container, openDevice, vduse: file }) => {
    const memory = new SharedMemory(4 * 4096);
    await openDevice();
    const map = { iova: IOVA, size: 2n * PAGE, vaddr: memory.address };
    await mapFails(container, { ...map, flags: 0 }, 'EINVAL');
    await mapFails(container, { ...map, flags: 7 }, 'EINVAL');
    await mapFails(container, { ...map, size: 0n }, 'EINVAL');
    await mapFails(container, { ...map, size: PAGE + 1n }, 'EINVAL');
    await mapFails(container, { ...map, iova: IOVA + 1n }, 'EINVAL');
    await mapFails(container, { ...map, vaddr: memory.address + 1n }, 'EINVAL');
    await mapFails(container, { ...map, iova: 2n ** 64n - PAGE }, 'EINVAL');
    await mapFails(container, { ...map, vaddr: 2n ** 64n - PAGE }, 'EINVAL');
    // What the kernel would pin, or fail to.
    await mapFails(container, { ...map, vaddr: 4096n }, 'EFAULT');
    await mapFails(container, { ...map, vaddr: memory.address + 3n * PAGE }, 'EFAULT');
    assert.equal(await deviceSees(file), []);
    await mapDma(container, map);
    await mapFails(container, map, 'EEXIST');
    await mapFails(container, { ...map, iova: IOVA + PAGE }, 'EEXIST');
    await mapFails(container, { ...map, iova: IOVA - PAGE }, 'EEXIST');
    await mapDma(container, { ...map, iova: IOVA + 2n * PAGE });
  }));

test('version 2 unmaps whole mappings, or nothing', () =>
  mdevScene(async ({ container, openDevice, vduse: file }) => {
    const memory = new SharedMemory(4 * 4096);
    await openDevice();
    for (const iova of [IOVA, IOVA + 4n * PAGE])
      await mapDma(container, { iova, size: 4n * PAGE, vaddr: memory.address });
    for (const unmap of [
      { iova: IOVA + PAGE, size: 8n * PAGE },
      { iova: IOVA - PAGE, size: 6n * PAGE },
      { iova: IOVA + PAGE, size: PAGE },
      { iova: IOVA, size: 0n },
      { iova: IOVA, size: PAGE + 1n },
      { iova: IOVA + 1n, size: 4n * PAGE },
      { iova: 2n ** 64n - PAGE, size: 2n * PAGE },
      { iova: IOVA, size: 4n * PAGE, flags: 1 },
    ])
      await fails(unmapDma(container, unmap), 'EINVAL', 'ioctl');
    assert.is((await deviceSees(file)).length, 2);
    assert.is(await unmapDma(container, { iova: IOVA - PAGE, size: 5n * PAGE }), 4n * PAGE);
    assert.is(await unmapDma(container, { iova: 0n, size: 2n ** 64n - PAGE }), 4n * PAGE);
  }));

test('version 1 unmaps every mapping whose start it is given, whole, and none otherwise', () =>
  mdevScene(async ({ container, openDevice }) => {
    const memory = new SharedMemory(4 * 4096);
    await openDevice(vfio.VFIO_TYPE1_IOMMU);
    await mapDma(container, { iova: IOVA, size: 4n * PAGE, vaddr: memory.address });
    assert.is(await unmapDma(container, { iova: IOVA + PAGE, size: PAGE }), 0n);
    assert.is(await unmapDma(container, { iova: IOVA, size: PAGE }), 4n * PAGE);
  }));

test('a group that joins a container sees what is mapped there, and each device every change', async () => {
  await mdevScene(async ({ bus, container, openDevice, vduse: first }) => {
    const memory = new SharedMemory(2 * 4096);
    await openDevice();
    await mapDma(container, { iova: IOVA, size: PAGE, vaddr: memory.address });
    const { file: second } = await createDevice(bus, { name: 'disk1' });
    const responder = new Responder(second);
    await bus.attach('disk1', { driver: 'vhost_mdev' });
    const other = await bus.openVfioGroup('disk1');
    await other.setContainer(container);
    assert.is((await deviceSees(second)).length, 1);
    // A device that refuses: nobody has the mapping.
    responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
    await mapFails(container, { iova: IOVA + PAGE, size: PAGE, vaddr: memory.address }, 'EIO');
    assert.is((await deviceSees(first)).length, 1);
    responder.answer = () => ({});
    await mapDma(container, { iova: IOVA + PAGE, size: PAGE, vaddr: memory.address });
    assert.is((await deviceSees(first)).length, 2);
    assert.is((await deviceSees(second)).length, 2);
    await other.close();
    assert.equal(await deviceSees(second), []);
    assert.is((await deviceSees(first)).length, 2);
  });
});

test('a device that refuses a mapping keeps its group out of the container, and sees none of the others', () =>
  mdevScene(async ({ bus, container, openDevice }) => {
    const memory = new SharedMemory(2 * 4096);
    await openDevice();
    for (const at of [0n, PAGE])
      await mapDma(container, { iova: IOVA + at, size: PAGE, vaddr: memory.address + at });
    const { file } = await createDevice(bus, { name: 'disk1' });
    const responder = new Responder(file);
    await bus.attach('disk1', { driver: 'vhost_mdev', parent: 'dma_map' });
    const group = await bus.openVfioGroup('disk1');
    responder.answer = ({ iova }) =>
      iova.start === IOVA + PAGE ? { result: vduse.VDUSE_REQ_RESULT_FAILED } : {};
    await fails(group.setContainer(container), 'EIO', 'ioctl');
    assert.equal(await deviceSees(file), []);
    assert.is(await groupFlags(group), vfio.VFIO_GROUP_FLAGS_VIABLE);
    responder.answer = () => ({});
    await group.setContainer(container);
    assert.is((await deviceSees(file)).length, 2);
  }));

test('a device that leaves the bus takes its group with it', () =>
  mdevScene(async ({ bus, container, group, openDevice }) => {
    const memory = new SharedMemory(4096);
    await openDevice();
    await mapDma(container, { iova: IOVA, size: PAGE, vaddr: memory.address });
    await bus.detach(NAME);
    await fails(group.openDevice(NAME), 'ENODEV', 'ioctl');
    await fails(bus.openVfioGroup(NAME), 'ENOENT', 'open');
    await fails(container.ioctl(vfio.VFIO_IOMMU_MAP_DMA, dmaMap({})), 'EINVAL', 'ioctl');
    await group.close();
  }));

test('faults strike containers and groups', () =>
  mdevScene(async ({ bus, container, group }) => {
    bus.faults.inject({ point: 'ioctl', request: vfio.VFIO_GROUP_SET_CONTAINER, errno: 'EPERM' });
    await fails(group.setContainer(container), 'EPERM', 'ioctl');
    await group.setContainer(container);
    bus.faults.inject({ point: 'ioctl', device: 'vfio', request: vfio.VFIO_SET_IOMMU, errno: 'ENOMEM' });
    await fails(container.ioctl(vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1_IOMMU), 'ENOMEM', 'ioctl');
    await group.close();
  }));

test.run();
