/** What direct-io.js writes to the disk. */
export const WRITTEN = 0x5a;
/** What lies around it in the same pages, and is no business of the disk's. */
export const NEIGHBOUR = 0xc3;
