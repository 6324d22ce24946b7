import { chartPage, escaped } from '../base/chart-page.ts';
import { scaled } from '../base/units.ts';
import { type PolicyPlan, parsePolicies } from '../policy/index.ts';
import type { Outcome, Scenario, WhatIfResult } from './what-if.ts';

/** Megabits per second that one core of a sensor takes: from, to. */
export interface SensorRate {
  low: number;
  high: number;
}

/** Sizes that `bulk` is tried with beside the one that was asked for. */
const BULK_SIZES = ['512kB', '1MB', '4MB', '16MB'];

/** What is tried: all policies together, each alone, and `bulk` with other sizes. */
export function scenariosOf(plan: PolicyPlan): Scenario[] {
  const alone = plan.specs.length < 2 ? [] : plan.specs;
  const vetoes = plan.specs.filter(({ action }) => action === 'never' || action === 'hold');
  const bulk = plan.specs.some(({ name }) => name === 'bulk');
  return [
    { name: 'all', plan },
    ...alone
      .filter(({ action }) => action !== 'never' && action !== 'hold' && action !== 'log')
      .map((spec) => ({ name: spec.name, plan: { ...plan, specs: [...vetoes, spec] } })),
    ...(bulk ? BULK_SIZES : []).map((size) => ({
      name: `bulk=${size}`,
      plan: { ...plan, specs: [...vetoes, ...parsePolicies([`bulk=${size}`])] },
    })),
  ];
}

const percent = (part: number, whole: number) =>
  whole === 0 ? '0 %' : `${((100 * part) / whole).toFixed(1)} %`;
const whole = (n: number) => Math.round(n).toLocaleString('en-US');
const connections = (n: number) => `${whole(n)} connection${n === 1 ? '' : 's'}`;

/** Cores that so much traffic takes, or that a sensor needs less: from, to. */
export interface Cores {
  from: number;
  to: number;
}

const coresFor = (megabits: number, { low, high }: SensorRate): Cores => ({
  from: megabits / high,
  to: megabits / low,
});

function coresText(megabits: number, rate: SensorRate): string {
  const { from, to } = coresFor(megabits, rate);
  return from === to ? to.toFixed(1) : `${from.toFixed(1)}–${to.toFixed(1)}`;
}

/** The result with the cores that the peak takes, and that each scenario saves of them, as `--json` has it. */
export function whatIfDocument(result: WhatIfResult, rate: SensorRate): WhatIfDocument {
  return {
    ...result,
    sensorMbps: rate,
    cores: coresFor(result.all.peak, rate),
    scenarios: result.scenarios.map((each) => ({
      ...each,
      cores: coresFor(each.left.peak, rate),
      coresSaved: coresFor(result.all.peak - each.left.peak, rate),
    })),
  };
}

export interface WhatIfDocument extends WhatIfResult {
  sensorMbps: SensorRate;
  cores: Cores;
  scenarios: readonly (Outcome & { cores: Cores; coresSaved: Cores })[];
}

/** The result as text: a table of scenarios, and what the first of them would have hidden. */
export function whatIfText(result: WhatIfResult, rate: SensorRate): string {
  const rows = [
    [
      'policies',
      'connections',
      'packets',
      '',
      'bytes',
      '',
      'left, average and peak',
      'cores at the peak',
      'saved',
    ],
  ];
  rows.push([
    '(none)',
    '0',
    '0',
    '',
    '0',
    '',
    `${result.all.average.toFixed(1)} ${result.all.peak.toFixed(1)} Mb/s`,
    coresText(result.all.peak, rate),
    '',
  ]);
  for (const s of result.scenarios)
    rows.push([
      s.name,
      whole(s.connections),
      whole(s.packets),
      percent(s.packets, result.packets),
      scaled(s.bytes, 'B'),
      percent(s.bytes, result.bytes),
      `${s.left.average.toFixed(1)} ${s.left.peak.toFixed(1)} Mb/s`,
      coresText(s.left.peak, rate),
      coresText(result.all.peak - s.left.peak, rate),
    ]);
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd(),
  );
  const [all] = result.scenarios;
  if (all === undefined || all.connections === 0) return `${lines.join('\n')}\n`;
  lines.push('', 'With all of them no parser sees:');
  for (const [service, c] of Object.entries(all.content).slice(0, 12))
    lines.push(`  ${scaled(c.bytes, 'B').padStart(9)} of ${connections(c.connections)}: ${service}`);
  if (all.filesCut > 0) lines.push(`  files of ${connections(all.filesCut)} in the clear are cut`);
  for (const p of all.policies)
    lines.push(`  policy ${p.name}: ${connections(p.connections)}, ${scaled(p.bytes, 'B')}${asideText(p)}`);
  return `${lines.join('\n')}\n`;
}

function asideText({ noted, spared }: Outcome['policies'][number]): string {
  const parts = Object.entries(spared)
    .filter(([, n]) => n > 0)
    .map(([why, n]) => `${whole(n)} spared (${why})`);
  if (noted > 0) parts.unshift(`${whole(noted)} noted`);
  return parts.length === 0 ? '' : `; ${parts.join(', ')}`;
}

/** The result as one HTML file that needs nothing else: the table, and the traffic over time. */
export function whatIfPage(result: WhatIfResult, rate: SensorRate, title: string): string {
  const step = result.stepSeconds;
  const series = {
    x: result.total.map((_, i) => i * step),
    total: result.total.map((bytes) => (bytes * 8) / step / 1e6),
    left: result.scenarios.map(({ name, dropped }) => ({
      name,
      y: dropped.map((bytes, i) => ((result.total[i] - bytes) * 8) / step / 1e6),
    })),
  };
  return chartPage({
    title,
    style: '#chart { background: #fff; color: #1c2430; padding: 1rem 0; }',
    body: `<p>${whole(result.packets)} packets, ${escaped(scaled(result.bytes, 'B'))}, ${whole(result.connections)} connections in ${result.seconds.toFixed(1)} s.
A sensor core takes ${rate.low} to ${rate.high} Mb/s.</p>
<div id="chart" role="img" aria-label="Megabits per second that are left to the sensor, over time"></div>
<pre>${escaped(whatIfText(result, rate))}</pre>`,
    data: series,
    script: DRAW,
  });
}

const DRAW = `const colors = ['#0b6bcb', '#c2410c', '#15803d', '#7c3aed', '#be185d', '#0e7490', '#854d0e', '#475569', '#4d7c0f', '#a21caf'];
const chart = document.getElementById('chart');
const series = [{ label: 'seconds' }, { label: 'all traffic, Mb/s', stroke: '#111827', width: 2 }];
data.left.forEach(({ name }, i) => series.push({ label: 'left with ' + name, stroke: colors[i % colors.length], show: i < 4 }));
new uPlot({ width: Math.min(1100, chart.clientWidth), height: 420, scales: { x: { time: false } }, series,
  axes: [{ label: 'seconds from the first packet' }, { label: 'Mb/s', ...wide }] },
  [data.x, data.total, ...data.left.map(({ y }) => y)], chart);`;
