/** What a network device has counted since it was made. Frames. */
export interface NetStats {
  /** That its driver has sent. */
  transmitted: number;
  /** That its driver has been given. */
  received: number;
  /** That its driver has sent, and that were no frames: too short, too long, or with a header about bytes that they have not. */
  malformed: number;
  /** That came while the link was down, in either direction. */
  linkDown: number;
  /** For a driver that gave no buffers, when as many as may wait did so already. */
  noBuffer: number;
  /** For a driver that was not there, or whose buffers are too short for them. */
  notReceivable: number;
  /** For a driver that would have to cut them into segments, and does not. */
  notSegmented: number;
}

/** All zero. */
export function noStats(): NetStats {
  return {
    transmitted: 0,
    received: 0,
    malformed: 0,
    linkDown: 0,
    noBuffer: 0,
    notReceivable: 0,
    notSegmented: 0,
  };
}
