/**
 * Every structure that the engine keeps in the private part of an aperture, as byte offsets. Compiled by AssemblyScript
 * and by TypeScript: WASM, host and tests agree because they read this file. Offsets of u64 fields are multiples of 8;
 * lines that different threads write are CACHE_LINE apart.
 *
 * "linear" is an address in the aperture's linear memory (u32, never 0); "IOVA" an address that a driver uses (u64).
 */

/** Bytes; unit of every mapping. */
export const PAGE_SIZE = 4096;
/** Bytes; two 64-byte lines, because x86 prefetches lines in pairs. */
export const CACHE_LINE = 128;

// ---------------------------------------------------------------------------------------------------------------------
// IOTLB: a header, then entries sorted by IOVA, never overlapping. Changed only while no queue that uses it runs.
export const IOTLB_COUNT = 0;
export const IOTLB_CAPACITY = 4;
/** u32, +1 at each change: whoever caches a translation compares it. */
export const IOTLB_GENERATION = 8;
/** u32, linear of the bitmap in which writes of the device are marked, 0 while they are not: DIRTY_BITMAP of a DIRTY block. */
export const IOTLB_DIRTY = 16;
/** u32, linear of a log that the driver's side reads and clears, which writes are marked in besides, 0 for none: vhost's log_base. */
export const IOTLB_LOG_BASE = 20;
/** u32, bytes of that log: pages of IOVA beyond its bits are not marked in it. */
export const IOTLB_LOG_BYTES = 24;
export const IOTLB_ENTRIES = 64;
export const IOTLB_ENTRY_SIZE = 32;
export const IOTLB_ENTRY_IOVA = 0;
/** u64, bytes; 1 or more. */
export const IOTLB_ENTRY_BYTES = 8;
export const IOTLB_ENTRY_LINEAR = 16;
/** u32, IOTLB_ACCESS_* bits that are refused. */
export const IOTLB_ENTRY_DENY = 20;
/** u32, in entry n: which region is n-th by linear address. It belongs to the place in the table, not to the region there. */
export const IOTLB_ENTRY_ORDER = 24;

/** Access bits of a translation: those of vhost's `perm` (VHOST_ACCESS_RO 1, VHOST_ACCESS_WO 2). */
export const IOTLB_ACCESS_READ = 1;
export const IOTLB_ACCESS_WRITE = 2;

// Results of iotlbMap.
export const IOTLB_OK = 0;
export const IOTLB_EXISTS = 1;
export const IOTLB_FULL = 2;
export const IOTLB_INVALID = 3;

// ---------------------------------------------------------------------------------------------------------------------
// Dirty pages: what a device has written of its driver's memory, a bit for each 4 KiB of IOVA (vhost's VHOST_PAGE_SIZE, here
// PAGE_SIZE). One block a device, for all of its address spaces. The bits of a region begin at DIRTY_BITS_PER_PAGE × the page
// of the aperture at which its window begins: there are twice as many as its window has pages, because a region that starts
// in the middle of a page of IOVA touches one page more.
export const DIRTY_BITS_PER_PAGE = 2;
/** Table for dirtyFetch: DIRTY_RANGES_CAPACITY entries. */
export const DIRTY_RANGES = 0;
export const DIRTY_RANGES_CAPACITY = 1024;
/** Entry {first page of IOVA u64, pages u64}. */
export const DIRTY_RANGE_SIZE = 16;
export const DIRTY_RANGE_PAGE = 0;
export const DIRTY_RANGE_PAGES = 8;
/** The bitmap, to the end of the block: DIRTY_BITS_PER_PAGE bits for each page of the aperture. */
export const DIRTY_BITMAP = 16384;

// ---------------------------------------------------------------------------------------------------------------------
// Virtqueue, device side. One block a queue.
// Line 0: configuration, written by the host while the queue is stopped.
/** u32, entries: a power of two where the ring is split. */
export const VQ_SIZE = 0;
/** u32, VQ_F_* of what was negotiated. */
export const VQ_FLAGS = 4;
/** u32, linear: descriptor table or ring, available ring ("driver area"), used ring ("device area"). */
export const VQ_DESC = 8;
export const VQ_DRIVER = 12;
export const VQ_DEVICE = 16;
/** u32, linear of the IOTLB that translates the queue's buffers. */
export const VQ_IOTLB = 20;
/** u32, linear of the chain table: VQ_BURST entries of CHAIN_SIZE. */
export const VQ_CHAINS = 24;
/** u32, linear of the segment table, and its entries; SEGMENTS_SLACK more entries lie behind it. */
export const VQ_SEGMENTS = 28;
export const VQ_SEGMENTS_CAPACITY = 32;
/** u32, chains: the most that one pop takes. */
export const VQ_BURST = 36;
/** u32, linear of a private descriptor snapshot: VQ_SIZE + 1 entries of VIRTQ_DESC_SIZE, at least 4. */
export const VQ_SNAPSHOT = 40;
/** u32, linear of a byte a head: 1 while an asynchronous request holds it; of a packed ring a byte an entry of a log that is resumed. */
export const VQ_HEADS = 44;
/** u64: the features negotiated, for device models to look their own up in. */
export const VQ_FEATURES = 48;
/** u32, linear of the queue's section of an in-flight log; 0 where none is kept. */
export const VQ_LOG = 56;
/**
 * u32, linear of a private ring that VQ_REPLAYING speaks of: of VQ_SIZE heads (u16), at their avail indices; of a packed ring
 * of VQ_SIZE descriptors, as if a driver had offered them from the start.
 */
