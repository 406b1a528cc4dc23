import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as nbd from '../../host/nbd/protocol.js';
import { SocketReader } from '../../host/nbd/socket-reader.js';

/** A request as a server sees it. */
export interface SeenRequest {
  flags: number;
  type: number;
  cookie: bigint;
  offset: number;
  length: number;
  data: Buffer;
}

/** What a server does in place of what a sound one would: each member that is left out is the sound behaviour. */
export interface Script {
  /** Bytes of the export. */
  size?: bigint;
  /** Transmission flags. */
  flags?: number;
  /** NBD_INFO_BLOCK_SIZE to tell of. */
  blockSizes?: [minimum: number, preferred: number, maximum: number];
  /** Know structured replies; true if left out. */
  structured?: boolean;
  /** Called for each connection, before the greeting: true if that is all that there is to it. */
  connect?(socket: Socket, index: number): boolean | undefined;
  /** Called for each option: true if it has been answered. */
  option?(option: number, data: Buffer, socket: Socket): boolean | undefined;
  /** Called for each request: true if it has been answered, or never will be. */
  request?(request: SeenRequest, socket: Socket): boolean | undefined;
}

export const GREETING = buffer(16, (b) => {
  b.writeBigUInt64BE(nbd.NBD_INIT_PASSWD, 0);
  b.writeBigUInt64BE(nbd.NBD_OPTS_MAGIC, 8);
});

/** Every feature that this client uses. */
export const ALL_FLAGS =
  nbd.NBD_FLAG_HAS_FLAGS |
  nbd.NBD_FLAG_SEND_FLUSH |
  nbd.NBD_FLAG_SEND_FUA |
  nbd.NBD_FLAG_SEND_TRIM |
  nbd.NBD_FLAG_SEND_WRITE_ZEROES |
  nbd.NBD_FLAG_CAN_MULTI_CONN;

/** `length` bytes, zero but for what `fill` makes of them. */
export function buffer(length: number, fill: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(length);
  fill(bytes);
  return bytes;
}

/** A reply to an option. */
export function optionReply(option: number, type: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const header = buffer(20, (b) => {
    b.writeBigUInt64BE(nbd.NBD_REP_MAGIC, 0);
    b.writeUInt32BE(option, 8);
    b.writeUInt32BE(type, 12);
    b.writeUInt32BE(data.length, 16);
  });
  return Buffer.concat([header, data]);
}

/** A simple reply. */
export function simpleReply(cookie: bigint, error = 0, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const header = buffer(16, (b) => {
    b.writeUInt32BE(nbd.NBD_SIMPLE_REPLY_MAGIC, 0);
    b.writeUInt32BE(error, 4);
    b.writeBigUInt64BE(cookie, 8);
  });
  return Buffer.concat([header, data]);
}

/** A chunk of a structured reply. `length` is what its header says, which may be a lie. */
export function chunk(
  cookie: bigint,
  type: number,
  payload: Uint8Array = Buffer.alloc(0),
  { done = true, length = payload.length } = {},
): Buffer {
  const header = buffer(20, (b) => {
    b.writeUInt32BE(nbd.NBD_STRUCTURED_REPLY_MAGIC, 0);
    b.writeUInt16BE(done ? nbd.NBD_REPLY_FLAG_DONE : 0, 4);
    b.writeUInt16BE(type, 6);
    b.writeBigUInt64BE(cookie, 8);
    b.writeUInt32BE(length, 16);
  });
  return Buffer.concat([header, payload]);
}

/** Payload of a chunk of data. */
export const dataAt = (offset: number | bigint, data: Uint8Array) =>
  Buffer.concat([buffer(8, (b) => b.writeBigUInt64BE(BigInt(offset), 0)), data]);

/** Payload of a chunk that is a hole. */
export const holeAt = (offset: number | bigint, bytes: number) =>
  buffer(12, (b) => {
    b.writeBigUInt64BE(BigInt(offset), 0);
    b.writeUInt32BE(bytes, 8);
  });

/** Payload of a chunk that is an error; `said` is what it says of the length of its words. */
export const errorChunk = (error: number, words = '', said = words.length, offset?: bigint) =>
  Buffer.concat([
    buffer(6, (b) => {
      b.writeUInt32BE(error, 0);
      b.writeUInt16BE(said, 4);
    }),
    Buffer.from(words),
    offset === undefined ? Buffer.alloc(0) : buffer(8, (b) => b.writeBigUInt64BE(offset, 0)),
  ]);

/** An NBD server that does as its script says, and else as it should. */
export class ScriptedServer {
  /** What it exports. */
  readonly bytes: Buffer;
  /** All requests that have come, whatever became of them. */
  readonly seen: SeenRequest[] = [];
  readonly sockets = new Set<Socket>();
  /** Connections that there have been. */
  accepted = 0;
  script: Script;
  readonly #folder = mkdtempSync(join(tmpdir(), 'ringbell-nbd-'));
  #server!: Server;

  static async start(script: Script = {}): Promise<ScriptedServer> {
    const server = new ScriptedServer(script);
    await server.listen();
    return server;
  }

