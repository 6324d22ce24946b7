import { useMemo, useState } from 'preact/hooks';
import { OUTCOMES, type Point } from '../../src/api/point.ts';
import { Chart, type Line } from './chart.tsx';
import { clock, count, percent, scaled } from './format.ts';
import { Choice, Panel } from './parts.tsx';
import { columns, latest, lossesOf, stacked } from './series.ts';

const NAMES: Readonly<Record<(typeof OUTCOMES)[number], { text: string; color: string }>> = {
  passed: { text: 'To the sensor', color: '--passed' },
  shunted: { text: 'Shunted', color: '--shunted' },
  ruleDropped: { text: 'Dropped by rules', color: '--rules' },
  rateLimited: { text: 'Over a limit', color: '--limited' },
  steered: { text: 'Steered', color: '--steered' },
  aborted: { text: 'Aborted', color: '--aborted' },
};
const WINDOWS = [
  { value: 60, text: '1 min' },
  { value: 300, text: '5 min' },
  { value: 900, text: '15 min' },
] as const;

/** Everything that arrives, by what becomes of it. */
export function Traffic({ points, theme }: { points: readonly Point[]; theme: string }) {
  const [unit, setUnit] = useState<'bits' | 'pkts'>('bits');
  const [seconds, setSeconds] = useState<number>(300);
  const text = (value: number): string => scaled(value, unit === 'bits' ? 'bit/s' : 'pkt/s');
  const { data, lines, marks } = useMemo(() => {
    const shown = OUTCOMES.map((outcome, i) => ({ outcome, i })).filter(
      ({ i }) => i < 2 || points.some((point) => (point[unit][i] ?? 0) > 0),
    );
    const [times, ...parts] = columns(
      points,
      shown.map(
        ({ i }) =>
          (point: Point) =>
            point[unit][i] ?? 0,
      ),
    );
    const sums = stacked(parts).toReversed();
    const colors: Line[] = shown
      .map(({ outcome }) => ({ label: NAMES[outcome].text, color: NAMES[outcome].color, fill: true }))
      .toReversed();
    return {
      data: [times, ...sums] as [number[], ...(number | null)[][]],
      lines: colors,
      marks: points.filter(({ lost }) => lost > 0).map(({ t }) => t),
    };
  }, [points, unit]);
  const window = latest(points, seconds);
  const lost = lossesOf(window);
  const now = points.at(-1);
  const total = now?.[unit].reduce((sum, value) => sum + value, 0) ?? 0;
  return (
    <Panel
      title="Traffic by what becomes of it"
      wide={12}
      tools={
        <>
          <Choice
            label="Unit"
            value={unit}
            options={[
              { value: 'bits', text: 'bit/s' },
              { value: 'pkts', text: 'pkt/s' },
            ]}
            set={setUnit}
          />
          <Choice label="Span" value={seconds} options={WINDOWS} set={setSeconds} />
        </>
      }
    >
      <Chart
        label={`Traffic over ${seconds} seconds: now ${text(total)} arrive, ${text(now?.[unit][0] ?? 0)} reach the sensor, ${text(now?.[unit][1] ?? 0)} are shunted; ${count(lost.pkts)} packets were lost`}
        data={data}
        lines={lines}
        marks={marks}
        seconds={seconds}
        height={260}
        text={text}
        theme={theme}
      />
      <ul class="legend">
        {lines.toReversed().map(({ label, color }) => {
          const i = OUTCOMES.findIndex((outcome) => NAMES[outcome].text === label);
          const value = now?.[unit][i] ?? 0;
          return (
            <li key={label}>
              <span class="swatch" style={{ background: `var(${color})` }} />
              {label} <b>{text(value)}</b> <span class="dim">{percent(value, total)}</span>
            </li>
          );
        })}
        <li class={lost.pkts > 0 ? 'bad' : ''}>
          <span class="swatch lost" />
          Lost <b>{count(lost.pkts)}</b>{' '}
          <span class="dim">
            {lost.last === undefined ? 'packets in this span' : `packets, the last at ${clock(lost.last)}`}
          </span>
        </li>
      </ul>
    </Panel>
  );
}
