import { addon } from './addon.ts';
import { attempt } from './errors.ts';

/** Calls back each time the descriptor is readable; `error` is 0 or a negative errno that the descriptor reported. */
export class Watch {
  #id: number;

  constructor(fd: number, ready: (error: number) => void, keepAlive = true) {
    this.#id = attempt('watch', `watch descriptor ${fd}`, () => addon().watchStart(fd, ready, keepAlive));
  }

  /** No calls until `resume`. */
  pause(): void {
    addon().watchSwitch(this.#id, false);
  }

  resume(): void {
    addon().watchSwitch(this.#id, true);
  }

  stop(): void {
    if (this.#id === 0) return;
    addon().watchStop(this.#id);
    this.#id = 0;
  }
}
