/** Milliseconds that `soon` collects for. */
const COLLECT_MS = 20;

/**
 * Waits that many share: one is under way at a time, and whoever asks meanwhile gets the next. Each costs some system calls
 * and a turn of another thread, however many wait for it.
 */
export class Graces {
  readonly #wait: () => Promise<void>;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #soon: Promise<void> | undefined;

  /** `wait`: what is begun after a call answers for it. */
  constructor(wait: () => Promise<void>) {
    this.#wait = wait;
  }

  /** Resolves with the end of a wait that was begun after this call. */
  pass(): Promise<void> {
    if (this.#running === undefined) return this.#begin();
    this.#next ??= this.#running.then(
      () => this.#begin(),
      () => this.#begin(),
    );
    return this.#next;
  }

  /** The same for what has time: it begins a little later, for all who have come by then. */
  soon(): Promise<void> {
    this.#soon ??= new Promise<void>((resolve) => setTimeout(resolve, COLLECT_MS)).then(() => {
      this.#soon = undefined;
      return this.pass();
    });
    return this.#soon;
  }

  #begin(): Promise<void> {
    this.#next = undefined;
    const running = this.#wait().finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    return running;
  }
}
