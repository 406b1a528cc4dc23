import type { Check, CheckState } from '../check.js';
import { probe } from '../probe.js';
import type { Command } from './arguments.js';
import { describeMachine } from './machine.js';
import { type Style, styled } from './terminal.js';

/** Title of each group of checks. */
const AREAS: Record<Check['area'], string> = {
  embedded: 'The in-process bus (no privilege, no module)',
  'vhost-vdpa': "Drive the kernel's vDPA devices (vhost-vdpa)",
  vduse: "Create devices on the kernel's vDPA bus (VDUSE)",
};
const STYLES: Record<CheckState, Style> = { ok: 'green', warning: 'yellow', missing: 'red' };
const STATE_WIDTH = 'warning'.length;
const NAME_WIDTH = 'wasm-shared-memory'.length;

/** `ringbell doctor` */
export const doctor: Command = {
  name: 'doctor',
  summary: 'say what this machine can do, and what to do about what is missing',
  description:
    'Says what this machine can do: WASM features, the native addon, and what the kernel offers. Changes nothing.\n' +
    'Exits with 1 only where the in-process bus cannot run.',
  options: { json: { help: 'print one JSON object' } },
  async run(values) {
    const result = probe();
    if (values.flag('json')) {
      process.stdout.write(`${JSON.stringify({ machine: describeMachine(), ...result }, null, 2)}\n`);
    } else {
      const groups = Object.entries(AREAS).map(([area, title]) =>
        [
          styled(process.stdout, 'bold', title),
          ...result.checks.filter((check) => check.area === area).map(describe),
          '',
        ].join('\n'),
      );
      const verdict = [
        `in-process bus: ${result.embedded ? 'ready' : 'cannot run here'}`,
        `vhost-vdpa: ${result.vhostVdpa ? 'ready' : 'not available'}`,
        `VDUSE: ${result.vduse ? 'ready' : 'not available'}`,
      ].join(' · ');
      process.stdout.write(`${groups.join('\n')}\n${verdict}\n`);
    }
    return result.embedded ? 0 : 1;
  },
};

/** A check on a line, and its remedy on the next. */
function describe(check: Check): string {
  const state = styled(process.stdout, STYLES[check.state], check.state.padEnd(STATE_WIDTH));
  const line = `  ${state}  ${check.name.padEnd(NAME_WIDTH)}  ${check.found}`;
  return check.remedy === undefined
    ? line
    : `${line}\n${' '.repeat(STATE_WIDTH + NAME_WIDTH + 6)}→ ${check.remedy}`;
}
