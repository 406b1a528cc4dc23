/**
 * What the target `exports` shares with its WebAssembly module: a block in private memory that says where everything lies
 * (u32 each, linear addresses), and what the module remembers from one operation to the next.
 */

/** Bits of WORLD_MODE: the format of the rings, who drives them, what for. */
export const MODE_PACKED = 1;
/** The engine's driver offers, besides whoever writes to its rings; else they are all written by hand. */
export const MODE_DRIVEN = 2;
/** The driver's frames, instead of the requests of a disk. */
export const MODE_NET = 4;
/** The device holds requests, instead of serving bursts. */
export const MODE_REQUESTS = 8;
/** Of a network device's two queues, the one that receives. */
export const MODE_RECEIVE = 16;

export const WORLD_MODE = 0;
export const WORLD_VQ = 4;
export const WORLD_DQ = 8;
export const WORLD_IOTLB = 12;
/** A disk in memory, and one that is not. */
export const WORLD_DISK = 16;
export const WORLD_FILE_DISK = 20;
export const WORLD_IO = 24;
/** HELD request blocks, WORLD_REQUEST_BYTES apart. */
export const WORLD_REQUESTS = 28;
export const WORLD_REQUEST_BYTES = 32;
export const WORLD_SUBMISSIONS = 36;
/** Of completions, and of frames. */
export const WORLD_TABLE = 40;
/** Room for the ranges of dirtyFetch. */
export const WORLD_RANGES = 44;
/** Linear addresses of VQ blocks, for doorbellWatch. */
export const WORLD_QUEUES = 48;
export const WORLD_DOORBELL = 52;
export const WORLD_DOMAIN = 56;
/** Private memory of SCRATCH_BYTES. */
export const WORLD_SCRATCH = 60;
/** Buffers of BUFFER_BYTES in the driver's memory, and their IOVA (u64). */
export const WORLD_BUFFERS = 64;
export const WORLD_BUFFERS_IOVA = 72;
export const WORLD_TABLES_IOVA = 80;
export const WORLD_TABLES = 88;
/** Entry of the IOTLB that the rings lie in, while no region is gone. */
export const WORLD_HOME = 96;
/** Bytes of the dirty log that IOTLB_LOG_BASE names. */
export const WORLD_DIRTY_LOG = 100;
export const WORLD_DIRTY_BITMAP = 104;

// What the module remembers.
/** The operation that is played. */
export const WORLD_AT = 128;
/** The export that is called: its place in the list of calls. */
export const WORLD_CALL = 132;
/** A bit for each request block that is held. */
export const WORLD_HELD = 136;
/** A bit for each of them that was taken in a burst, with its chain's bytes. */
export const WORLD_COPIED = 156;
/** A region that is not mapped for a while: IOVA and bytes (u64), linear address. There is none while it has no bytes. */
export const WORLD_GONE_IOVA = 160;
export const WORLD_GONE_BYTES = 168;
export const WORLD_GONE_LINEAR = 176;
/** Requests that are given back and not published. */
export const WORLD_UNPUBLISHED = 140;
/** A bounce buffer, 0 if there is none. */
export const WORLD_BOUNCE = 144;
/** Bytes of its mapping. */
export const WORLD_BOUNCE_BYTES = 152;
/** Where the next chain of a packed ring is written by hand: a place. */
export const WORLD_NEXT = 148;
/** A u64 a call: how often it was made, then as many: how often it gave something. */
export const WORLD_CALLS = 256;
/** Calls that there is room for. */
export const CALLS_MAX = 64;
export const WORLD_SIZE = WORLD_CALLS + 2 * CALLS_MAX * 8;

export const HELD = 4;
export const SCRATCH_BYTES = 4096;
export const BUFFER_BYTES = 16384;
/** Bytes of a request block behind its descriptors, for copies of what they name. */
export const COPIED_BYTES = 2048;
/** Bytes of a bounce mapping at most. */
export const BOUNCE_BYTES = 8192;

// The calls, by the name of the export.
export const CALL_copy = 0;
export const CALL_deviceArm = 1;
export const CALL_deviceBreak = 2;
export const CALL_deviceDisarm = 3;
export const CALL_devicePending = 4;
export const CALL_devicePop = 5;
export const CALL_devicePush = 6;
export const CALL_deviceResume = 7;
export const CALL_deviceStart = 8;
export const CALL_deviceWait = 9;
export const CALL_dirtyFetch = 10;
export const CALL_doorbellWatch = 11;
export const CALL_driverArm = 12;
export const CALL_driverDisarm = 13;
export const CALL_driverStart = 14;
export const CALL_blkReap = 15;
export const CALL_blkSubmit = 16;
export const CALL_bufferReap = 17;
export const CALL_bufferReceive = 18;
export const CALL_bufferTransmit = 19;
export const CALL_gateEnter = 20;
export const CALL_gateLeave = 21;
export const CALL_iotlbInit = 22;
export const CALL_iotlbMap = 23;
export const CALL_iotlbTranslate = 24;
export const CALL_iotlbUnmap = 25;
export const CALL_mapPage = 26;
export const CALL_syncSingleForCpu = 27;
export const CALL_syncSingleForDevice = 28;
export const CALL_unmapPage = 29;
export const CALL_blkComplete = 30;
export const CALL_blkPoll = 31;
export const CALL_blkPrepare = 32;
export const CALL_blkServe = 33;
export const CALL_requestFinish = 34;
export const CALL_requestPublish = 35;
export const CALL_requestRead = 36;
export const CALL_requestTake = 37;
export const CALL_requestWrite = 38;
export const CALL_deviceIdle = 39;
export const CALL_logIsRunning = 40;
export const CALL_requestTakeBurst = 41;
export const CALL_requestGiveBurst = 42;
export const CALL_deviceReturn = 43;
export const CALL_dirtyMark = 44;
export const CALL_driverReset = 45;
