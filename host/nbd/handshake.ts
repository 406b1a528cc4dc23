import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { RingbellError } from '../errors.js';
import {
  DEFAULT_CONSTRAINTS,
  type NbdExport,
  readExport,
  readInfoBlockSize,
  readInfoExport,
} from './export.js';
import { encodeOption, errorReplyText, isErrorReply, readReplies } from './option-haggling.js';
import {
  NBD_CLISERV_MAGIC,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_EXPORT,
  NBD_INIT_PASSWD,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_STARTTLS,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_OPTS_MAGIC,
  NBD_REP_ACK,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNSUP,
  NBD_REP_INFO,
} from './protocol.js';
import { SocketReader } from './socket-reader.js';
import type { NbdAddress } from './uri.js';

/** Bytes of the greeting, of the answer to NBD_OPT_EXPORT_NAME, and of the zeroes that may follow it. */
const GREETING_SIZE = 18;
const EXPORT_SIZE = 10;
const ZEROES_SIZE = 124;

/** What two sides have agreed on. */
export interface Negotiated {
  /** What requests go over: the socket, or TLS on it. Paused. */
  socket: Socket;
  export: NbdExport;
  /** Whether replies come in chunks. */
  structured: boolean;
  /** What has come after the handshake already. */
  rest: Buffer;
}

/**
 * Negotiates over a connected socket: newstyle, fixed or not, with TLS where the URI asks for it. Rejects with
 * ERR_NBD_REFUSED, ERR_NBD_PROTOCOL, ERR_NBD_TLS, ERR_NOT_SUPPORTED, and with what ended the connection. Whoever has made
 * the socket destroys it then.
 */
