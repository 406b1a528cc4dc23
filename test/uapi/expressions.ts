/**
 * How sizes and offsets are spelled in C. In these expressions the recorded numbers, the kernel's headers and host/uapi
 * are compared.
 */

export function sizeOf(name: string): string {
  // Of the config space of a block device, ours is the front, up to the members of secure erase.
  if (name === 'virtio_blk_config') return `${offsetOf(name, 'write_zeroes_may_unmap')} + 4`;
  // What the kernel calls minsz: it has added members to these two since.
  if (name === 'vfio_device_info') return `${offsetOf(name, 'num_irqs')} + 4`;
  if (name === 'vfio_iommu_type1_info') return `${offsetOf(name, 'iova_pgsizes')} + 8`;
  return `sizeof(struct ${name})`;
}

export function offsetOf(name: string, member: string): string {
  return `offsetof(struct ${name}, ${member})`;
}

export function sizeOfMember(name: string, member: string): string {
  return `sizeof(((struct ${name} *)0)->${member})`;
}

/** Version 1 of the VDUSE API cut new members out of the front of what version 0 reserved: only the end has stayed. */
export function isPadding(member: string): boolean {
  return /^(reserved|padding)/.test(member);
}

/** Where a member ends. */
export function endOf(name: string, member: string): string {
  return `${offsetOf(name, member)} + ${sizeOfMember(name, member)}`;
}
