import type { CommandIo } from '../base/io.ts';
import { clockText, scaled } from '../base/units.ts';

const BAR_CELLS = 24;
/** Milliseconds between two drawings on a terminal. */
const REDRAW_MS = 200;

/** Progress of work whose size is known in bytes (or is not): a bar on a terminal, now and then a line elsewhere. */
export class ReadProgress {
  readonly #io: CommandIo;
  readonly #total: number | undefined;
  readonly #begin = performance.now();
  #next = 0;

  constructor(io: CommandIo, totalBytes: number | undefined) {
    this.#io = io;
    this.#total = totalBytes;
  }

  show(doneBytes: number, packets: number): void {
    const now = performance.now();
    if (now < this.#next) return;
    this.#next = now + REDRAW_MS;
    const seconds = (now - this.#begin) / 1000;
    const rate = seconds > 0 ? scaled(packets / seconds, 'packets/s') : '';
    if (this.#total === undefined || this.#total === 0) {
      this.#io.progress(`${scaled(doneBytes, 'B')} · ${rate}`);
      return;
    }
    const share = Math.min(1, doneBytes / this.#total);
    const left = share > 0.01 ? ` · ${clockText((seconds / share) * (1 - share))} left` : '';
    const filled = Math.round(share * BAR_CELLS);
    const bar = this.#io.terminal ? `[${'#'.repeat(filled)}${'-'.repeat(BAR_CELLS - filled)}] ` : '';
    this.#io.progress(`${bar}${Math.floor(share * 100)} % · ${rate}${left}`);
  }

  done(): void {
    this.#io.progressDone();
  }
}
