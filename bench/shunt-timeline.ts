/** What `sluice bench shunt` shows over time, as numbers and as a page that needs nothing else. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chartPage, escaped } from '../src/base/chart-page.ts';

/** Counts of one step of time. */
export interface Sample {
  /** Seconds since the epoch at its end, and its length. */
  ts: number;
  seconds: number;
  /** Packets offered; CPU seconds of the sensor. */
  packets: number;
  cpu: number;
}

export interface Timeline {
  /** Seconds from the first sample on. */
  x: number[];
  packets: number[];
  cpu: number[];
  /** Shunts begun per second; those that live at the time; those that have ended by then. */
  rate: number[];
  live: number[];
  closed: number[];
}

export interface ShuntEvent {
  ts: number;
  event: string;
}

const until = (times: readonly number[], ts: number): number => times.filter((each) => each <= ts).length;

/** Samples with what shunt.log has of the same time. */
export function timelineOf(samples: readonly Sample[], events: readonly ShuntEvent[]): Timeline {
  const starts = events.filter(({ event }) => event === 'start').map(({ ts }) => ts);
  const ends = events.filter(({ event }) => event === 'end').map(({ ts }) => ts);
  const first = samples[0];
  const begin = first === undefined ? 0 : first.ts - first.seconds;
  const per = (of: (s: Sample) => number) => samples.map((s) => of(s) / s.seconds);
  return {
    x: samples.map(({ ts }) => ts - begin),
    packets: per((s) => s.packets),
    cpu: per((s) => s.cpu * 100),
    rate: per((s) => until(starts, s.ts) - until(starts, s.ts - s.seconds)),
    live: samples.map(({ ts }) => until(starts, ts) - until(ends, ts)),
    closed: samples.map(({ ts }) => until(ends, ts)),
  };
}

/** Lines of shunt.log in this directory. */
export function shuntEvents(logs: string): ShuntEvent[] {
  const path = join(logs, 'shunt.log');
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as ShuntEvent);
}

/** One page with four charts for each timeline, over the same seconds. */
export function timelinePage(title: string, text: string, lines: Readonly<Record<string, Timeline>>): string {
  return chartPage({
    title,
    style: '.chart { background: #fff; color: #1c2430; padding: 0.5rem 0; margin: 0.5rem 0; }',
    body: `<div id="charts"></div>\n<pre>${escaped(text)}</pre>`,
    data: lines,
    script: DRAW,
  });
}

const DRAW = `const kinds = [
  ['Packets offered per second', [['packets', 'packets/s', '#0b6bcb']]],
  ['CPU of the sensor, percent', [['cpu', '%', '#c2410c']]],
  ['Shunts begun per second', [['rate', 'shunts/s', '#15803d']]],
  ['Shunts', [['live', 'live', '#7c3aed'], ['closed', 'closed', '#475569']]],
];
const charts = document.getElementById('charts');
for (const [name, line] of Object.entries(data)) {
  const heading = charts.appendChild(document.createElement('h2'));
  heading.textContent = name;
  for (const [title, parts] of kinds) {
    const box = charts.appendChild(document.createElement('div'));
    box.className = 'chart';
    box.setAttribute('role', 'img');
    box.setAttribute('aria-label', title + ', over time: ' + name);
    new uPlot({ title, width: Math.min(1100, charts.clientWidth), height: 200, scales: { x: { time: false } }, axes: [{}, wide],
      series: [{ label: 'seconds' }, ...parts.map(([, label, stroke]) => ({ label, stroke, width: 2 }))] },
      [line.x, ...parts.map(([key]) => line[key])], box);
  }
}`;
