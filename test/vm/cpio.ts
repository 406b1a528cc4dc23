/** Bytes that names and contents are padded to. */
const ALIGNMENT = 4;
/** Bytes; archives may follow one another in an initramfs if each fills its blocks. */
const BLOCK = 512;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFCHR = 0o020000;

interface Entry {
  path: string;
  mode: number;
  content: Uint8Array;
  device: readonly [major: number, minor: number];
}

/**
 * An archive in the "newc" format of the kernel's initramfs (Documentation/driver-api/early-userspace/buffer-format.rst),
 * written here because a device node needs root in a file system, but not in an archive. The same entries make the same
 * bytes.
 */
export class CpioArchive {
  readonly #entries: Entry[] = [];
  readonly #directories = new Set<string>();

  /** Adds a directory, with those above it. */
  directory(path: string): this {
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
    if (parent) this.directory(parent);
    if (!this.#directories.has(path)) this.#add(path, S_IFDIR | 0o755);
    this.#directories.add(path);
    return this;
  }

  /** Adds a file, with the directories above it. */
  file(path: string, content: Uint8Array, permissions = 0o644): this {
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
    if (parent) this.directory(parent);
    return this.#add(path, S_IFREG | permissions, content);
  }

  /** Adds a character device. */
  device(path: string, major: number, minor: number): this {
    return this.#add(path, S_IFCHR | 0o600, new Uint8Array(), [major, minor]);
  }

  /** The whole archive. */
  toBuffer(): Buffer {
    const trailer: Entry = { path: 'TRAILER!!!', mode: 0, content: new Uint8Array(), device: [0, 0] };
    const parts = [...this.#entries, trailer].flatMap((entry, index) => encode(entry, index + 1));
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    return Buffer.concat([...parts, Buffer.alloc(-length & (BLOCK - 1))]);
  }

  #add(
    path: string,
    mode: number,
    content: Uint8Array = new Uint8Array(),
    device: readonly [number, number] = [0, 0],
  ) {
    this.#entries.push({ path, mode, content, device });
    return this;
  }
}

function encode({ path, mode, content, device }: Entry, inode: number): Uint8Array[] {
  const links = mode & S_IFDIR ? 2 : 1;
  const nameSize = Buffer.byteLength(path) + 1;
  // inode, mode, uid, gid, links, mtime, size, device of the archive (2), device of the node (2), size of the name, checksum
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, ...device, nameSize, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${path}\0`;
  return [pad(Buffer.from(header)), pad(content)];
}

function pad(bytes: Uint8Array): Uint8Array {
  const rest = -bytes.length & (ALIGNMENT - 1);
  return rest ? Buffer.concat([bytes, Buffer.alloc(rest)]) : bytes;
}
