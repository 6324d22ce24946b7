import { ClassicEngine, compileFilterText, FrameBatch, type Language } from '../filter/index.ts';
import { SAMPLE_HEAD, type SampleColumns } from '../mitigation/index.ts';
import { BATCH_ROWS } from './batch.ts';

/** A rule that somebody else has put into force against an attack that may still last. */
export interface CarriedRule {
  readonly id: string;
  readonly expr: string;
  readonly lang: Language;
}

/** Whether what a rule was made against still comes: samples are taken before the rule drops them. */
export class CarriedWatch {
  readonly id: string;
  readonly #engine: ClassicEngine;
  readonly #batch = new FrameBatch(BATCH_ROWS);
  #packets = 0;
  /** Seconds in a row with less than `least` packets a second. */
  quiet = 0;

  /** @throws SluiceError as compileFilterText */
  constructor({ id, expr, lang }: CarriedRule) {
    this.id = id;
    this.#engine = new ClassicEngine(compileFilterText(expr, lang));
  }

  /** @param columns BATCH_ROWS at most */
  add(columns: SampleColumns): void {
    const batch = this.#batch;
    batch.clear();
    for (let row = 0; row < columns.count; row++)
      batch.add(columns.frames, row * SAMPLE_HEAD, columns.captured[row], columns.length[row]);
    this.#engine.run(batch);
    for (let row = 0; row < columns.count; row++)
      if (batch.returns[row] !== 0) this.#packets += columns.weight[row];
  }

  /** `seconds` have gone by. */
  turn(seconds: number, least: number): void {
    this.quiet = this.#packets / seconds < least ? this.quiet + seconds : 0;
    this.#packets = 0;
  }

  close(): void {
    this.#engine.close();
  }
}