export const VQ_REPLAY = 60;
/** u32, linear of a u16 a place of that ring of descriptors: the entry of the in-flight log that it comes from. */
export const VQ_REPLAY_ENTRIES = 64;
/** u32, linear of a private ring of VQ_SIZE u16: the entries of the in-flight log that no chain has. Packed rings only. */
export const VQ_FREE_ENTRIES = 68;
/** u32, linear of a u32 a chain of the chain table: the bytes that the device may write. Of packed rings, read with VQ_F_IN_ORDER. */
export const VQ_WRITABLE = 96;
/** u32, linear of the FLIGHT block in which the queue's chains are recorded; 0 for none. */
export const VQ_FLIGHT = 100;
// Line 1: the current region, a copy of one IOTLB entry that allows reading. Read by the fast parse, moved by the slow one.
export const VQ_REGION_IOVA = 128;
export const VQ_REGION_BYTES = 136;
/** u64: as the others a lane of a vector. */
export const VQ_REGION_LINEAR = 144;
/** u32: VIRTQ_DESC_F_WRITE if the region is read-only, else 0. */
export const VQ_REGION_DENY = 152;
/** u32: IOTLB_GENERATION at which the region was copied. */
export const VQ_REGION_GENERATION = 156;
// Line 2: running state, private to the thread that runs the queue.
/**
 * u32: next entry of the available ring to read, free-running modulo 2^16; of a packed ring the next descriptor to read,
 * with the wrap counter in bit 15.
 */
export const VQ_LAST_AVAIL = 256;
/** u32: avail.idx as last read. */
export const VQ_SHADOW_AVAIL = 260;
/** u32, modulo 2^16: next used index to publish; of a packed ring the next used descriptor to write, as VQ_LAST_AVAIL. */
export const VQ_USED = 264;
/** u32: VQ_USED at the last interrupt decision. */
export const VQ_SIGNALLED_USED = 268;
/** u32: chains popped and not yet pushed. */
export const VQ_IN_FLIGHT = 272;
/** u32: first VERDICT_* that broke the queue; 0 while it is sound. */
export const VQ_VERDICT = 280;
/** u32: 1 when the pop stopped at an IOVA that no region covers; cleared by the host once it has mapped one. */
export const VQ_MISS = 284;
/** u64: IOVA that the verdict or the miss speaks of. */
export const VQ_FAULT_IOVA = 288;
/** u32, IOTLB_ACCESS_*: access wanted at VQ_FAULT_IOVA. */
export const VQ_FAULT_ACCESS = 296;
/** u32: head of the chain that broke the queue, or the index that did. */
export const VQ_VERDICT_HEAD = 300;
/** u32: +1 at each start and each reset, so that requests from before a reset are told from those after it. */
export const VQ_EPOCH = 304;
/** u32: 1 while pops take heads from VQ_REPLAY, which another process left in flight, instead of the available ring. */
export const VQ_REPLAYING = 308;
/** u32: VQ_LAST_AVAIL once VQ_REPLAY is read, where the driver's ring goes on. */
export const VQ_REPLAY_END = 312;
/** u32: place in VQ_REPLAY of the first chain that was not given back by a burst. Packed rings only. */
export const VQ_REPLAY_GIVEN = 316;
/** u64: chains that requests have taken, as the in-flight log counts them. */
export const VQ_TAKEN = 320;
/** u32: where VQ_FREE_ENTRIES has its next one, how many it has, and how many more once their chains are published. */
export const VQ_FREE_AT = 328;
export const VQ_FREE_COUNT = 332;
export const VQ_FREE_GIVEN = 336;
/** u32: 1 + the index of the first used descriptor that is not yet published; 0 if there is none. Packed rings only. */
export const VQ_HELD_AT = 344;
/** u64: its length, buffer id and flags. */
export const VQ_HELD = 352;
// Line 3, 4: counters, u64, only ever added to by the running thread, read by anyone at any time.
export const VQ_REQUESTS = 384;
export const VQ_BYTES_READ = 392;
export const VQ_BYTES_WRITTEN = 400;
export const VQ_KICKS = 408;
export const VQ_KICKS_SUPPRESSED = 416;
export const VQ_INTERRUPTS = 424;
export const VQ_INTERRUPTS_SUPPRESSED = 432;
export const VQ_TRAPS = 440;
export const VQ_HOSTILE_CHAINS = 448;
export const VQ_BURSTS = 456;
export const VQ_CROSSINGS = 464;
export const VQ_IO_ERRORS = 472;
export const VQ_REPLAYED = 480;
// Line 5: the gate between the thread that runs the queue and the control plane (host/queue/gate.ts).
/** i32, GATE_*. */
export const VQ_GATE = 640;
/** i32: how many holders want the queue to stay out; the datapath enters only at 0. */
export const VQ_GATE_CLOSED = 644;
/** i32 file descriptors, −1 for none: kick eventfd to wait on, call eventfd to signal. */
export const VQ_KICK_FD = 648;
export const VQ_CALL_FD = 652;
/** i32: thread of the kernel (gettid) that runs the queue; 0 where that is not known. */
export const VQ_THREAD = 656;
/** u32: 1 asks the queue thread to leave for good. */
export const VQ_EXIT = 660;
/**
 * u32, linear of what a driver's doorbell stores go to; 0 for a queue that has none to watch. The u16 there is looked at, the
 * index of a queue: what VIRTIO_F_NOTIFICATION_DATA adds behind it is a hint that nobody needs.
 */
