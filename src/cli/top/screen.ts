import { emitKeypressEvents, type Key } from 'node:readline';
import type { ReadStream, WriteStream } from 'node:tty';
import { VIEWS, type View } from './views.ts';

/** What a key asks for. */
export type Wish = 'sort' | 'pause' | 'quit' | 'redraw' | 'next' | View;

/** Views by their first letters. */
const LETTERS = new Map(VIEWS.map((view) => [view[0], view]));

const UNKNOWN = { columns: 80, rows: 24 };

/** The whole terminal, as it was before when it is let go of: frames in place of each other, and keys. */
export class Screen implements Disposable {
  readonly #input: ReadStream;
  readonly #output: WriteStream;
  readonly #onKey: (text: string | undefined, key: Key) => void;
  readonly #onResize: () => void;

  constructor(input: ReadStream, output: WriteStream, wish: (wish: Wish) => void) {
    this.#input = input;
    this.#output = output;
    this.#onKey = (_, { name = '', ctrl }) => {
      const view = LETTERS.get(name);
      if (name === 'q' || name === 'escape' || (ctrl === true && name === 'c')) wish('quit');
      else if (name === 's') wish('sort');
      else if (name === 'p' || name === 'space') wish('pause');
      else if (name === 'tab') wish('next');
      else if (view !== undefined && ctrl !== true) wish(view);
    };
    this.#onResize = () => wish('redraw');
    emitKeypressEvents(input);
    input.setRawMode(true);
    input.on('keypress', this.#onKey);
    input.resume();
    output.on('resize', this.#onResize);
    // The other screen, no cursor.
    output.write('\x1b[?1049h\x1b[?25l');
  }

  /** A terminal that does not know its size (a serial line) says 0. */
  get columns(): number {
    return this.#output.columns || UNKNOWN.columns;
  }

  get rows(): number {
    return this.#output.rows || UNKNOWN.rows;
  }

  draw(lines: readonly string[]): void {
    this.#output.write(`\x1b[H${lines.map((line) => `${line}\x1b[K`).join('\r\n')}\x1b[J`);
  }

  [Symbol.dispose](): void {
    this.#output.write('\x1b[?25h\x1b[?1049l');
    this.#output.off('resize', this.#onResize);
    this.#input.off('keypress', this.#onKey);
    this.#input.setRawMode(false);
    this.#input.pause();
  }
}
