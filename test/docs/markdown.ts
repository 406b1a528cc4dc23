import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package's own folder. */
export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** A program in a page, and what it says that it prints. */
export interface Example {
  page: string;
  file: string;
  code: string;
  /** Lines of output: what follows `// →` in the program, in that order. */
  output: string[];
}

/** One Markdown file of the documentation. */
export class Page {
  /** Path from the package's folder. */
  readonly path: string;
  readonly text: string;

  /** README.md and every page of docs/. */
  static all(): Page[] {
    const names = readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md'));
    return ['README.md', ...names.sort().map((name) => `docs/${name}`)].map((path) => new Page(path));
  }

  constructor(path: string) {
    this.path = path;
    this.text = readFileSync(join(ROOT, path), 'utf8');
  }

  /** The text without its programs and drawings, in which a # is no heading and brackets are no links. */
  get prose(): string {
    return this.text.replace(/^```[\s\S]*?^```/gm, '');
  }

  /** What a link may name behind its #: GitHub's names of the headings. */
  get anchors(): string[] {
    return [...this.prose.matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
      title!
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replace(/\s/g, '-'),
    );
  }

  /** Targets of its links. */
  get links(): string[] {
    return [...this.prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
  }

  /** What stands under a heading, up to the next one of its level or a higher one; undefined without such a heading. */
  section(title: string): string | undefined {
    const lines = this.prose.split('\n');
    const start = lines.findIndex((line) => line.replace(/^#+ /, '') === title && line.startsWith('#'));
    if (start < 0) return undefined;
    const level = lines[start]!.indexOf(' ');
    const rest = lines.slice(start + 1);
    const end = rest.findIndex((line) => /^#+ /.test(line) && line.indexOf(' ') <= level);
    return rest.slice(0, end < 0 ? undefined : end).join('\n');
  }

  get examples(): Example[] {
    const blocks = this.text.matchAll(/<!-- example: (\S+) -->\n```js\n([\s\S]*?)```/g);
    return [...blocks].map(([, file, code]) => ({
      page: this.path,
      file: file!,
      code: code!,
      output: [...code!.matchAll(/\/\/ → (.*)$/gm)].map(([, line]) => line!.trim()),
    }));
  }
}
