import { type ProcessSnapshot, printable } from '../observability/process-snapshot.js';
import { StatsClient } from '../observability/stats-client.js';
import { type ProcessActivity, processActivity } from './activity.js';

/** A socket that tells nothing, though somebody is behind it. */
export interface SilentSocket {
  path: string;
  /** One sentence. */
  why: string;
}

/** What all processes did between two looks. */
export interface Activity {
  processes: ProcessActivity[];
  silent: SilentSocket[];
}

/** Looks at processes by their stats sockets, which come and go. */
export class StatsWatch {
  readonly #paths: () => readonly string[];
  readonly #clients = new Map<string, StatsClient>();
  /** The last look, by path. */
  #last = new Map<string, ProcessSnapshot>();

  /** `paths` says where sockets may be now. */
  constructor(paths: () => readonly string[]) {
    this.#paths = paths;
  }

  /** Looks once: what was done since the last time. A process that is new has done nothing yet. */
  async look(): Promise<Activity> {
    const paths = [...new Set([...this.#paths(), ...this.#clients.keys()])];
    const looks = await Promise.all(paths.map((path) => this.#lookAt(path)));
    const last = this.#last;
    this.#last = new Map();
    const activity: Activity = { processes: [], silent: [] };
    for (const [index, path] of paths.entries()) {
      const look = looks[index]!;
      if (typeof look === 'string') activity.silent.push({ path, why: look });
      else if (look) {
        this.#last.set(path, look);
        const before = last.get(path);
        activity.processes.push(processActivity(before?.pid === look.pid ? before : look, look));
      }
    }
    activity.processes.sort((one, other) => one.pid - other.pid);
    return activity;
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
  }

  /** A snapshot, or why there is none; undefined for a socket whose process has ended. */
  async #lookAt(path: string): Promise<ProcessSnapshot | string | undefined> {
    try {
      let client = this.#clients.get(path);
      if (!client) {
        client = await StatsClient.connect(path);
        this.#clients.set(path, client);
      }
      return await client.snapshot();
    } catch (error) {
      this.#clients.get(path)?.close();
      this.#clients.delete(path);
      const { code, message } = error as NodeJS.ErrnoException;
      return code === 'ECONNREFUSED' || code === 'ENOENT' ? undefined : printable(message);
    }
  }
}
