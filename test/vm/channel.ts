/** Begins a line that is meant for the harness. */
const MARK = '\x01';

/** What a guest says on its second serial port. */
export type Message =
  | { kind: 'text'; text: string }
  | { kind: 'ready' }
  | { kind: 'begin'; file: string }
  | { kind: 'end'; file: string; status: number }
  | { kind: 'exit'; status: number };

/** Splits the bytes of a guest's channel into messages. A marked line may follow output that does not end with a newline. */
export class Channel {
  readonly #tell: (message: Message) => void;
  readonly #decoder = new TextDecoder();
  #rest = '';

  /** Tells each message in order. */
  constructor(tell: (message: Message) => void) {
    this.#tell = tell;
  }

  /** Takes what came in. */
  write(bytes: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split('\n');
    this.#rest = lines.pop()!;
    for (const line of lines) this.#line(line);
  }

  /** Takes what is left when the guest has ended. */
  end(): void {
    if (this.#rest) this.#line(this.#rest);
    this.#rest = '';
  }

  #line(line: string): void {
    const at = line.indexOf(MARK);
    const text = (at < 0 ? line : line.slice(0, at)).replace(/\r+$/, '');
    if (text || at < 0) this.#tell({ kind: 'text', text });
    if (at >= 0) this.#marked(line.slice(at + 1).trimEnd());
  }

  #marked(line: string): void {
    const [kind, first, second] = line.split(' ');
    if (kind === 'ready') this.#tell({ kind });
    else if (kind === 'begin') this.#tell({ kind, file: first! });
    else if (kind === 'end') this.#tell({ kind, file: first!, status: Number(second) });
    else if (kind === 'exit') this.#tell({ kind, status: Number(first) });
    else this.#tell({ kind: 'text', text: line });
  }
}
