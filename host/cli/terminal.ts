import { styleText } from 'node:util';

export type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red';

/** A stream that may be a terminal. */
interface Output {
  readonly isTTY?: boolean;
  write(text: string): boolean;
}

/** `text` styled where that stream, which need not be stdout, is a terminal and NO_COLOR (https://no-color.org) is not set. */
export function styled(stream: Output, style: Style, text: string): string {
  return stream.isTTY && !process.env.NO_COLOR ? styleText(style, text, { validateStream: false }) : text;
}

/** A column of a table. */
export interface Column {
  title: string;
  align: 'left' | 'right';
}

/** Lines of a table: titles, then rows, columns as wide as their widest cell. */
export function tableLines(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const widths = columns.map((column, i) =>
    Math.max(column.title.length, ...rows.map((row) => (row[i] ?? '').length)),
  );
  const line = (cells: readonly string[]) =>
    columns
      .map((column, i) =>
        column.align === 'left' ? (cells[i] ?? '').padEnd(widths[i]!) : (cells[i] ?? '').padStart(widths[i]!),
      )
      .join('  ')
      .trimEnd();
  return [line(columns.map((column) => column.title)), ...rows.map(line)];
}

/** Milliseconds between two updates of the line. */
const PROGRESS_INTERVAL_MS = 100;

/** One line on a terminal that says what is going on; silent where stderr is no terminal. */
export class Progress {
  readonly #stream: Output;
  #last = 0;
  #step = '';

  constructor(stream: Output = process.stderr) {
    this.#stream = stream;
  }

  /** Names the step that begins. */
  step(text: string): void {
    this.#step = text;
    this.#last = performance.now();
    this.#write(text);
  }

  /** Says how much of the step is done, from 0 to 1. */
  done(fraction: number): void {
    const now = performance.now();
    if (now - this.#last < PROGRESS_INTERVAL_MS) return;
    this.#last = now;
    this.#write(`${this.#step} ${Math.floor(Math.min(1, fraction) * 100)} %`);
  }

  /** Wipes the line, so that what is printed next starts on an empty one. */
  clear(): void {
    this.#write('');
  }

  #write(text: string): void {
    if (this.#stream.isTTY) this.#stream.write(`\r\x1b[K${text}`);
  }
}
