/** Milliseconds that `soon` collects for, unless somebody is in a hurry meanwhile. */
const COLLECT_MS = 60;

/**
 * Waits that many share: one is under way at a time, and whoever asks meanwhile gets the next. Each costs some system calls
 * and a turn of another thread, however many wait for it.
 */
export class Graces {
  readonly #wait: () => Promise<void>;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #soon: Promise<void> | undefined;
  #release: ((wait: Promise<void>) => void) | undefined;
  #timer: NodeJS.Timeout | undefined;

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

  /** The same for what has time: it begins a little later, for all who have come by then, or with one that has none. */
  soon(): Promise<void> {
    this.#soon ??= new Promise((resolve) => {
      this.#release = resolve;
      this.#timer = setTimeout(() => void this.pass().catch(() => {}), COLLECT_MS);
    });
    return this.#soon;
  }

  #begin(): Promise<void> {
    this.#next = undefined;
    const running = this.#wait().finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    if (this.#release !== undefined) {
      clearTimeout(this.#timer);
      this.#release(running);
      this.#release = undefined;
      this.#soon = undefined;
    }
    return running;
  }
}
