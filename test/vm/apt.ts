import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CommandOptions, run } from './command.js';
import { ARCHIVE_KEYRING, MissingRequirement } from './requirements.js';
import type { Stanza } from './resolver.js';

/** Milliseconds for a question to the local lists, and for a transfer. */
const QUESTION_LIMIT_MS = 60_000;
const TRANSFER_LIMIT_MS = 600_000;
/** Suites with kernels, by the archive that has them. None is installed from: the system's own sources stay as they are. */
const SUITES = {
  Debian: ['trixie-backports', 'sid'],
  'Debian-Security': ['bookworm-security', 'trixie-security'],
};

/** Unpacks packages into the current folder. The packages of one release say lib, those of another usr/lib: one place. */
const UNPACK = `set -e
mkdir -p usr/lib
ln -sfn usr/lib lib
for package in downloads/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar x --keep-directory-symlink
done
rm -r downloads`;

/** Major version of this Debian, such as `12`; empty on a system without one. */
export const debianVersion = () =>
  /^VERSION_ID="?(\d+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? '';

/** Debian's archive as this system reaches it, with suites, lists and a cache of our own. apt verifies all that it fetches. */
export class Apt {
  readonly #folder: string;
  readonly #signal: AbortSignal;

  /** Keeps its lists in a folder. Ends what it does when `signal` aborts. */
  constructor(folder: string, signal: AbortSignal) {
    this.#folder = folder;
    this.#signal = signal;
  }

  /** Gets the lists of packages. Rejects without a network, and with MissingRequirement on a system that is not Debian. */
  async update(): Promise<void> {
    for (const path of ['lists/partial', 'cache/archives/partial'])
      mkdirSync(join(this.#folder, path), { recursive: true });
    const format = '$(LABEL) $(REPO_URI)';
    const targets = await this.#run('apt-get', ['indextargets', '--format', format, 'Identifier: Packages']);
    const mirrors = new Map(targets.split('\n').map((line) => line.split(' ') as [string, string]));
    const sources = Object.entries(SUITES).flatMap(([label, suites]) => {
      const mirror = mirrors.get(label);
      return mirror
        ? suites.map((suite) => `deb [signed-by=${ARCHIVE_KEYRING}] ${mirror} ${suite} main\n`)
        : [];
    });
    if (!sources.length)
      throw new MissingRequirement(
        "missing: Debian's archive among this system's package sources (and its lists: apt-get update)",
      );
    writeFileSync(join(this.#folder, 'kernels.list'), sources.join(''));
    await this.#run('apt-get', [...this.#ownLists(), '-q', 'update'], { limitMs: TRANSFER_LIMIT_MS });
  }

  /** What the lists say of all packages whose name a predicate accepts. */
  async stanzas(accepts: (name: string) => boolean): Promise<Stanza[]> {
    const names = (await this.#run('apt-cache', [...this.#ownLists(), 'pkgnames', 'linux-'])).split('\n');
    const wanted = names.filter(accepts);
    if (!wanted.length) return [];
    const text = await this.#run('apt-cache', [...this.#ownLists(), 'show', '--all-versions', ...wanted]);
    return text.split('\n\n').flatMap((stanza) => {
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1];
      const [name, version] = [field('Package'), field('Version')];
      return name && version ? [{ package: name, version, depends: field('Depends') ?? '' }] : [];
    });
  }

  /** Gets packages, in apt's notation, and unpacks them into one tree, without installing anything. */
  async unpack(packages: readonly string[], tree: string): Promise<void> {
    const downloads = join(tree, 'downloads');
    mkdirSync(downloads, { recursive: true });
    await this.#run('apt-get', [...this.#ownLists(), '-q', 'download', ...packages], {
      limitMs: TRANSFER_LIMIT_MS,
      directory: downloads,
    });
    await this.#run('sh', ['-c', UNPACK], { limitMs: TRANSFER_LIMIT_MS, directory: tree });
  }

  #ownLists(): string[] {
    return [
      `Dir::Etc::SourceList=${join(this.#folder, 'kernels.list')}`,
      'Dir::Etc::SourceParts=/dev/null',
      'Dir::State::Status=/dev/null',
      `Dir::State::Lists=${join(this.#folder, 'lists')}`,
      `Dir::Cache=${join(this.#folder, 'cache')}`,
      'APT::Architecture=amd64',
      // Root would hand the transfer to a user who cannot write to the cache.
      'APT::Sandbox::User=root',
    ].flatMap((option) => ['-o', option]);
  }

  async #run(command: string, words: string[], options: Partial<CommandOptions> = {}): Promise<string> {
    const output = await run(command, words, {
      limitMs: QUESTION_LIMIT_MS,
      signal: this.#signal,
      ...options,
    });
    return output.toString();
  }
}
