/** The contract, played by the loopback: an instance, and one in each queue thread. */
import * as assert from 'node:assert/strict';
import { test } from 'uvu';
import { LoopbackNet } from '../../host/models/net/loopback-net.js';
import { type ContractRequest, modelContract } from '../../host/testing/index.js';
import { VIRTIO_NET_HDR_SIZE } from '../../host/uapi/virtio.js';

const RECEIVEQ = 0;
const TRANSMITQ = 1;
/** Bytes: of a frame that is sent, and of a buffer that one is received in. */
const FRAME_BYTES = 60;
const BUFFER_BYTES = 1600;

const frame = new Uint8Array(VIRTIO_NET_HDR_SIZE + FRAME_BYTES).fill(0xab, VIRTIO_NET_HDR_SIZE);

const requests: ContractRequest[][] = [
  [
    {
      queue: RECEIVEQ,
      writable: BUFFER_BYTES,
      check: ({ written, writable }) => {
        assert.equal(written, frame.length);
        assert.ok(writable.subarray(VIRTIO_NET_HDR_SIZE, written).every((byte) => byte === 0xab));
      },
    },
    { queue: TRANSMITQ, readable: frame, check: ({ written }) => assert.equal(written, 0) },
  ],
];

modelContract('the loopback', { test, model: () => new LoopbackNet(), queues: 2, threads: [0], requests });

modelContract('the loopback, by URL', {
  test,
  model: () => new URL('loopback.js', import.meta.url),
  queues: 2,
  requests,
});

test.run();
