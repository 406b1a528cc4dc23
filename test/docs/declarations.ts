import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from './markdown.js';

/** An exported class or interface, by what its declaration file says. */
export interface Declaration {
  name: string;
  /** Names of its public members; `[Symbol.asyncDispose]` as it is. */
  members: string[];
}

const INDEX = join(ROOT, 'dist/host/index.d.ts');
/** What `ringbell/testing` exports. */
export const TESTING = join(ROOT, 'dist/host/testing/index.d.ts');

/** A member at the start of a line: modifiers, then a name and what can follow one. */
const MEMBER =
  /^ {4}(?:static |readonly |abstract |get |set )*(\w+|\[Symbol\.asyncDispose\]|\[inspect\.custom\])(?=[?(:;<])/gm;
/** Not for users to call. */
const INTERNAL = new Set(['constructor', '[inspect.custom]', 'private']);

/** Names that the package exports, by the file that declares them. */
function exportsByFile(path: string = INDEX): Map<string, string[]> {
  const files = new Map<string, string[]>();
  for (const [, names, from] of readFileSync(path, 'utf8').matchAll(
    /export (?:type )?\{([^}]*)\} from '([^']+)'/g,
  )) {
    const file = join(dirname(path), from!.replace(/\.js$/, '.d.ts'));
    files.set(file, [
      ...(files.get(file) ?? []),
      ...names!.split(',').map((name) => name.replace(/\btype\b/, '').trim()),
    ]);
  }
  return files;
}

/** Text of a declaration file, without comments. */
function declarations(path: string): string {
  return readFileSync(path, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
}

/** A top-level declaration, up to the next line that begins with a word. */
function declarationOf(name: string, text: string): string | undefined {
  const start = `^export (?:declare )?(?:abstract )?(?:class|interface|type|function|const) ${name}\\b`;
  return new RegExp(`${start}[\\s\\S]*?(?=^\\w|(?![\\s\\S]))`, 'm').exec(text)?.[0];
}

/** Everything that a declaration file exports, with the file that declares it. */
export function exportedTypes(path: string = INDEX): Map<string, string> {
  const exported = new Map<string, string>();
  for (const [file, names] of exportsByFile(path)) {
    const passedOn = exportedTypes(file);
    for (const name of names.filter(Boolean)) exported.set(name, passedOn.get(name) ?? file);
  }
  for (const [, from] of readFileSync(path, 'utf8').matchAll(/^export type \* from '([^']+)'/gm))
    for (const [name, file] of exportedTypes(join(dirname(path), from!.replace(/\.js$/, '.d.ts'))))
      exported.set(name, file);
  return exported;
}

/** Names of ours that the declaration of `name` refers to: what its file declares or imports from another file of ours. */
export function referredNames(name: string, file: string): string[] {
  const text = declarations(file);
  const imports = [...text.matchAll(/^import (?:type )?\{([^}]*)\} from '\.[^']*'/gm)].flatMap(([, names]) =>
    names!.split(',').map((each) => each.replace(/\btype\b/, '').trim()),
  );
  const own = [
    ...text.matchAll(/^(?:export )?(?:declare )?(?:abstract )?(?:class|interface|type) (\w+)/gm),
  ].map(([, each]) => each!);
  const declaration = declarationOf(name, text);
  if (declaration === undefined) throw new Error(`${file} does not declare ${name}`);
  return [...new Set([...imports, ...own])].filter(
    (other) => other && other !== name && new RegExp(`\\b${other}\\b`).test(declaration),
  );
}

/** Everything that the package exports. */
export function exportedNames(): string[] {
  return [...exportedTypes().keys()];
}

/** The exported classes and interfaces with their members. */
export function exportedDeclarations(path: string = INDEX): Declaration[] {
  return [...exportsByFile(path)].flatMap(([file, names]) => {
    const text = readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
    const own = names.flatMap((name) => {
      const body = new RegExp(`(?:class|interface) ${name}\\b[^{]*\\{\\n([\\s\\S]*?)^\\}`, 'm').exec(
        text,
      )?.[1];
      if (body === undefined) return [];
      const members = [...body.matchAll(MEMBER)].map(([, member]) => member!);
      return [{ name, members: [...new Set(members)].filter((member) => !INTERNAL.has(member)) }];
    });
    // The bus has an index of its own.
    const passedOn = file.endsWith('/index.d.ts') ? exportedDeclarations(file) : [];
    return [...own, ...passedOn.filter(({ name }) => names.includes(name))];
  });
}
