/** The contract, played by a port of a switch whose other port nobody serves. */
import * as assert from 'node:assert/strict';
import { test } from 'uvu';
import { NetSwitch } from '../../host/models/net/net-switch.js';
import { modelContract } from '../../host/testing/index.js';
import { VIRTIO_NET_HDR_SIZE } from '../../host/uapi/virtio.js';

const TRANSMITQ = 1;
/** Bytes of a frame. */
const FRAME_BYTES = 60;

modelContract('a port of a switch', {
  test,
  model: () => {
    const networkSwitch = new NetSwitch();
    networkSwitch.port();
    return networkSwitch.port();
  },
  queues: 2,
  threads: [0],
  requests: [
    {
      queue: TRANSMITQ,
      readable: new Uint8Array(VIRTIO_NET_HDR_SIZE + FRAME_BYTES),
      check: ({ written }) => assert.equal(written, 0),
    },
  ],
});

test.run();