export const VQ_DOORBELL = 664;
/** u32, linear of the VQ_DOORBELL_COUNT that counts its rings: that of one of the queues that share it. */
export const VQ_DOORBELL_RINGS = 668;
/** u32: rings of a doorbell that were seen, by whichever thread. */
export const VQ_DOORBELL_COUNT = 672;
/** u32: that count when the thread that runs the queue last looked. */
export const VQ_DOORBELL_SEEN = 676;
/** i32: 1 while somebody wants to know how long requests take: then some are timed. */
export const VQ_SAMPLING = 680;
/** u32, linear of the LATENCY block of those. */
export const VQ_LATENCY = 684;
export const VQ_BLOCK_SIZE = 768;

// VQ_FLAGS
export const VQ_F_EVENT_IDX = 1;
export const VQ_F_INDIRECT_DESC = 2;
export const VQ_F_PACKED = 4;
export const VQ_F_IN_ORDER = 8;
/** Of a driver's queue: doorbell stores have 32 bits, and say where the ring goes on. */
export const VQ_F_NOTIFICATION_DATA = 16;

/** What a doorbell holds that was seen and has not rung since: the index of no queue, for there are 65,535 at most. */
export const DOORBELL_UNRUNG = 0xffff;

// VQ_GATE
/** The control plane owns the queue. */
export const GATE_STOPPED = 0;
/** The datapath may enter. */
export const GATE_OPEN = 1;
/** The datapath is inside a burst. */
export const GATE_BUSY = 2;

/**
 * Chain table entry {head u32, readable segments u16, segments u16}; after handling {head u32, written bytes u32}: the image of
 * a split ring's used element. The low half of the head is the index of the chain's first descriptor, the high half 0; of a
 * packed ring its buffer id, and how many descriptors of the ring it takes.
 */
export const CHAIN_SIZE = 8;
export const CHAIN_COUNTS = 4;
/** Segment {linear u32, bytes u32}, readable ones of a chain first. */
export const SEGMENT_SIZE = 8;
export const SEGMENT_LINEAR = 0;
export const SEGMENT_BYTES = 4;
/** Entries behind a segment table that a vector store may overwrite. */
export const SEGMENTS_SLACK = 4;

// Why a ring was refused (VQ_VERDICT, DQ_VERDICT). The host gives each an error code of its own.
export const VERDICT_NONE = 0;
/** avail.idx is more than the queue size ahead; of a packed ring, more is available than the device has given back. */
export const VERDICT_AVAIL_INDEX = 1;
/** A head that the descriptor table does not have. */
export const VERDICT_HEAD = 2;
/** A `next` outside its table. */
export const VERDICT_NEXT = 3;
/** More descriptors than the queue has: a loop, or an indirect table that is too long. */
export const VERDICT_CHAIN_TOO_LONG = 4;
/** A descriptor of no bytes. */
export const VERDICT_ZERO_LENGTH = 5;
/** The lengths of a chain add up to 2^32 bytes or more. */
export const VERDICT_TOTAL_LENGTH = 6;
/** An address that no region maps (and none could be had for). */
export const VERDICT_UNMAPPED = 7;
/** An access that its region does not permit. */
export const VERDICT_PERMISSION = 8;
/** Address plus length passes 2^64. */
export const VERDICT_ADDRESS_OVERFLOW = 9;
/** A device-readable descriptor after a device-writable one. */
export const VERDICT_ORDER = 10;
/** VIRTQ_DESC_F_INDIRECT without the feature. */
export const VERDICT_INDIRECT_NOT_NEGOTIATED = 11;
/** VIRTQ_DESC_F_INDIRECT together with VIRTQ_DESC_F_NEXT, or in a list of a packed ring. */
export const VERDICT_INDIRECT_NEXT = 12;
/** VIRTQ_DESC_F_INDIRECT inside an indirect table. */
export const VERDICT_INDIRECT_NESTED = 13;
/** An indirect table of 0 bytes, or of a length that is no multiple of a descriptor. */
export const VERDICT_INDIRECT_LENGTH = 14;
/** More segments than the segment table holds. */
export const VERDICT_TOO_MANY_SEGMENTS = 15;
/** A head made available again while a request still holds it. */
export const VERDICT_HEAD_IN_FLIGHT = 16;
/** A chain that the device model cannot take (no header, no status byte). */
export const VERDICT_REQUEST = 17;
/** used.idx is ahead of what is in flight. */
export const VERDICT_USED_INDEX = 18;
/** A used id that is no head in flight. */
export const VERDICT_USED_ID = 19;
/** A used length beyond the writable bytes of its chain. */
export const VERDICT_USED_LENGTH = 20;
/** A WASM trap: memory that was not accessible. */
export const VERDICT_TRAP = 21;
/** Memory whose file was truncated under the mapping (SIGBUS). */
export const VERDICT_MEMORY_LOST = 22;
/** The queue's thread is gone. */
export const VERDICT_THREAD_LOST = 23;
/** The in-flight log and the ring contradict each other. */
export const VERDICT_IN_FLIGHT_LOG = 24;

