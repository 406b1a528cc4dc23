/** A strict reader of pcapng, written from the draft and not from our writer: throws where the file is not as it has to be. */

export interface ReadInterface {
  linkType: number;
  snapLength: number;
  options: Map<number, Buffer>;
  statistics: Map<number, Buffer> | undefined;
}

export interface ReadFrame {
  interfaceId: number;
  /** Nanoseconds since 1970. */
  time: bigint;
  bytes: Buffer;
  options: Map<number, Buffer>;
}

export interface ReadCapture {
  section: Map<number, Buffer>;
  interfaces: ReadInterface[];
  frames: ReadFrame[];
}

const OPTION_END = 0;

export function readPcapng(file: Buffer): ReadCapture {
  const capture: ReadCapture = { section: new Map(), interfaces: [], frames: [] };
  let at = 0;
  for (; at < file.length; ) {
    const type = file.readUInt32LE(at);
    const length = file.readUInt32LE(at + 4);
    if (length % 4 || length < 12 || at + length > file.length)
      throw new Error(`block of ${length} at ${at}`);
    if (file.readUInt32LE(at + length - 4) !== length)
      throw new Error(`lengths of the block at ${at} differ`);
    const body = file.subarray(at + 8, at + length - 4);
    if (at === 0 && type !== 0x0a0d0d0a) throw new Error('no section header');
    read(type, body, capture);
    at += length;
  }
  if (at !== file.length) throw new Error('a rest');
  return capture;
}

function read(type: number, body: Buffer, capture: ReadCapture): void {
  switch (type) {
    case 0x0a0d0d0a:
      if (body.readUInt32LE(0) !== 0x1a2b3c4d) throw new Error('byte order');
      if (body.readUInt16LE(4) !== 1 || body.readUInt16LE(6) !== 0) throw new Error('version');
      if (body.readBigInt64LE(8) !== -1n) throw new Error('section length');
      capture.section = optionsOf(body.subarray(16));
      return;
    case 1:
      capture.interfaces.push({
        linkType: body.readUInt16LE(0),
        snapLength: body.readUInt32LE(4),
        options: optionsOf(body.subarray(8)),
        statistics: undefined,
      });
      return;
    case 5:
      capture.interfaces[body.readUInt32LE(0)]!.statistics = optionsOf(body.subarray(12));
      return;
    case 6: {
      const interfaceId = body.readUInt32LE(0);
      if (!capture.interfaces[interfaceId]) throw new Error(`no interface ${interfaceId}`);
      const captured = body.readUInt32LE(12);
      if (body.readUInt32LE(16) !== captured) throw new Error('a frame was cut');
      const end = 20 + Math.ceil(captured / 4) * 4;
      if (body.subarray(20 + captured, end).some((byte) => byte !== 0)) throw new Error('padding');
      capture.frames.push({
        interfaceId,
        time: (BigInt(body.readUInt32LE(4)) << 32n) | BigInt(body.readUInt32LE(8)),
        bytes: body.subarray(20, 20 + captured),
        options: optionsOf(body.subarray(end)),
      });
      return;
    }
    default:
      throw new Error(`block type ${type}`);
  }
}

function optionsOf(bytes: Buffer): Map<number, Buffer> {
  const options = new Map<number, Buffer>();
  for (let at = 0; ; ) {
    const code = bytes.readUInt16LE(at);
    const length = bytes.readUInt16LE(at + 2);
    at += 4;
    if (code === OPTION_END) {
      if (length !== 0 || at !== bytes.length) throw new Error('the options do not end at their end');
      return options;
    }
    options.set(code, bytes.subarray(at, at + length));
    at += Math.ceil(length / 4) * 4;
  }
}
