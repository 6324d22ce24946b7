/** Work that may run beside other work, and work that must run alone. */
export class Exclusion {
  readonly #running = new Set<Promise<unknown>>();
  #alone: Promise<void> | undefined;

  /** Something runs alone. */
  get closed(): boolean {
    return this.#alone !== undefined;
  }

  /** Waits for what runs alone, then runs beside others. */
  async among<T>(work: () => Promise<T>): Promise<T> {
    await this.#opened();
    return await this.#noted(work());
  }

  /** Begins at once, and is waited for like all that was begun. It must not fail. */
  begin(work: Promise<unknown>): void {
    void this.#noted(work);
  }

  /** Waits for what runs alone, and is not waited for itself. */
  async beside<T>(work: () => Promise<T>): Promise<T> {
    await this.#opened();
    return await work();
  }

  /** Runs alone: what was begun before is finished first, and what comes meanwhile waits. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    await this.#opened();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#alone = promise;
    try {
      await Promise.allSettled(this.#running);
      return await work();
    } finally {
      this.#alone = undefined;
      resolve();
    }
  }

  /** When all that was begun has finished. */
  async settled(): Promise<void> {
    await this.#opened();
    await Promise.allSettled(this.#running);
  }

  async #opened(): Promise<void> {
    while (this.#alone !== undefined) await this.#alone;
  }

  async #noted<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    try {
      return await work;
    } finally {
      this.#running.delete(work);
    }
  }
}