// ---------------------------------------------------------------------------------------------------------------------
// A histogram of how long requests took, written and read by the host alone: each power of two of nanoseconds is cut into
// 2^LATENCY_BUCKET_BITS equal buckets, so that a latency is told within 1/16 of itself.
export const LATENCY_BUCKET_BITS = 4;
/** u64, nanoseconds: the sum of the latencies. */
export const LATENCY_SUM = 0;
/** u32 a bucket: how many latencies fell into it. */
export const LATENCY_COUNTS = 8;
export const LATENCY_BUCKETS = 448;
export const LATENCY_BLOCK_SIZE = 1800;

// ---------------------------------------------------------------------------------------------------------------------
// Flight recorder: what a queue has done last, a ring of records in fixed memory. One block a queue, of either side, written
// by the thread that runs the queue; whoever reads it meanwhile drops the records that may have been written over.
/** f64, milliseconds since 1970: when the host last entered the queue. WebAssembly has no clock. */
export const FLIGHT_TIME = 0;
/** u64: records that were written so far; record n lies at place n of the ring, modulo its length. */
export const FLIGHT_NEXT = 8;
/** u64: FLIGHT_NEXT, or how far it is about to move: the places of those before may be written at this moment. */
export const FLIGHT_CLAIMED = 16;
/** u32: records of the ring less one, which is a power of two. */
export const FLIGHT_MASK = 24;
/** u32: 1 where the first FLIGHT_HEADER_BYTES of each chain are no payload, and are recorded. */
export const FLIGHT_HEADERS = 28;
export const FLIGHT_RECORDS = 64;

/** Record. f64: FLIGHT_TIME when it was written. */
export const FLIGHT_RECORD_SIZE = 48;
export const FLIGHT_RECORD_TIME = 0;
/** u32: the head, as in the chain table; of a FLIGHT_RETURNED the first one, of a FLIGHT_BROKEN VQ_VERDICT_HEAD. */
export const FLIGHT_RECORD_HEAD = 8;
/**
 * u32: of what was taken CHAIN_COUNTS, 0 on the driver's side; of what was given back the written bytes; of a FLIGHT_RETURNED
 * how many chains.
 */
export const FLIGHT_RECORD_COUNTS = 12;
/** u32, bytes that the device may read, and write; 0 of what was given back. On the driver's side bytes of data. */
export const FLIGHT_RECORD_READABLE = 16;
export const FLIGHT_RECORD_WRITABLE = 20;
/** u16, FLIGHT_*. */
export const FLIGHT_RECORD_KIND = 24;
/** u16, VERDICT_*: of a FLIGHT_BROKEN. */
export const FLIGHT_RECORD_VERDICT = 26;
/** u32: place in the ring: of what was taken that of its available entry, of what was given back that of its used one. */
export const FLIGHT_RECORD_POSITION = 28;
/** FLIGHT_HEADER_BYTES bytes: of the start of what was taken, with FLIGHT_F_HEADER; of a FLIGHT_BROKEN VQ_FAULT_IOVA, with FLIGHT_F_FAULT. */
export const FLIGHT_RECORD_HEADER = 32;
/** Bytes. */
export const FLIGHT_HEADER_BYTES = 16;

// FLIGHT_RECORD_KIND
/** A device has taken a chain. */
export const FLIGHT_POPPED = 1;
/** A device has given a chain back. */
export const FLIGHT_PUSHED = 2;
/** A device has put the last chains that it took back, unseen: it has not taken them. */
export const FLIGHT_RETURNED = 3;
/** A driver has offered a chain. */
export const FLIGHT_PUBLISHED = 4;
/** A driver has got a chain back. */
export const FLIGHT_REAPED = 5;
/** The queue broke. */
export const FLIGHT_BROKEN = 6;
/** Bits of it: FLIGHT_RECORD_HEADER says something. */
export const FLIGHT_F_HEADER = 256;
export const FLIGHT_F_FAULT = 512;