  private constructor(script: Script) {
    this.script = script;
    this.bytes = Buffer.alloc(Number((script.size ?? 2n ** 20n) % 2n ** 26n));
  }

  get path(): string {
    return join(this.#folder, 'socket');
  }

  get uri(): string {
    return `nbd+unix:///?socket=${this.path}`;
  }

  /** Takes connections, from the start and after `refuse`. */
  async listen(): Promise<void> {
    rmSync(this.path, { force: true });
    this.#server = createServer((socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket)).on('error', () => {});
      void this.#serve(socket, this.accepted++).catch(() => socket.destroy());
    }).listen(this.path);
    await once(this.#server, 'listening');
  }

  /** Ends all connections, and takes no more. */
  async refuse(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.drop();
    await closed;
  }

  /** Ends all connections. */
  drop(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async close(): Promise<void> {
    await this.refuse();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Answers a request as a sound server does. */
  answer({ type, cookie, offset, length, data }: SeenRequest, socket: Socket): void {
    const { structured = true } = this.script;
    if (type === nbd.NBD_CMD_READ) {
      const bytes = this.bytes.subarray(offset, offset + length);
      socket.write(
        structured
          ? chunk(cookie, nbd.NBD_REPLY_TYPE_OFFSET_DATA, dataAt(offset, bytes))
          : simpleReply(cookie, 0, bytes),
      );
      return;
    }
    if (type === nbd.NBD_CMD_WRITE) data.copy(this.bytes, offset);
    if (type === nbd.NBD_CMD_WRITE_ZEROES) this.bytes.fill(0, offset, offset + length);
    socket.write(structured ? chunk(cookie, nbd.NBD_REPLY_TYPE_NONE) : simpleReply(cookie));
  }

  async #serve(socket: Socket, index: number): Promise<void> {
    if (this.script.connect?.(socket, index)) return;
    const reader = new SocketReader(socket);
    socket.write(
      Buffer.concat([GREETING, Buffer.from([0, nbd.NBD_FLAG_FIXED_NEWSTYLE | nbd.NBD_FLAG_NO_ZEROES])]),
    );
    await reader.read(4);
    while (!(await this.#option(reader, socket)));
    for (;;) {
      const header = await reader.read(nbd.NBD_REQUEST_SIZE);
      const type = header.readUInt16BE(6);
      const length = header.readUInt32BE(24);
      const request = {
        flags: header.readUInt16BE(4),
        type,
        cookie: header.readBigUInt64BE(8),
        offset: Number(header.readBigUInt64BE(16)),
        length,
        data: type === nbd.NBD_CMD_WRITE ? Buffer.from(await reader.read(length)) : Buffer.alloc(0),
      };
      this.seen.push(request);
      if (type === nbd.NBD_CMD_DISC) {
        socket.end();
        return;
      }
      if (!this.script.request?.(request, socket)) this.answer(request, socket);
    }
  }

  /** Answers an option: whether it was the last. */
  async #option(reader: SocketReader, socket: Socket): Promise<boolean> {
    const header = await reader.read(16);
    const option = header.readUInt32BE(8);
    const data = Buffer.from(await reader.read(header.readUInt32BE(12)));
    if (this.script.option?.(option, data, socket))
      return option === nbd.NBD_OPT_GO || option === nbd.NBD_OPT_EXPORT_NAME;
    const { size = 2n ** 20n, flags = ALL_FLAGS, blockSizes, structured = true } = this.script;
    if (option === nbd.NBD_OPT_STRUCTURED_REPLY) {
      socket.write(optionReply(option, structured ? nbd.NBD_REP_ACK : nbd.NBD_REP_ERR_UNSUP));
      return false;
    }
    if (option !== nbd.NBD_OPT_GO) {
      socket.write(optionReply(option, nbd.NBD_REP_ERR_UNSUP));
      return false;
    }
    socket.write(optionReply(option, nbd.NBD_REP_INFO, exportInfo(size, flags)));
    if (blockSizes) socket.write(optionReply(option, nbd.NBD_REP_INFO, blockSizeInfo(...blockSizes)));
    socket.write(optionReply(option, nbd.NBD_REP_ACK));
    return true;
  }
}

/** An NBD_INFO_EXPORT. */
export const exportInfo = (size: bigint, flags: number) =>
  buffer(nbd.NBD_INFO_EXPORT_SIZE, (b) => {
    b.writeUInt16BE(nbd.NBD_INFO_EXPORT, 0);
    b.writeBigUInt64BE(size, 2);
    b.writeUInt16BE(flags, 10);
  });

/** An NBD_INFO_BLOCK_SIZE. */
export const blockSizeInfo = (minimum: number, preferred: number, maximum: number) =>
  buffer(nbd.NBD_INFO_BLOCK_SIZE_SIZE, (b) => {
    b.writeUInt16BE(nbd.NBD_INFO_BLOCK_SIZE, 0);
    b.writeUInt32BE(minimum, 2);
    b.writeUInt32BE(preferred, 6);
    b.writeUInt32BE(maximum, 10);
  });
