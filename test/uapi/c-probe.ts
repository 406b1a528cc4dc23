import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Milliseconds for one run of the compiler or of the program. */
const TIMEOUT_MS = 60_000;
/** Compilers stop listing errors at some point, so that a few rounds may be needed; more than this is a fault of ours. */
const MAX_ROUNDS = 100;

function program(headers: readonly string[], lines: readonly string[]): string {
  const includes = headers.map((header) => `#if __has_include(<${header}>)\n#include <${header}>\n#endif`);
  return [
    '#include <stddef.h>',
    '#include <stdio.h>',
    ...includes,
    'int main(void) {',
    ...lines,
    'return 0; }',
    '',
  ].join('\n');
}

/** What the compiler says against a program; undefined if it is content. */
function complaint(source: string, binary: string, text: string): string | undefined {
  writeFileSync(source, text);
  const { status, stderr, error } = spawnSync('cc', ['-w', '-o', binary, source], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
    timeout: TIMEOUT_MS,
  });
  return status === 0 ? undefined : (error?.message ?? stderr);
}

/**
 * What the C compiler makes of integer constant expressions, with `headers` included where the machine has them. An
 * expression that does not compile, because the headers lack the name, is missing from the answer; the answer is empty on
 * a machine that cannot compile C.
 */
export function probe(headers: readonly string[], expressions: readonly string[]): Map<string, number> {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-uapi-'));
  try {
    const source = join(folder, 'probe.c');
    const binary = join(folder, 'probe');
    if (complaint(source, binary, program(headers, [])) !== undefined) return new Map();
    // One expression a line, so that the line of an error names the expression.
    const lines = expressions.map(
      (expression, index) => `printf("${index} %lld\\n", (long long)(${expression}));`,
    );
    const before = program(headers, []).split('\n').indexOf('int main(void) {') + 1;
    for (let round = 0; ; round++) {
      const errors = complaint(source, binary, program(headers, lines));
      if (errors === undefined) break;
      const failed = [...errors.matchAll(/^.*probe\.c:(\d+):\d+: error:/gm)].map((match) => Number(match[1]));
      const absent = failed.map((line) => line - 1 - before).filter((index) => lines[index]);
      if (!absent.length || round === MAX_ROUNDS) throw new Error(`cc failed:\n${errors}`);
      for (const index of absent) lines[index] = '';
    }
    const { stdout } = spawnSync(binary, { encoding: 'utf8', timeout: TIMEOUT_MS });
    return new Map(
      [...stdout.matchAll(/^(\d+) (-?\d+)$/gm)].map((match) => [
        expressions[Number(match[1])] as string,
        Number(match[2]),
      ]),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}
