import type { Machine } from './machines.js';
import { hasHardwareVirtualization } from './requirements.js';

/** What QEMU is given for one boot. */
export interface BootFiles {
  kernel: string;
  initramfs: string;
  /** Folder that the guest can write to, with the plan and the artefacts. */
  share: string;
  artefacts: string;
  /** File for what the kernel prints. */
  console: string;
  /** This checkout. */
  checkout: string;
}

/** How the guest's processors are run. */
export const accelerator = () => (hasHardwareVirtualization() ? 'kvm' : 'tcg');

/**
 * Arguments of QEMU for a machine. The guest's first serial port is the kernel's console, the second is the standard input
 * and output.
 */
export function qemuArguments(machine: Machine, files: BootFiles, interactive: boolean): string[] {
  const acceleration =
    accelerator() === 'kvm'
      ? ['-accel', 'kvm', '-cpu', 'host']
      : ['-accel', 'tcg,thread=multi', '-cpu', 'max'];
  const commandLine = [
    // Warnings and worse go to the console: printing all would take seconds. A kernel that has failed ends.
    ...['console=ttyS0', 'loglevel=5', 'panic=-1', 'oops=panic'],
    `ringbell.checkout=${files.checkout}`,
    ...machine.kernelArguments,
  ];
  const share = (id: string, path: string, options: string) => [
    ...['-fsdev', `local,id=${id},path=${path},security_model=none,multidevs=remap${options}`],
    ...['-device', `virtio-9p-pci,fsdev=${id},mount_tag=${id}`],
  ];
  return [
    ...acceleration,
    ...['-machine', 'q35', '-smp', `${machine.processors}`, '-m', `${machine.memoryMiB}M`],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-serial', `file:${files.console}`, '-serial', interactive ? 'mon:stdio' : 'stdio'],
    ...['-kernel', files.kernel, '-initrd', files.initramfs, '-append', commandLine.join(' ')],
    ...machine.qemuArguments(files.artefacts),
    ...share('host', '/', ',readonly=on'),
    ...share('share', files.share, ''),
  ];
}
