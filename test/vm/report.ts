import { describeOutcome, describeVerdict, type Outcome, sumOutcomes } from '../outcome.js';

/** What became of one test file on one kernel. */
export interface FileReport extends Outcome {
  /** Path below this folder, without its suffix. */
  file: string;
  /** Why tests were skipped. */
  reasons: readonly string[];
  /** Milliseconds. */
  durationMs: number;
}

/** What became of one boot. */
export interface BootReport {
  series: string;
  /** What `uname -r` prints; empty without a kernel. */
  release: string;
  machine: string;
  accelerator: 'kvm' | 'tcg';
  /** Milliseconds from the start of QEMU until the first file runs; 0 if the guest did not come so far. */
  bootMs: number;
  /** Milliseconds from the start of QEMU to its end. */
  durationMs: number;
  files: FileReport[];
  /** Why the guest died, with its console; empty if it did not. */
  death: string;
}

/** Writes what happens, each line with the boot that it is of in front, and counts. */
export class Report {
  readonly boots: BootReport[] = [];
  readonly #write: (text: string) => void;

  /** Writes with a function: lines for people. */
  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  /** Begins a boot. */
  begin(boot: BootReport): void {
    this.boots.push(boot);
  }

  /** Writes lines of a boot. */
  lines(boot: BootReport, text: string): void {
    for (const line of text.split('\n')) this.#write(`${boot.series} ${boot.machine}: ${line}\n`);
  }

  /** Writes a line that is of no boot. */
  note(text: string): void {
    this.#write(`${text}\n`);
  }

  /** Counts a file of a boot. */
  file(boot: BootReport, report: FileReport): void {
    boot.files.push(report);
    this.lines(boot, `${describeVerdict(report.file, report)} ${(report.durationMs / 1000).toFixed(1)} s`);
  }

  /** Counts files of a boot that did not run: as skipped or as failed, saying why. */
  withoutRun(boot: BootReport, files: readonly string[], outcome: 'skipped' | 'failed', why: string): void {
    for (const file of files) {
      const counts = { passed: 0, failed: 0, skipped: 0, [outcome]: 1 };
      boot.files.push({ file, ...counts, reasons: [`${outcome}: ${why}`], durationMs: 0 });
      this.lines(boot, `${outcome === 'failed' ? 'FAIL' : 'skip'} ${file}: ${why}`);
    }
  }

  /** The sum of all files. */
  get outcome(): Outcome {
    return sumOutcomes(this.boots.flatMap(({ files }) => files));
  }

  /** Writes a line for each boot and the sum. */
  summarize(): void {
    for (const boot of this.boots) {
      const times = `${(boot.durationMs / 1000).toFixed(1)} s, ${(boot.bootMs / 1000).toFixed(1)} s to boot, ${boot.accelerator}`;
      this.lines(
        boot,
        `${boot.release || 'no kernel'}: ${describeOutcome(sumOutcomes(boot.files))} (${times})`,
      );
      for (const { file, failed } of boot.files) if (failed) this.lines(boot, `FAIL ${file}`);
    }
    this.note(describeOutcome(this.outcome));
  }

  /** For `--json`. */
  toJSON(): object {
    return { ...this.outcome, boots: this.boots };
  }
}
