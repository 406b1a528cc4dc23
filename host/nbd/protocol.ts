/** Numbers of the NBD protocol (doc/proto.md of NetworkBlockDevice/nbd), all big-endian on the wire. */

/** Port of nbd:// and nbds:// URIs that name none. */
export const NBD_DEFAULT_PORT = 10809;
/** Bytes of a string at most: an export's name, a message. */
export const NBD_MAX_STRING = 4096;

/** 'NBDMAGIC', then what tells the kinds of negotiation apart: 'IHAVEOPT' and the number of oldstyle servers. */
export const NBD_INIT_PASSWD = 0x4e42444d41474943n;
export const NBD_OPTS_MAGIC = 0x49484156454f5054n;
export const NBD_CLISERV_MAGIC = 0x00420281861253n;
export const NBD_REP_MAGIC = 0x0003e889045565a9n;

/** Handshake flags of the server; a client answers with the same bits. */
export const NBD_FLAG_FIXED_NEWSTYLE = 1 << 0;
export const NBD_FLAG_NO_ZEROES = 1 << 1;

export const NBD_OPT_EXPORT_NAME = 1;
export const NBD_OPT_ABORT = 2;
export const NBD_OPT_STARTTLS = 5;
export const NBD_OPT_GO = 7;
export const NBD_OPT_STRUCTURED_REPLY = 8;

export const NBD_REP_ACK = 1;
export const NBD_REP_INFO = 3;
/** Bit of every reply type that is an error. */
export const NBD_REP_FLAG_ERROR = 0x80000000;
export const NBD_REP_ERR_UNSUP = 0x80000001;
export const NBD_REP_ERR_TLS_REQD = 0x80000005;
/** What the error replies are called, by their number without the error bit. */
export const NBD_REP_ERR_NAMES: Readonly<Record<number, string>> = {
  1: 'NBD_REP_ERR_UNSUP',
  2: 'NBD_REP_ERR_POLICY',
  3: 'NBD_REP_ERR_INVALID',
  4: 'NBD_REP_ERR_PLATFORM',
  5: 'NBD_REP_ERR_TLS_REQD',
  6: 'NBD_REP_ERR_UNKNOWN',
  7: 'NBD_REP_ERR_SHUTDOWN',
  8: 'NBD_REP_ERR_BLOCK_SIZE_REQD',
  9: 'NBD_REP_ERR_TOO_BIG',
  10: 'NBD_REP_ERR_EXT_HEADER_REQD',
};

export const NBD_INFO_EXPORT = 0;
export const NBD_INFO_BLOCK_SIZE = 3;
/** Bytes of each with its type. */
export const NBD_INFO_EXPORT_SIZE = 12;
export const NBD_INFO_BLOCK_SIZE_SIZE = 14;

/** Transmission flags. */
export const NBD_FLAG_HAS_FLAGS = 1 << 0;
export const NBD_FLAG_READ_ONLY = 1 << 1;
export const NBD_FLAG_SEND_FLUSH = 1 << 2;
export const NBD_FLAG_SEND_FUA = 1 << 3;
export const NBD_FLAG_SEND_TRIM = 1 << 5;
export const NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6;
export const NBD_FLAG_CAN_MULTI_CONN = 1 << 8;

export const NBD_REQUEST_MAGIC = 0x25609513;
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;
/** Bytes of a request without its data, of a simple reply, and of a chunk's header. */
export const NBD_REQUEST_SIZE = 28;
export const NBD_SIMPLE_REPLY_SIZE = 16;
export const NBD_STRUCTURED_REPLY_SIZE = 20;

export const NBD_CMD_READ = 0;
export const NBD_CMD_WRITE = 1;
export const NBD_CMD_DISC = 2;
export const NBD_CMD_FLUSH = 3;
export const NBD_CMD_TRIM = 4;
export const NBD_CMD_WRITE_ZEROES = 6;
export const NBD_CMD_FLAG_FUA = 1 << 0;
export const NBD_CMD_FLAG_NO_HOLE = 1 << 1;

export const NBD_REPLY_FLAG_DONE = 1 << 0;
export const NBD_REPLY_TYPE_NONE = 0;
export const NBD_REPLY_TYPE_OFFSET_DATA = 1;
export const NBD_REPLY_TYPE_OFFSET_HOLE = 2;
/** Bit of every chunk type that is an error. */
export const NBD_REPLY_TYPE_FLAG_ERROR = 1 << 15;
export const NBD_REPLY_TYPE_ERROR_OFFSET = NBD_REPLY_TYPE_FLAG_ERROR + 2;

/** Error values with the names of the errnos that they are. */
export const NBD_ERRORS: Readonly<Record<number, string>> = {
  1: 'EPERM',
  5: 'EIO',
  12: 'ENOMEM',
  22: 'EINVAL',
  28: 'ENOSPC',
  75: 'EOVERFLOW',
  95: 'EOPNOTSUPP',
  108: 'ESHUTDOWN',
};
export const NBD_ESHUTDOWN = 108;

/** Bytes: block sizes and payload of a server that states none, by the section on size constraints. */
export const NBD_DEFAULT_MINIMUM_BLOCK = 1;
export const NBD_DEFAULT_MAXIMUM_PAYLOAD = 2 ** 25;
/** Bytes: the largest minimum block size that the protocol allows. */
export const NBD_MINIMUM_BLOCK_LIMIT = 65536;
