/** A terminal that is drawn on again and again. */
interface Terminal {
  readonly columns: number;
  readonly rows: number;
  write(text: string): boolean;
  on(event: 'resize', listener: () => void): unknown;
  off(event: 'resize', listener: () => void): unknown;
}

// Control sequences: the alternate screen, so that what was there comes back, and a hidden cursor.
const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const CLEAR_LINE_END = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

/** Of a terminal that does not say. */
const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;

/** The whole of a terminal, until `close`: drawn again when its size changes. */
export class LiveScreen {
  readonly #terminal: Terminal;
  #lines: readonly string[] = [];
  readonly #redraw = () => this.#draw();
  readonly #leave = () => void this.#terminal.write(LEAVE);

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    terminal.write(ENTER);
    terminal.on('resize', this.#redraw);
    // However the process ends, its terminal is as it was.
    process.once('exit', this.#leave);
  }

  /** Shows lines, as far as there is room. */
  show(lines: readonly string[]): void {
    this.#lines = lines;
    this.#draw();
  }

  /** Gives the terminal back. */
  close(): void {
    process.off('exit', this.#leave);
    this.#terminal.off('resize', this.#redraw);
    this.#leave();
  }

  #draw(): void {
    // A terminal that nobody has told its size says 0.
    const columns = this.#terminal.columns || DEFAULT_COLUMNS;
    const rows = this.#terminal.rows || DEFAULT_ROWS;
    const lines = this.#lines.slice(0, rows).map((line) => `${cut(line, columns)}${CLEAR_LINE_END}`);
    this.#terminal.write(`${HOME}${lines.join('\r\n')}${CLEAR_BELOW}`);
  }
}

/** The first `columns` characters of a line; what styles it takes no room, and is closed. */
function cut(line: string, columns: number): string {
  let room = columns;
  let kept = '';
  let styled = false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what styles are made of
  for (const [piece] of line.matchAll(/\x1b\[[\d;]*m|\P{C}/gu)) {
    if (piece.startsWith('\x1b')) {
      kept += piece;
      styled = true;
    } else if (room > 0) {
      kept += piece;
      room--;
    }
  }
  return styled ? `${kept}\x1b[0m` : kept;
}
