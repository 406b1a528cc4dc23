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

/** Everything that the package exports. */
export function exportedNames(): string[] {
  return [...exportsByFile().values()].flat().filter(Boolean);
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
