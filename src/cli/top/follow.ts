import { setTimeout as wait } from 'node:timers/promises';
import type { CommandIo } from '../../base/io.ts';
import { frameOf, SORTS, type TopFrame } from './frame.ts';
import type { Reading, Source } from './reading.ts';
import { Screen, type Wish } from './screen.ts';
import { frameLines } from './text.ts';
import { type Around, VIEWS, type View } from './views.ts';

export interface TopOptions {
  /** Seconds between two looks. */
  interval: number;
  once: boolean;
  /** What is shown at first. */
  view: View;
  json: boolean;
}

/** Rows of a frame that is printed and not shown in place. */
const PRINTED_ROWS = 60;

const paused = async (seconds: number, io: CommandIo): Promise<void> => {
  try {
    await wait(seconds * 1000, undefined, { signal: io.stop });
  } catch (error) {
    if (!io.stop.aborted) throw error;
  }
};

/** Shows frames until it is stopped. @throws SluiceError when nothing answers any more */
export async function followTop(source: Source, options: TopOptions, io: CommandIo): Promise<void> {
  const { stdin, stdout } = process;
  if (!options.once && !options.json && stdin.isTTY && stdout.isTTY) await shown(source, options, io);
  else await printed(source, options, io);
}

/** One after the other, as text or JSON lines. */
async function printed(
  source: Source,
  { interval, once, json, view }: TopOptions,
  io: CommandIo,
): Promise<void> {
  let before = await source.read();
  while (!io.stop.aborted) {
    await paused(interval, io);
    if (io.stop.aborted) return;
    const now = await source.read();
    const frame = frameOf(now, before, 'rate');
    before = now;
    const around: Around = {
      columns: process.stdout.columns ?? io.columns,
      rows: PRINTED_ROWS,
      view,
      sort: 'rate',
      paused: false,
      silent: undefined,
      paint: (_, text) => text,
      keys: false,
    };
    io.out(
      json ? `${JSON.stringify(frame)}\n` : `${frameLines(frame, around).join('\n')}\n${once ? '' : '\n'}`,
    );
    if (once) return;
  }
}

/** In place, with keys. */
async function shown(source: Source, { interval, view: first }: TopOptions, io: CommandIo): Promise<void> {
  const quit = new AbortController();
  let sort = 0;
  let view = first;
  let held = false;
  let last: Reading = await source.read();
  let before: Reading | undefined;
  let shownFrame: TopFrame = frameOf(last, undefined, SORTS[sort]);
  let answered = performance.now();
  const draw = (): void => {
    const silent = (performance.now() - answered) / 1000;
    // What is not of now is never shown as if it were.
    const stale = !held && silent > 2 * interval + 1;
    const lines = frameLines(shownFrame, {
      columns: screen.columns,
      rows: screen.rows,
      view,
      sort: SORTS[sort],
      paused: held,
      silent: stale ? silent : undefined,
      paint: (style, text) => io.paint(style, text),
      keys: true,
    });
    screen.draw(lines);
  };
  const wished = (wish: Wish): void => {
    if (wish === 'quit') quit.abort();
    else if (wish === 'pause') held = !held;
    else if (wish === 'sort') {
      sort = (sort + 1) % SORTS.length;
      shownFrame = frameOf(last, before, SORTS[sort]);
    } else if (wish === 'next') view = VIEWS[(VIEWS.indexOf(view) + 1) % VIEWS.length];
    else if (wish !== 'redraw') view = wish;
    if (wish !== 'quit') draw();
  };
  using screen = new Screen(process.stdin, process.stdout, wished);
  const clock = setInterval(draw, 1000);
  const stop = AbortSignal.any([io.stop, quit.signal]);
  try {
    draw();
    while (!stop.aborted) {
      try {
        await wait(interval * 1000, undefined, { signal: stop });
      } catch {
        return;
      }
      const now = await Promise.race([source.read(), ended(stop)]);
      if (now === undefined) return;
      answered = performance.now();
      if (held) continue;
      before = last;
      last = now;
      shownFrame = frameOf(now, before, SORTS[sort]);
      draw();
    }
  } finally {
    clearInterval(clock);
  }
}

function ended(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
    if (signal.aborted) resolve(undefined);
  });
}
