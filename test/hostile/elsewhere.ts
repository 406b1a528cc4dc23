/** A case that takes more than one side of a ring: a whole device, its threads, or both sides at once. */
export interface PlayedElsewhere {
  /** What a hostile driver does. */
  readonly name: string;
  /** The section of the specification that decides, or "policy" where it leaves the choice. */
  readonly rule: string;
  readonly outcome: string;
  /** The test that plays it: its file, and words of its name that no other test of that file has. */
  readonly file: string;
  readonly test: string;
}

const DEVICE = 'test/vduse/device.test.ts';
const DRIVER = 'test/models/hostile-driver.test.ts';
const IN_FLIGHT = 'test/models/in-flight.test.ts';
const QUEUE_RESET = 'test/models/queue-reset.test.ts';

/** Set-up of rings, memory that goes, resets, both sides at once. */
export const playedElsewhere: readonly PlayedElsewhere[] = [
  {
    name: 'gives a queue no entries, more than it can have, or on a split ring no power of two of them',
    rule: 'Virtqueues',
    outcome: 'DRIVER_OK is refused: ERR_CONTROL_PLANE',
    file: DEVICE,
    test: 'is refused at DRIVER_OK, and a sound one is taken after a reset',
  },
  {
    name: 'gives a packed ring a size that is no power of two',
    rule: 'Packed Virtqueues',
    outcome: 'served',
    file: 'test/engine/packed.test.ts',
    test: 'driver and device understand each other over many laps',
  },
  {
    name: 'does so with a packed ring, or places one misaligned, past 2^64, or outside of its region',
    rule: 'Virtqueues; Packed Virtqueues',
    outcome: 'DRIVER_OK is refused: ERR_CONTROL_PLANE',
    file: 'test/vduse/packed-rings.test.ts',
    test: 'is refused at DRIVER_OK, and a sound one is taken after a reset',
  },
  {
    name: 'places a split ring misaligned, past 2^64, or where nothing maps it in one piece',
    rule: 'Virtqueues',
    outcome: 'DRIVER_OK is refused: ERR_CONTROL_PLANE',
    file: DRIVER,
    test: 'rings that are misaligned or not mapped are refused at DRIVER_OK, with a reason',
  },
  {
    name: 'places a ring where the mapping forbids what its device does there',
    rule: 'vDPA: access rights of the IOTLB',
    outcome: 'DRIVER_OK is refused: ERR_CONTROL_PLANE',
    file: DEVICE,
    test: 'rings in a region of permission',
  },
  {
    name: 'takes its rings away while they are in use',
    rule: 'vDPA: invalidation of the IOTLB',
    outcome: 'breaks: ERR_RING_UNMAPPED',
    file: DRIVER,
    test: 'breaks when the driver takes its rings away',
  },
  {
    name: 'takes the memory of a request away while a model holds it',
    rule: 'vDPA: invalidation of the IOTLB',
    outcome: 'breaks: ERR_RING_UNMAPPED; what the model writes later goes nowhere',
    file: IN_FLIGHT,
    test: 'a request whose memory is taken away breaks the device, and its end is no fault',
  },
  {
    name: 'changes its mappings while a model holds a request',
    rule: 'vDPA: invalidation of the IOTLB',
    outcome: 'its addresses are translated anew',
    file: IN_FLIGHT,
    test: 'a request in flight over a change of mappings finds its memory again',
  },
  {
    name: 'truncates the file behind its memory',
    rule: 'policy: the SIGBUS is caught, no result is published',
    outcome: 'breaks: ERR_MEMORY_LOST',
    file: IN_FLIGHT,
    test: 'memory that the driver truncates breaks a device that copies, until the reset',
  },
  {
    name: 'offers less than the log of a device that died says that it has in flight',
    rule: 'policy: a log is believed as little as a ring',
    outcome: 'breaks: ERR_IN_FLIGHT_LOG',
    file: 'test/engine/resume.test.ts',
    test: 'more in flight than the driver has offered breaks the queue',
  },
  {
    name: 'resets the device while a model holds a request',
    rule: 'Device Requirements: Virtqueue Reset',
    outcome: 'what ends later is dropped',
    file: IN_FLIGHT,
    test: 'a request that ends after a reset is dropped, even if the ring is in use again',
  },
  {
    name: 'resets the device, or changes mappings, in the middle of a burst',
    rule: 'Device Requirements: Virtqueue Reset',
    outcome: 'the burst ends first, and early: the rest stays on the ring',
    file: 'test/engine/blk.test.ts',
    test: 'a burst ends where the gate is asked to close: what is left stays in the ring',
  },
  {
    name: 'resets one queue while a model holds a request of it',
    rule: 'Device Requirements: Virtqueue Reset',
    outcome:
      'from the answer on nothing of it is touched, and what ends later is dropped; started elsewhere, it is served',
    file: QUEUE_RESET,
    test: 'a queue that is reset while a model holds a request is not touched again',
  },
  {
    name: 'resets one queue in the middle of bursts, and goes on kicking it',
    rule: 'Device Requirements: Virtqueue Reset',
    outcome: 'from the answer on nothing of it is touched: no used buffer, no interrupt',
    file: QUEUE_RESET,
    test: 'a queue that is reset in the middle of bursts is not touched again',
  },
  {
    name: 'starts a queue that was reset again where nothing is mapped',
    rule: 'Virtqueues; Device Requirements: Virtqueue Reset',
    outcome:
      'reported: ERR_CONTROL_PLANE; the queue is not run until it is reset once more, the others go on',
    file: QUEUE_RESET,
    test: 'a queue that is started again where nothing is mapped is not run',
  },
  {
    name: 'resets a queue without VIRTIO_F_RING_RESET, before DRIVER_OK, or twice',
    rule: 'Driver Requirements: Virtqueue Reset',
    outcome: 'refused, by the bus: EOPNOTSUPP, EINVAL',
    file: QUEUE_RESET,
    test: 'a reset needs VIRTIO_F_RING_RESET, a driver that runs and a queue that is ready',
  },
  {
    name: 'reads used buffers at the very moment that they are published, or makes some available just as the device falls asleep',
    rule: 'The Virtqueue Used Ring; Available Buffer Notification Suppression',
    outcome: 'entries are there once they count; no wake-up is lost',
    file: 'test/interleaving/interleaving.test.ts',
    test: 'no interleaving loses a wake-up, or completes a request twice',
  },
  {
    name: 'makes one descriptor bad of four that a device takes at a time',
    rule: 'policy: the fast path gives no verdicts',
    outcome: 'as if they were taken one by one',
    file: 'test/engine/packed-differential.test.ts',
    test: 'whatever the fast path takes, the slow one takes alike',
  },
  {
    name: 'makes lists of a packed ring, in order and across its end, and looks where each is used',
    rule: 'In-order use of descriptors; Next Flag: Descriptor Chaining',
    outcome: 'one used descriptor a list, or a batch: the next lies behind all of its descriptors',
    file: 'test/engine/packed-device.test.ts',
    test: 'in order, a batch is one used descriptor, with the id and the length of its last chain',
  },
  {
    name: 'writes random bytes all over the ring',
    rule: 'policy: some result',
    outcome: 'stays inside its memory, in bounded work',
    file: 'test/engine/hostile.test.ts',
    test: 'garbage in the whole ring area never takes the device out of mapped memory',
  },
  {
    name: 'kicks a thousand times for nothing, a queue that runs or one that does not',
    rule: 'Available Buffer Notification Suppression',
    outcome: 'nothing is taken',
    file: DRIVER,
    test: 'is undisturbed by kicks that mean nothing',
  },
  {
    name: 'fills the counter of its kick eventfd',
    rule: 'policy: an eventfd says that there is something, not how much',
    outcome: 'served',
    file: DRIVER,
    test: 'serves a driver whose kick eventfd is full',
  },
  {
    name: 'puts another kick eventfd in place of the one that its device waits for, and closes that',
    rule: 'vhost: VHOST_SET_VRING_KICK',
    outcome: 'served',
    file: DRIVER,
    test: 'follows its driver to another kick eventfd',
  },
  {
    name: 'rings its doorbell without end',
    rule: 'Driver Notifications; policy: the ring says what there is',
    outcome: 'nothing is taken',
    file: 'test/models/doorbell.test.ts',
    test: 'a driver that rings without end, for nothing, is served as any other',
  },
  {
    name: 'never reads its interrupts',
    rule: 'policy: a full eventfd is not waited for',
    outcome: 'served',
    file: 'test/native/eventfd.test.ts',
    test: 'a saturated counter takes a signal without an error, and stays readable',
  },
];