// ---------------------------------------------------------------------------------------------------------------------
// Virtqueue, driver side. One block a queue.
// Line 0: configuration.
export const DQ_SIZE = 0;
export const DQ_FLAGS = 4;
export const DQ_DESC = 8;
export const DQ_DRIVER = 12;
export const DQ_DEVICE = 16;
/** u64: IOVA minus linear, for all of the driver's memory. */
export const DQ_IOVA_DELTA = 24;
/** u32: slots, each one request in flight. Of a block queue: VQ size with indirect descriptors, a third of it without. */
export const DQ_SLOTS = 32;
/** u32, linear of the slots' shared memory: DQ_SLOTS of DQ_SLOT_BYTES. */
export const DQ_SLOT_MEMORY = 36;
/** u32, linear of the slots' private state: DQ_SLOTS of SLOT_STATE_SIZE. */
export const DQ_SLOT_STATE = 40;
/** u32, linear of the free-slot stack: DQ_SLOTS of u16. */
export const DQ_FREE_STACK = 44;
/** u32, linear of the mapped doorbell page, 0 when the kick eventfd is used. */
export const DQ_DOORBELL = 48;
/** u32: queue index, what a doorbell store says, in its low 16 bits if it has more. */
export const DQ_INDEX = 52;
/** u32, bytes of a slot's shared memory: SLOT_SIZE of a block queue, header and longest payload of a queue of buffers. */
export const DQ_SLOT_BYTES = 56;
/** u32, linear of the IOVA domain that the requests' data is mapped through; 0 where the device sees the driver's memory. */
export const DQ_DOMAIN = 60;
/** u32: descriptors of the ring's own table that belong to each slot: SLOT_DESCRIPTORS, or 1. Split rings only. */
export const DQ_SLOT_DESCRIPTORS = 72;
/** u32, linear of a private ring of DQ_SLOTS slots (u16), in the order in which they were offered. VQ_F_IN_ORDER only. */
export const DQ_ORDER = 64;
/** u32, linear of DQ_SLOTS entries of FRAME_SIZE: requests that were reaped, each {slot u32, written bytes u32}. */
export const DQ_REAPED = 68;
/** u32, bytes of the header in front of each payload, a multiple of 4. Queues of buffers only, as the next. */
export const DQ_HEADER_BYTES = 76;
/** u32, bytes of the shortest payload: a received buffer with fewer holds none. */
export const DQ_LEAST_BYTES = 80;
/** u32, as VQ_FLIGHT, and at the same offset. */
export const DQ_FLIGHT = 100;
// Line 2: running state.
/** u32: next available index, modulo 2^16, or the next used one to read; of a packed ring places, as VQ_LAST_AVAIL. */
export const DQ_AVAIL = 256;
export const DQ_LAST_USED = 260;
/** u32: slots that no request holds. */
export const DQ_FREE = 264;
/** u32: DQ_AVAIL at the last notification decision. */
export const DQ_SIGNALLED_AVAIL = 268;
export const DQ_VERDICT = 280;
export const DQ_VERDICT_HEAD = 284;
/** u32: 1 + the index of the first descriptor that is not yet published, 0 if there is none. Packed rings only. */
export const DQ_HELD_AT = 288;
/** u32: its buffer id and flags. */
export const DQ_HELD = 292;
/** u32: places in DQ_ORDER of the slot in flight that was offered first, and of the next one to be offered. */
export const DQ_ORDER_FIRST = 296;
export const DQ_ORDER_NEXT = 300;
/** u32: 1 + the slot with which a batch ends that is being reaped, 0 if none is; bytes that the device wrote to that slot. */
export const DQ_BATCH_END = 304;
export const DQ_BATCH_WRITTEN = 308;
// Counters: same offsets and meaning as VQ_*.
export const DQ_BLOCK_SIZE = 768;

/** Shared memory of a block queue's slot: request header, status byte, ranges of DISCARD and WRITE_ZEROES, indirect table. */
export const SLOT_SIZE = 128;
export const SLOT_HEADER = 0;
export const SLOT_STATUS = 16;
export const SLOT_RANGE = 32;
export const SLOT_INDIRECT = 64;
/** Descriptors of a block request: header, data, status. */
export const SLOT_DESCRIPTORS = 3;

/** Private state of a slot. */
export const SLOT_STATE_SIZE = 32;
export const SLOT_STATE_TAG = 0;
/** u32, bytes that the device may write, the status byte included. */
export const SLOT_STATE_WRITABLE = 4;
/** u32: 1 while in flight. */
export const SLOT_STATE_BUSY = 8;
/** u32, VIRTIO_BLK_T_* of the request, and its bytes of data. */
export const SLOT_STATE_TYPE = 12;
export const SLOT_STATE_BYTES = 16;
/** u32, linear of the bounce buffer of its data; 0 where there is none. */
export const SLOT_STATE_BOUNCE = 20;
/** u32: descriptors of the ring that its chain takes. Packed rings only. */
export const SLOT_STATE_DESCRIPTORS = 24;