export async function negotiate(connected: Socket, address: NbdAddress): Promise<Negotiated> {
  let socket = connected;
  let reader = new SocketReader(socket);
  const flags = await readGreeting(reader);
  const fixed = (flags & NBD_FLAG_FIXED_NEWSTYLE) !== 0;
  const noZeroes = (flags & NBD_FLAG_NO_ZEROES) !== 0;
  const clientFlags = Buffer.alloc(4);
  clientFlags.writeUInt32BE(flags & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
  socket.write(clientFlags);
  if (address.tls) {
    if (!fixed)
      throw new RingbellError('ERR_NBD_TLS', 'a server without fixed newstyle negotiation has no TLS');
    socket = await startTls(socket, reader, address.tls);
    reader = new SocketReader(socket);
  }
  const structured = fixed && (await askForStructuredReplies(socket, reader));
  const given = (fixed && (await go(socket, reader, address.exportName))) || undefined;
  const nbdExport = given ?? (await nameExport(socket, reader, address.exportName, noZeroes));
  return { socket, export: nbdExport, structured, rest: reader.detach() };
}

/** Handshake flags of a newstyle server. */
async function readGreeting(reader: SocketReader): Promise<number> {
  const greeting = await reader.read(GREETING_SIZE);
  if (greeting.readBigUInt64BE(0) !== NBD_INIT_PASSWD)
    throw new RingbellError('ERR_NBD_PROTOCOL', 'what answers there is no NBD server');
  const magic = greeting.readBigUInt64BE(8);
  if (magic === NBD_CLISERV_MAGIC)
    throw new RingbellError('ERR_NOT_SUPPORTED', 'the server speaks oldstyle negotiation only');
  if (magic !== NBD_OPTS_MAGIC)
    throw new RingbellError('ERR_NBD_PROTOCOL', 'the server greeted with an unknown magic');
  return greeting.readUInt16BE(16);
}

/** Goes over to TLS. Rejects with ERR_NBD_TLS, also for a certificate that is not the server's. */
async function startTls(
  socket: Socket,
  reader: SocketReader,
  options: NonNullable<NbdAddress['tls']>,
): Promise<Socket> {
  socket.write(encodeOption(NBD_OPT_STARTTLS));
  const reply = (await readReplies(reader, NBD_OPT_STARTTLS)).at(-1)!;
  if (reply.type !== NBD_REP_ACK)
    throw new RingbellError('ERR_NBD_TLS', `the server refused TLS: ${errorReplyText(reply)}`);
  // Bytes in the clear behind the answer would be taken for bytes that came through TLS.
  if (reader.detach().length > 0)
    throw new RingbellError('ERR_NBD_PROTOCOL', 'the server sent more before TLS had begun');
  const secure = connectTls({ ...options, socket });
  return new Promise((resolve, reject) => {
    const fail = (error?: Error) =>
      reject(
        new RingbellError(
          'ERR_NBD_TLS',
          `TLS failed: ${error?.message ?? 'the server closed the connection'}`,
          {
            cause: error,
          },
        ),
      );
    secure.once('error', fail).once('close', () => fail());
    secure.once('secureConnect', () => resolve(secure));
  });
}

/** Whether the server sends structured replies from now on. */
async function askForStructuredReplies(socket: Socket, reader: SocketReader): Promise<boolean> {
  socket.write(encodeOption(NBD_OPT_STRUCTURED_REPLY));
  const reply = (await readReplies(reader, NBD_OPT_STRUCTURED_REPLY)).at(-1)!;
  if (reply.type === NBD_REP_ERR_TLS_REQD) throw tlsRequired();
  if (reply.type !== NBD_REP_ACK && !isErrorReply(reply))
    throw new RingbellError('ERR_NBD_PROTOCOL', `the server answered a reply of type ${reply.type}`);
  return reply.type === NBD_REP_ACK;
}

/** Chooses the export by NBD_OPT_GO; undefined where the server does not know that option. */
async function go(socket: Socket, reader: SocketReader, name: string): Promise<NbdExport | undefined> {
  const bytes = Buffer.from(name);
  const data = Buffer.alloc(4 + bytes.length + 4);
  data.writeUInt32BE(bytes.length, 0);
  data.set(bytes, 4);
  data.writeUInt16BE(1, 4 + bytes.length);
  data.writeUInt16BE(NBD_INFO_BLOCK_SIZE, 6 + bytes.length);
  socket.write(encodeOption(NBD_OPT_GO, data));
  const replies = await readReplies(reader, NBD_OPT_GO, NBD_REP_INFO);
  const last = replies.pop()!;
  if (last.type === NBD_REP_ERR_UNSUP) return undefined;
  if (last.type === NBD_REP_ERR_TLS_REQD) throw tlsRequired();
  if (isErrorReply(last))
    throw new RingbellError(
      'ERR_NBD_REFUSED',
      `the server refused export '${name}': ${errorReplyText(last)}`,
    );
  if (last.type !== NBD_REP_ACK)
    throw new RingbellError('ERR_NBD_PROTOCOL', `the server answered a reply of type ${last.type}`);
  let about: { size: bigint; flags: number } | undefined;
  let constraints: Pick<NbdExport, 'minimumBlock' | 'maximumPayload'> = DEFAULT_CONSTRAINTS;
  for (const { data: info } of replies) {
    if (info.length < 2)
      throw new RingbellError('ERR_NBD_PROTOCOL', 'the server sent an information without its type');
    const type = info.readUInt16BE(0);
    if (type === NBD_INFO_EXPORT) about = readInfoExport(info);
    if (type === NBD_INFO_BLOCK_SIZE) constraints = readInfoBlockSize(info);
  }
  if (!about) throw new RingbellError('ERR_NBD_PROTOCOL', 'the server did not tell the size of the export');
  return readExport(about.size, about.flags, constraints);
}

/** Chooses the export by NBD_OPT_EXPORT_NAME. A server that refuses just closes the connection. */
async function nameExport(
  socket: Socket,
  reader: SocketReader,
  name: string,
  noZeroes: boolean,
): Promise<NbdExport> {
  socket.write(encodeOption(NBD_OPT_EXPORT_NAME, Buffer.from(name)));
  const about = await reader.read(EXPORT_SIZE);
  if (!noZeroes) await reader.read(ZEROES_SIZE);
  return readExport(about.readBigUInt64BE(0), about.readUInt16BE(8), DEFAULT_CONSTRAINTS);
}

function tlsRequired(): RingbellError {
  return new RingbellError('ERR_NBD_TLS', 'the server requires TLS: write nbds:// or nbds+unix://');
}
