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
  // A host that is busy at the wrong moment makes the kernel think that its timer does not work: it would panic.
  kernelArguments: ['idle=poll', 'no_timer_check'],
  qemuArguments: () => [],
  needsSimulators: false,
};

/** A virtio-net device of DOORBELL at a slot of its PCI bus. Its frames are captured, each of its notifications is traced. */
function nic(artefacts: string, name: string, slot: number, properties: string): readonly string[] {
  return [
    ...['-netdev', `user,id=${name},restrict=on`],
    ...['-object', `filter-dump,id=dump-${name},netdev=${name},file=${artefacts}/${name}.pcap`],
    '-device',
    // Without ioeventfd, which makes one of several notifications.
    `virtio-net-pci,netdev=${name},addr=0x${slot.toString(16)},disable-legacy=on,ioeventfd=off,romfile=,${properties}`,
  ];
}

/** Virtio-net devices with and without a notification page for each queue, behind an IOMMU (or past it), as vp_vdpa needs one. */
const DOORBELL: Machine = {
  ...GUEST,
  name: 'doorbell',
  kernelArguments: [...GUEST.kernelArguments, 'intel_iommu=on'],
  qemuArguments: (artefacts) => [
    // The IOMMU comes first: QEMU attaches only devices that follow it.
    ...['-device', 'intel-iommu'],
    ...nic(artefacts, 'pages', 16, 'page-per-vq=on,iommu_platform=on'),
    ...nic(artefacts, 'shared-page', 17, 'page-per-vq=off,iommu_platform=on'),
    ...nic(artefacts, 'past-iommu', 18, 'page-per-vq=on,iommu_platform=off'),
    ...['-trace', 'virtio_queue_notify', '-D', `${artefacts}/qemu.trace`],
  ],
  needsSimulators: true,
};

/** The kernel's own simulators of vDPA devices. */
const SIMULATOR: Machine = { ...GUEST, name: 'simulator', needsSimulators: true };

/** Two CPUs, for what a kernel does only where it has several. */
const PROCESSORS: Machine = { ...GUEST, name: 'processors', processors: 2 };

/** All machines, the default one first. */
export const MACHINES: readonly Machine[] = [GUEST, DOORBELL, SIMULATOR, PROCESSORS];
