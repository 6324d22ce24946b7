import { useMemo } from 'preact/hooks';
import type { Board } from '../../src/api/board-shapes.ts';
import type { Point } from '../../src/api/point.ts';
import type { Status } from '../../src/api/shapes.ts';
import { Chart } from './chart.tsx';
import { percent, scaled } from './format.ts';
import { Bar, Exact, Panel } from './parts.tsx';
import { columns } from './series.ts';

const SPAN = 300;
const WORKER_COLORS = ['--w0', '--w1', '--w2', '--w3', '--w4', '--w5'] as const;

const used = (value: number | null | undefined): string =>
  typeof value === 'number' ? percent(value) : 'not known';

export function WorkersCpu(props: { points: readonly Point[]; board: Board | undefined; theme: string }) {
  const { points, board, theme } = props;
  const names = (board?.sources ?? []).flatMap(({ name, workers }) => workers.map((_, i) => `${name}/${i}`));
  const now = points.at(-1);
  const number = now?.workers.length ?? 0;
  const data = useMemo(
    () =>
      columns(
        points,
        Array.from({ length: number }, (_, i) => (point: Point) => point.workers[i] ?? null),
      ),
    [points, number],
  );
  const lines = Array.from({ length: number }, (_, i) => ({
    label: names[i] ?? `worker ${i}`,
    color: WORKER_COLORS[i % WORKER_COLORS.length] ?? '--w0',
  }));
  return (
    <Panel title="CPU per worker" wide={4} note={<>whole process {used(now?.cpus)}</>}>
      <Chart
        label={`CPU per worker: ${lines.map(({ label }, i) => `${label} ${used(now?.workers[i])}`).join(', ')}`}
        data={data}
        lines={lines}
        seconds={SPAN}
        height={150}
        least={0.1}
        text={(value) => percent(value)}
        theme={theme}
      />
      <ul class="legend">
        {lines.map(({ label, color }, i) => (
          <li key={label}>
            <span class="swatch" style={{ background: `var(${color})` }} />
            {label} <b>{used(now?.workers[i])}</b>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

/** What the sensor did not have to look at. */
export function Relief({ status }: { status: Status }) {
  const { ledger, localBypass } = status;
  return (
    <Panel title="Sensor relief" wide={4} note="since the start">
      {ledger === null ? (
        <p class="empty">
          Without a gate nothing is dropped early; {scaled(localBypass.bytes, 'B')} were counted and not
          analysed.
        </p>
      ) : (
        <>
          <p class="big">
            {percent(ledger.seen.bytes - ledger.passed.bytes, ledger.seen.bytes)} <small>of the bytes</small>
          </p>
          <Bar share={(ledger.seen.bytes - ledger.passed.bytes) / Math.max(1, ledger.seen.bytes)} />
          <p class="big">
            {percent(ledger.seen.pkts - ledger.passed.pkts, ledger.seen.pkts)} <small>of the packets</small>
          </p>
          <Bar share={(ledger.seen.pkts - ledger.passed.pkts) / Math.max(1, ledger.seen.pkts)} />
          <dl>
            <dt>Not seen by the sensor</dt>
            <dd>
              {scaled(ledger.seen.bytes - ledger.passed.bytes, 'B')},{' '}
              <Exact value={ledger.seen.pkts - ledger.passed.pkts} /> packets
            </dd>
            <dt>Left to the sensor</dt>
            <dd>
              {scaled(ledger.passed.bytes, 'B')}, <Exact value={ledger.passed.pkts} /> packets
            </dd>
          </dl>
        </>
      )}
    </Panel>
  );
}

export function Shunts(props: { points: readonly Point[]; status: Status; theme: string }) {
  const { points, status, theme } = props;
  const { shunts, connections } = status;
  const data = useMemo(() => columns(points, [(point) => point.open, (point) => point.live]), [points]);
  return (
    <Panel title="Connections and shunts" wide={4}>
      <Chart
        label={`${shunts.live} shunts are live, ${connections.open} connections open`}
        data={data}
        lines={[
          { label: 'open', color: '--passed' },
          { label: 'shunted', color: '--shunted-line' },
        ]}
        seconds={SPAN}
        height={150}
        least={4}
        text={(value) => scaled(value, '')}
        theme={theme}
      />
      <ul class="legend">
        <li>
          <span class="swatch" style={{ background: 'var(--passed)' }} />
          Open <Exact name="open" value={connections.open} />
        </li>
        <li>
          <span class="swatch" style={{ background: 'var(--shunted-line)' }} />
          Shunts live <Exact name="shunts-live" value={shunts.live} />
        </li>
        <li>
          closed <Exact name="shunts-closed" value={Math.max(0, shunts.started - shunts.live)} />
        </li>
        <li>
          begun <Exact name="shunts-started" value={shunts.started} />
        </li>
        <li class={shunts.refused > 0 ? 'warn' : ''}>
          refused <Exact value={shunts.refused} />
        </li>
        <li>
          ended <Exact name="connections" value={connections.ended} />
        </li>
      </ul>
    </Panel>
  );
}
