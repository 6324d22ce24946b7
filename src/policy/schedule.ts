import { SluiceError } from '../base/errors.ts';

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const MINUTES = 24 * 60;
const WEEK = 7 * MINUTES;
const ITEM = /^(?:([a-z]{3})(?:-([a-z]{3}))?\s+)?(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})$/;

/** Minutes of a week, from Sunday 00:00 local time, in which something holds. */
export interface Schedule {
  readonly open: readonly { from: number; to: number }[];
}

/**
 * `mon-fri 08:00-18:00, sat 22:00-02:00`: local time; without days every day; past midnight is the next day's.
 * @throws SluiceError USAGE
 */
export function parseSchedule(text: string): Schedule {
  const open: { from: number; to: number }[] = [];
  for (const item of text.split(',').map((part) => part.trim().toLowerCase())) {
    const match = ITEM.exec(item);
    const first = match?.[1] === undefined ? 0 : DAYS.indexOf(match[1]);
    const last = match?.[1] === undefined ? 6 : match[2] === undefined ? first : DAYS.indexOf(match[2]);
    const from = minuteOf(match?.[3], match?.[4]);
    const to = minuteOf(match?.[5], match?.[6]);
    if (match === null || first < 0 || last < 0 || from < 0 || to < 0 || from === MINUTES)
      throw new SluiceError('USAGE', `'${item}' is no part of a schedule`, {
        help: 'write it like mon-fri 08:00-18:00, or 22:00-06:00 for every night',
      });
    for (let day = first; ; day = (day + 1) % 7) {
      const begin = day * MINUTES + from;
      open.push({ from: begin, to: begin - from + (to > from ? to : to + MINUTES) });
      if (day === last) break;
    }
  }
  return { open };
}

/** Seconds until it opens; 0 while it is open. `time`: seconds since the epoch. */
export function untilOpen(schedule: Schedule, time: number): number {
  const date = new Date(time * 1000);
  const minute =
    date.getDay() * MINUTES +
    date.getHours() * 60 +
    date.getMinutes() +
    (date.getSeconds() + (time % 1)) / 60;
  let least = WEEK;
  for (const { from, to } of schedule.open) {
    // One that goes past the end of the week is open at its beginning.
    if ((minute >= from && minute < to) || minute + WEEK < to) return 0;
    least = Math.min(least, (from - minute + WEEK) % WEEK);
  }
  return least * 60;
}

function minuteOf(hours: string | undefined, minutes: string | undefined): number {
  const minute = Number(hours) * 60 + Number(minutes);
  return minute <= MINUTES && Number(minutes) < 60 ? minute : -1;
}
