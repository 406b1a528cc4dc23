import { type AttachOptions, Bus } from '../../host/bus/index.js';
import type { ErrnoName } from '../../host/errors.js';
import * as vfio from '../../host/uapi/vfio.js';
import type { VduseFile } from '../../host/vduse/file.js';
import type { VfioContainerFile, VfioDeviceFile, VfioGroupFile } from '../../host/vhost-vdpa/vfio-file.js';
import { createDevice, type DeviceOptions, fails, NAME, Responder, within } from './fixture.js';

/** A device that answers everything, bound to vhost_mdev, and an open container. */
export interface MdevScene {
  bus: Bus;
  /** The device's side. */
  vduse: VduseFile;
  responder: Responder;
  container: VfioContainerFile;
  /** The device's group, in no container yet. */
  group: VfioGroupFile;
  /** Puts the group into the container, chooses the IOMMU and opens the device. */
  openDevice(type?: number): Promise<VfioDeviceFile>;
}

/** Sets a scene up, plays `act` on it and takes it down. */
export async function mdevScene(
  act: (scene: MdevScene) => Promise<void>,
  options: DeviceOptions & AttachOptions = {},
): Promise<void> {
  const bus = new Bus();
  try {
    const { file } = await createDevice(bus, options);
    const responder = new Responder(file);
    await bus.attach(NAME, { driver: 'vhost_mdev', ...options });
    const container = await bus.openVfioContainer();
    const group = await bus.openVfioGroup(NAME);
    const openDevice = async (type: number = vfio.VFIO_TYPE1v2_IOMMU) => {
      await group.setContainer(container);
      await container.ioctl(vfio.VFIO_SET_IOMMU, type);
      return group.openDevice(NAME);
    };
    await act({ bus, vduse: file, responder, container, group, openDevice });
  } finally {
    await within(bus.close(), 'closing the bus');
  }
}

type Map = Parameters<typeof vfio.vfioIommuType1DmaMap.encode>[0];
type Unmap = Parameters<typeof vfio.vfioIommuType1DmaUnmap.encode>[0];

/** VFIO_IOMMU_MAP_DMA, readable and writable unless `map` says otherwise. */
export async function mapDma(container: VfioContainerFile, map: Map): Promise<void> {
  await container.ioctl(vfio.VFIO_IOMMU_MAP_DMA, dmaMap(map));
}

/** The argument of VFIO_IOMMU_MAP_DMA. */
export function dmaMap(map: Map): Uint8Array {
  return vfio.vfioIommuType1DmaMap.encode({
    argsz: vfio.vfioIommuType1DmaMap.size,
    flags: vfio.VFIO_DMA_MAP_FLAG_READ | vfio.VFIO_DMA_MAP_FLAG_WRITE,
    ...map,
  });
}

/** VFIO_IOMMU_UNMAP_DMA: bytes that were unmapped. */
export async function unmapDma(container: VfioContainerFile, unmap: Unmap): Promise<bigint> {
  const argument = vfio.vfioIommuType1DmaUnmap.encode({ argsz: vfio.vfioIommuType1DmaUnmap.size, ...unmap });
  await container.ioctl(vfio.VFIO_IOMMU_UNMAP_DMA, argument);
  return vfio.vfioIommuType1DmaUnmap.get(argument, 'size');
}

/** Asserts that VFIO_IOMMU_MAP_DMA fails with an errno. */
export async function mapFails(container: VfioContainerFile, map: Map, code: ErrnoName): Promise<void> {
  await fails(mapDma(container, map), code, 'ioctl');
}