// ---------------------------------------------------------------------------------------------------------------------
// IOVA domain: a driver's bounce buffers, whole pages. One block a driver, written by the host but for DOMAIN_FREE_FROM.
/** u32, linear of the first bounce page. */
export const DOMAIN_BOUNCE = 0;
/** u32, pages: those that the device has been told of. Only ever grows. */
export const DOMAIN_PAGES = 4;
/** u32, page: none below it is free. */
export const DOMAIN_FREE_FROM = 8;
/** u32, linear of a bit a page, 1 while it is mapped; whole u64. */
export const DOMAIN_BITMAP = 12;
/** u32, linear of an entry a page, BOUNCE_MAP_SIZE each; that of a mapping's first page counts. */
export const DOMAIN_MAPS = 16;
export const DOMAIN_BLOCK_SIZE = 32;

/** Mapping: the kernel's struct vduse_bounce_map, with the size and direction that its caller remembers there. */
export const BOUNCE_MAP_SIZE = 16;
/** u32, linear of the driver's own memory. */
export const BOUNCE_MAP_ORIG = 0;
/** u32, bytes; 1 or more. */
export const BOUNCE_MAP_BYTES = 4;
/** u32, DMA_*. */
export const BOUNCE_MAP_DIRECTION = 8;

// Which way the bytes of a mapping go: the kernel's enum dma_data_direction.
export const DMA_BIDIRECTIONAL = 0;
export const DMA_TO_DEVICE = 1;
export const DMA_FROM_DEVICE = 2;

/** One entry of the table of a queue of buffers: what to transmit, room to receive into, or what was received. */
export const FRAME_SIZE = 8;
/** u32: the slot that holds it, which is also its head and the index of its only descriptor. */
export const FRAME_SLOT = 0;
/** u32, bytes without the header; 0 of a received buffer that holds no payload. */
export const FRAME_BYTES = 4;

/** One request of a submission table. */
export const SUBMISSION_SIZE = 32;
/** u32, VIRTIO_BLK_T_*. */
export const SUBMISSION_TYPE = 0;
/** u32, whatever the caller wants back with the completion. */
export const SUBMISSION_TAG = 4;
/** u64. */
export const SUBMISSION_SECTOR = 8;
/** u32, linear of the data in the driver's memory; unused by FLUSH, DISCARD, WRITE_ZEROES. */
export const SUBMISSION_LINEAR = 16;
/** u32, bytes of data; for DISCARD and WRITE_ZEROES the number of sectors. */
export const SUBMISSION_BYTES = 20;
/** u32, flags of a DISCARD or WRITE_ZEROES range. */
export const SUBMISSION_RANGE_FLAGS = 24;

/** One entry of a completion table. */
export const COMPLETION_SIZE = 16;
export const COMPLETION_TAG = 0;
/** u32, VIRTIO_BLK_S_*: IOERR too for a read that the device calls OK without having written all of it. */
export const COMPLETION_STATUS = 4;
/** u32, used length in bytes. */
export const COMPLETION_BYTES = 8;

/** Bit of a submit, push or serve result: the other side wants to be notified. The low 16 bits count requests. */
export const NOTIFY_DUE = 65536;
/** Bit of a blkServe or blkPoll result: the next request is one of DISK_FILE_OPS, for blkPrepare. */
export const FILE_DUE = 131072;
/** Bit of a requestTakeBurst result: the next chain is too long for a block of the table, and is for requestTake. */
export const LONG_DUE = 262144;
/** Mask of the count in such a result. */
export const COUNT_MASK = 65535;

// ---------------------------------------------------------------------------------------------------------------------
// Block disk: what the block device's data path needs to know. One block a device, written by the host.
/** u64, sectors. */
export const DISK_CAPACITY = 0;
/** u32, linear of a memory-backed disk's first byte; 0 for any other. */
export const DISK_LINEAR = 8;
/** u32, DISK_F_*. */
export const DISK_FLAGS = 12;
/** u32, sectors: the most that one DISCARD or WRITE_ZEROES covers. A request has one range, as max_*_seg = 1 says. */
export const DISK_MAX_RANGE_SECTORS = 16;
/** u32, linear of the i32 that counts pages lost to SIGBUS (Addon.guardSigbus), 0 for none: then nothing is published. */
export const DISK_LOST = 20;
/** u32, bit n for IO_OP_n: operations that are left to blkPrepare and the addon although the disk is at DISK_LINEAR. */
export const DISK_FILE_OPS = 24;
/** VIRTIO_BLK_ID_BYTES bytes, what GET_ID answers. */
export const DISK_ID = 32;
export const DISK_BLOCK_SIZE = 64;

export const DISK_F_RO = 1;
export const DISK_F_FLUSH = 2;
export const DISK_F_DISCARD = 4;
export const DISK_F_WRITE_ZEROES = 8;

