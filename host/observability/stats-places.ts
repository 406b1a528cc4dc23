import { lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { RingbellError } from '../errors.js';

/** The folder of stats sockets below a runtime directory. In-flight logs have one of their own. */
const FOLDER = 'ringbell-stats';
const SUFFIX = '.sock';
/** Milliseconds within which a socket that is not dead takes a connection. */
const CONNECT_LIMIT_MS = 3000;

/** Where this user's processes have their stats sockets: the first is where new ones go. */
export function statsFolders(): string[] {
  const uid = process.getuid?.() ?? 0;
  const { XDG_RUNTIME_DIR } = process.env;
  return [
    ...(XDG_RUNTIME_DIR ? [join(XDG_RUNTIME_DIR, FOLDER)] : []),
    ...(uid === 0 ? [join('/run', FOLDER)] : []),
    join(tmpdir(), `${FOLDER}-${uid}`),
  ];
}

/**
 * The path of this thread's own socket, in a folder that nobody else can look into. Throws ERR_NOT_SUPPORTED for a folder of
 * that name that belongs to somebody else, a SystemError for one that cannot be made.
 */
export function ownStatsPath(): string {
  const [folder] = statsFolders() as [string];
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(folder);
  // Somebody may have been there first, in a place where all may write.
  if (uid !== process.getuid?.() || (mode & 0o077) !== 0)
    throw new RingbellError(
      'ERR_NOT_SUPPORTED',
      `${folder} must be this user's, and no other's to look into`,
    );
  return join(folder, `${process.pid}${threadId === 0 ? '' : `.${threadId}`}${SUFFIX}`);
}

/** Paths of all sockets in the folders of this user. */
export function statsPaths(): string[] {
  return statsFolders().flatMap((folder) => {
    let names: string[];
    try {
      names = readdirSync(folder);
    } catch {
      return [];
    }
    return names.filter((name) => name.endsWith(SUFFIX)).map((name) => join(folder, name));
  });
}

/** What is at a path: nothing, a socket that nobody listens to any more, or something that is not to be replaced. */
export async function occupantOf(path: string): Promise<'nothing' | 'dead' | 'alive'> {
  try {
    if (!lstatSync(path).isSocket()) return 'alive';
  } catch {
    return 'nothing';
  }
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (occupant: 'dead' | 'alive') => {
      socket.destroy();
      resolve(occupant);
    };
    socket.once('connect', () => end('alive'));
    socket.once('error', ({ code }: NodeJS.ErrnoException) =>
      end(code === 'ECONNREFUSED' ? 'dead' : 'alive'),
    );
    socket.setTimeout(CONNECT_LIMIT_MS, () => end('alive'));
  });
}
