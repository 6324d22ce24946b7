import type { LiveSourceView } from '../sensor/live.ts';
import type { Check } from './board-shapes.ts';
import type { Point } from './point.ts';
import type { Status } from './shapes.ts';

/** A worker that has not finished a turn for so long (s) makes no progress; it takes one ten times a second. */
const STALLED = 5;
const RECENT = 60;
/** Share of TCP connections of which one direction is missing from which on the tap is to be looked at. */
const ONE_WAY = 0.1;
const ENOUGH = 100;
const BUSY = 0.9;

const count = (n: number): string => n.toLocaleString('en-US');
const percent = (share: number): string => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

/** What an operator looks at first; each line says what is so, and from what it can be seen. */
export function checksOf(
  status: Status,
  sources: readonly LiveSourceView[],
  points: readonly Point[],
): Check[] {
  const recent = points.filter(({ t }) => t > status.at - RECENT);
  return [
    progress(sources),
    gate(sources),
    capture(status, recent),
    load(recent),
    logs(status),
    directions(status),
    ...refused(status),
  ];
}

function progress(sources: readonly LiveSourceView[]): Check {
  const all = sources.flatMap(({ name, workers }) =>
    workers.map(({ idle }, i) => ({ name: `${name}/${i}`, idle })),
  );
  const stalled = all.filter(({ idle }) => idle >= STALLED);
  if (stalled.length === 0)
    return { name: 'Workers', state: 'ok', text: `${all.length} of ${all.length} make progress` };
  const names = stalled.map(({ name, idle }) => `${name} for ${idle.toFixed(0)} s`).join(', ');
  return { name: 'Workers', state: 'bad', text: `no progress: ${names}` };
}

function gate(sources: readonly LiveSourceView[]): Check {
  const bare = sources.filter(({ drop }) => drop === 'none');
  const modes = sources
    .map(({ name, mode, drop }) => `${name}: ${drop === 'none' ? 'none' : mode}`)
    .join(', ');
  if (bare.length > 0)
    return {
      name: 'Gate',
      state: 'warning',
      text: `nothing drops early at ${bare.map(({ name }) => name).join(', ')}`,
    };
  const slow = sources.some(({ mode }) => mode === 'generic');
  return {
    name: 'Gate',
    state: slow ? 'warning' : 'ok',
    text: slow ? `${modes}: generic XDP is slow, the driver has no native one` : modes,
  };
}

function capture({ losses, packets }: Status, recent: readonly Point[]): Check {
  const lost = losses.packets;
  const now = recent.reduce((sum, point) => sum + point.lost, 0);
  const all = `${count(lost)} lost since the start (${percent(lost / Math.max(1, lost + packets))})`;
  if (now > 0) return { name: 'Capture', state: 'bad', text: `losing packets in the last minute; ${all}` };
  if (lost > 0) return { name: 'Capture', state: 'warning', text: `${all}, none in the last minute` };
  return { name: 'Capture', state: 'ok', text: 'no packet lost before a worker' };
}

function load(recent: readonly Point[]): Check {
  const workers = recent[0]?.workers.length ?? 0;
  let most = 0;
  for (let i = 0; i < workers; i++) {
    const known = recent.map((point) => point.workers[i]).filter((used) => typeof used === 'number');
    if (known.length > 0) most = Math.max(most, known.reduce((sum, used) => sum + used, 0) / known.length);
  }
  return {
    name: 'Load',
    state: most > BUSY ? 'warning' : 'ok',
    text: `the busiest worker has used ${percent(most)} of a processor over the last minute`,
  };
}

function logs({ losses }: Status): Check {
  if (losses.logLines === 0) return { name: 'Logs', state: 'ok', text: 'every line was written' };
  return { name: 'Logs', state: 'bad', text: `${count(losses.logLines)} lines could not be written` };
}

function directions({ directions: { judged, oneWay } }: Status): Check {
  const part = oneWay / Math.max(1, judged);
  const text = `${count(oneWay)} of ${count(judged)} TCP connections were seen in one direction alone`;
  return { name: 'Directions', state: judged >= ENOUGH && part > ONE_WAY ? 'warning' : 'ok', text };
}

function refused({ shunts }: Status): Check[] {
  if (shunts.refused === 0) return [];
  return [
    { name: 'Shunts', state: 'warning', text: `${count(shunts.refused)} were refused: shunt.log says why` },
  ];
}
