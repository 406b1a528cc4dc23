/** 'warning': it works, with a limit; 'missing': what depends on it does not work. */
export type CheckState = 'ok' | 'warning' | 'missing';

/** What a check is for: everything, the kernel's vhost-vdpa (driver side), the kernel's VDUSE (device side). */
export type CheckArea = 'embedded' | 'vhost-vdpa' | 'vduse';

/** One thing that was looked at. */
export interface Check {
  /** What depends on it. */
  readonly area: CheckArea;
  /** Stable: what was looked at. */
  readonly name: string;
  /** How it turned out. */
  readonly state: CheckState;
  /** What was found, for people. */
  readonly found: string;
  /** What to do about it, for people; absent when there is nothing to do. */
  readonly remedy?: string;
}

/** How a look turned out. */
export type Finding = Omit<Check, 'area' | 'name'>;
