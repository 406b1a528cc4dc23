/** A virtual machine that guest tests run in: those of the folder of its name, in one boot for each series of kernels. */
export interface Machine {
  /** Name of the folder beside this file. */
  name: string;
  /** Virtual CPUs. */
  processors: number;
  memoryMiB: number;
  /** Further words of the kernel's command line. */
  kernelArguments: readonly string[];
  /** Further arguments of QEMU. Files that it writes go to `artefacts`, a folder, for the tests that run afterwards. */
  qemuArguments(artefacts: string): readonly string[];
  /** Whether its tests need modules that some kernels come without and that are built beside them. */
  needsSimulators: boolean;
}

/**
 * One CPU that never sleeps: under emulation a sleeping one is woken by the 4 ms tick only, and two of them take both
 * cores of a small host.
 */
const GUEST: Machine = {
  name: 'guest',
  processors: 1,
  memoryMiB: 2048,
  kernelArguments: ['idle=poll'],
  qemuArguments: () => [],
  needsSimulators: false,
};

/** A virtio-net device whose notification area has a page for each queue, behind an IOMMU without which vp_vdpa will not bind. */
const DOORBELL: Machine = {
  ...GUEST,
  name: 'doorbell',
  kernelArguments: [...GUEST.kernelArguments, 'intel_iommu=on'],
  qemuArguments: (artefacts) => [
    // The IOMMU comes first: QEMU attaches only devices that follow it.
    ...['-device', 'intel-iommu'],
    ...['-netdev', 'user,id=net0,restrict=on'],
    ...['-object', `filter-dump,id=dump0,netdev=net0,file=${artefacts}/net0.pcap`],
    ...[
      '-device',
      'virtio-net-pci,id=nic0,netdev=net0,disable-legacy=on,page-per-vq=on,iommu_platform=on,romfile=,mac=52:54:00:00:00:01',
    ],
    ...['-trace', 'virtio_queue_notify', '-D', `${artefacts}/qemu.trace`],
  ],
  needsSimulators: true,
};

/** All machines, the default one first. */
export const MACHINES: readonly Machine[] = [GUEST, DOORBELL];