/** Bytes; the most that one READ or WRITE moves. A longer one is answered IOERR. */
export const BLK_REQUEST_BYTES = 268435456;
/**
 * Bytes; the most that one burst of a disk moves, zeroes or discards, unless its first request alone is longer. A message
 * that stops the queues waits for the burst in progress, on a disk that may be slow.
 */
export const BLK_BURST_BYTES = 8388608;

// ---------------------------------------------------------------------------------------------------------------------
// Device model in a WebAssembly module of its own: what its library (assembly/library) needs to know. One block a queue,
// written by the host before anything runs.
/**
 * Version of everything that such a module has compiled into it: this block, the VQ_*, chain and segment offsets that the
 * library uses, and the engine's functions that it imports. Changes whenever a module of before would misread any.
 */
export const MODEL_ABI = 1;
/** u32, linear of the queue's VQ block. */
export const MODEL_VQ = 0;
/** u32: the queue's index. */
export const MODEL_INDEX = 4;
/** u32, linear of the state of the device, which all of its queues share. */
export const MODEL_STATE = 8;
/** u32, linear of the state of this queue, which only its thread touches. */
export const MODEL_QUEUE_STATE = 12;
/** u32, linear of the config space as the model has it, and its bytes. */
export const MODEL_CONFIG = 16;
export const MODEL_CONFIG_BYTES = 20;
/** u32, linear of the i32 that counts pages lost to SIGBUS: then nothing is published. */
export const MODEL_LOST = 24;
/** u32: where the private part of the aperture ends. Below lies what a model may have pointers to. */
export const MODEL_PRIVATE_BYTES = 28;
export const MODEL_BLOCK_SIZE = 64;

// ---------------------------------------------------------------------------------------------------------------------
// File I/O table: one entry a request, filled by WASM, carried out by the addon (native/file-io.cc), read back by WASM.
export const IO_SIZE = 40;
/** u32, IO_OP_*. */
export const IO_OP = 0;
/** u32: segments (SEGMENT_SIZE each) at IO_SEGMENTS. */
export const IO_COUNT = 4;
/** u64, bytes from the start of the file. */
export const IO_OFFSET = 8;
/** u32, linear of the segments; of an IO_OP_NONE those of the chain that are written to. */
export const IO_SEGMENTS = 16;
/** u32, the data path's own: IO_STATUS_OPEN, or the request status that was decided without any I/O. */
export const IO_STATUS = 20;
/** u64, bytes: of a PUNCH, ZERO or DISCARD; of a READ, WRITE or WRITE_THROUGH what its segments add up to. */
export const IO_BYTES = 24;
/** i64: bytes moved, or −errno; of an IO_OP_NONE the bytes that the data path has moved itself. */
export const IO_RESULT = 32;

/** The result decides the status. */
export const IO_STATUS_OPEN = 255;

export const IO_OP_NONE = 0;
export const IO_OP_READ = 1;
export const IO_OP_WRITE = 2;
/** fdatasync. */
export const IO_OP_SYNC = 3;
/** Zeroes that need no storage: fallocate PUNCH_HOLE | KEEP_SIZE, or as IO_OP_ZERO where the file system has none. */
export const IO_OP_PUNCH = 4;
/** fallocate ZERO_RANGE | KEEP_SIZE, or written zeroes where the file system has none. */
export const IO_OP_ZERO = 5;
/** IO_OP_WRITE, then fdatasync. */
export const IO_OP_WRITE_THROUGH = 6;
/** fallocate PUNCH_HOLE | KEEP_SIZE; nothing where the file system has none. */
export const IO_OP_DISCARD = 7;

// ---------------------------------------------------------------------------------------------------------------------
// Asynchronous request: a chain that a TypeScript device model holds. It keeps IOVAs, never linear addresses: its
// segments are translated again whenever bytes move, so an IOTLB update need not wait for it.
export const REQUEST_HEAD = 0;
/** u32: descriptors in the snapshot, of them readable. */
export const REQUEST_COUNT = 4;
export const REQUEST_READABLE_COUNT = 8;
/** u32, bytes. */
export const REQUEST_READABLE_BYTES = 12;
export const REQUEST_WRITABLE_BYTES = 16;
/** u32: value of the queue's reset count when the chain was popped; a stale request is dropped. */
export const REQUEST_EPOCH = 20;
/** u32: 1 + the chain's entry of the in-flight log, as deviceTake returns it. */
export const REQUEST_ENTRY = 24;
/** u32, linear of copies of the chain's bytes, in a block that has room for them: what is readable, what is to be written. */
export const REQUEST_READABLE = 28;
export const REQUEST_WRITABLE = 32;
/** Snapshot of the chain's descriptors, VIRTQ_DESC_SIZE each. */
export const REQUEST_DESCRIPTORS = 48;

