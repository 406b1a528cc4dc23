/** A series of kernels that the guest tests run on. Distributions replace its point releases, so it has none. */
export interface Series {
  /** `major.minor`, as `uname -r` begins. */
  name: string;
  /** Whether a run fails when no archive has it any more; else its tests are skipped. */
  required: boolean;
  /** What VDUSE_GET_API_VERSION answers. */
  vduseApiVersion: number;
}

/** All series, oldest first. */
export const SERIES: readonly Series[] = [
  { name: '6.12', required: true, vduseApiVersion: 0 },
  { name: '7.2', required: true, vduseApiVersion: 1 },
  // With VDUSE_F_QUEUE_READY and VDUSE_F_SUSPEND; so new that archives have it without a package that names it.
  { name: '7.3', required: false, vduseApiVersion: 1 },
];
