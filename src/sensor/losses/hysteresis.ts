/** An alarm that is raised at a threshold and cleared below half of it, so that it does not flutter. */
export class Hysteresis {
  readonly #threshold: number;
  #raised = false;

  constructor(threshold: number) {
    this.#threshold = threshold;
  }

  /** What has changed, if anything. */
  look(value: number): 'raised' | 'cleared' | undefined {
    if (this.#raised ? value >= this.#threshold / 2 : value < this.#threshold) return undefined;
    this.#raised = !this.#raised;
    return this.#raised ? 'raised' : 'cleared';
  }
}