/** Entry of the table of requestTakeBurst: u32, linear of a request block that is free. */
export const TAKE_SIZE = 4;
/** Entry of the table of requestGiveBurst. */
export const GIVE_SIZE = 12;
/** u32, linear of the request block. */
export const GIVE_REQUEST = 0;
/** u32, bytes: how much of REQUEST_WRITABLE goes out, from its start, and from its end besides. */
export const GIVE_WRITTEN = 4;
export const GIVE_STATUS = 8;

// ---------------------------------------------------------------------------------------------------------------------
// Life of a device: what its driver has done to it, for device models in whatever thread. One block a device, written by
// the thread that answers for the device before the gates open, so that whoever has taken a chain finds its driver here.
/** u32: +1 at each reset. */
export const LIFE_COUNT = 0;
/** u32, VIRTIO_CONFIG_S_*. */
export const LIFE_STATUS = 4;
/** u64: features negotiated, once the status has FEATURES_OK. */
export const LIFE_FEATURES = 8;
/** u32: 1 while the driver has suspended the device. */
export const LIFE_SUSPENDED = 16;
export const LIFE_BLOCK_SIZE = 32;

// ---------------------------------------------------------------------------------------------------------------------
// In-flight log: a file that outlives the process, one a device. A header, which only the host reads and writes
// (host/vduse/in-flight-log.ts), then a section a queue, which only the engine does (in-flight.ts of split/ and packed/).
/** 8 bytes of ASCII, written last. */
export const LOG_MAGIC = 0;
/** u32: changes whenever a log of before could be misread. */
export const LOG_VERSION = 8;
/** u32, virtio device id. */
export const LOG_DEVICE_ID = 12;
/** u32: queues, entries of each, bytes of the config space. */
export const LOG_QUEUES = 16;
export const LOG_QUEUE_SIZE = 20;
export const LOG_CONFIG_SIZE = 24;
/** u32: version of the VDUSE API that the device was made under. */
export const LOG_API_VERSION = 28;
/** u64: features that the device offers. */
export const LOG_FEATURES = 32;
/** u64: VDUSE_F_* that it was made with. */
export const LOG_PROTOCOL_FEATURES = 40;
/** LOG_INSTANCE_BYTES bytes: digest of what tells this device from others of its name. */
export const LOG_INSTANCE = 64;
/** Bytes. */
export const LOG_INSTANCE_BYTES = 32;
/** Bytes; the first section follows. */
export const LOG_HEADER_SIZE = 128;

/** Section: u32, LOG_STATE_*. */
export const LOG_STATE = 0;
/**
 * u32: how far the driver's position was ahead of the used one when the driver started the queue; modulo 2^16, or descriptors
 * of a packed ring.
 */
export const LOG_AHEAD = 4;
/**
 * u64: what is published, counted. Of a split ring used buffers, so that its low 16 bits are used.idx; of a packed ring the
 * descriptors that they take, so that modulo two laps it is the place of the next used one.
 */
export const LOG_USED = 8;
/** u64: LOG_USED once the publication that was begun has happened; LOG_USED where none was. This and what follows: packed rings only. */
export const LOG_PUBLISHING = 16;
/** u64: length, buffer id and flags of the descriptor that this publication overwrites. */
export const LOG_BEFORE = 24;
/** u64: LOG_USED for which the list of saved descriptors is; for any other it says nothing. */
export const LOG_SAVED_AT = 32;
/** u32: entries of that list. */
export const LOG_SAVED_COUNT = 40;
/** Entries: of a split ring LOG_ENTRY_SIZE a head, of a packed one PACKED_LOG_ENTRY_SIZE a descriptor in flight. */
export const LOG_ENTRIES = 128;
export const LOG_ENTRY_SIZE = 16;
/** u64: VQ_TAKEN when the chain was taken. */
export const LOG_ENTRY_TAKEN = 0;
/** u64: LOG_USED's count at which the chain is, or will be, a used buffer: in flight while that is not below what is published. */
export const LOG_ENTRY_USED = 8;
export const PACKED_LOG_ENTRY_SIZE = 48;
/** u32: the chain's head, as in the chain table. This and the numbers above are in the entry of its first descriptor. */
export const LOG_ENTRY_HEAD = 16;
/** u32: the entry of the chain's next descriptor. */
export const LOG_ENTRY_NEXT = 20;
/** The descriptor, as the ring had it. */
export const LOG_ENTRY_DESCRIPTOR = 32;
/** Saved descriptor {length, buffer id and flags u64, index u32}; VQ_SIZE of them, behind the entries. */
export const LOG_SAVED_SIZE = 16;
export const LOG_SAVED_INDEX = 8;
/** Bytes behind LOG_ENTRIES for each entry of a queue, whatever its format. */
export const LOG_BYTES_PER_ENTRY = 64;

// LOG_STATE
/** The driver has not started the queue since it started the device. */
export const LOG_STATE_IDLE = 0;
/** Positions and entries are those of the driver that runs now: of a split ring, of a packed one. */
export const LOG_STATE_SPLIT = 1;
export const LOG_STATE_PACKED = 2;
