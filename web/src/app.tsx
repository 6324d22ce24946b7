import { useState } from 'preact/hooks';
import type { Tick } from '../../src/api/shapes.ts';
import { Relief, Shunts, WorkersCpu } from './charts.tsx';
import { Attacks, Rules } from './defence.tsx';
import { clock, count, duration, percent, scaled } from './format.ts';
import { STALE_SECONDS } from './freshness.ts';
import { LedgerPanel, Losses } from './ledger.tsx';
import { Login } from './login.tsx';
import { Choice } from './parts.tsx';
import { Answer, type Asked, Search } from './search.tsx';
import { Checks, Policies, Services, Sources, Talkers, TopFlows } from './tables.tsx';
import { useTheme } from './theme.ts';
import { Traffic } from './traffic.tsx';
import { type RunView, useRun } from './use-run.ts';

/** What is looked up every few seconds is old after this. */
const BOARD_STALE = 15;

export function App() {
  const run = useRun();
  const { theme, shown, set } = useTheme();
  const [asked, setAsked] = useState<Asked>();
  const { tick, points, board } = run;
  const search = (text: string): void => setAsked((before) => ({ text, number: (before?.number ?? 0) + 1 }));
  const isOld = run.freshness === 'stale' || run.freshness === 'ended';
  const boardOld = isOld || (run.boardAge ?? 0) > BOARD_STALE;
  return (
    <>
      <header class="top">
        <h1>Sluice</h1>
        <State run={run} />
        <Search ask={search} />
        <Choice
          label="Colours"
          value={theme}
          options={[
            { value: 'auto', text: 'Auto' },
            { value: 'light', text: 'Light' },
            { value: 'dark', text: 'Dark' },
          ]}
          set={set}
        />
        {run.token !== undefined && (
          <button type="button" onClick={() => run.logIn(undefined)}>
            Log out
          </button>
        )}
      </header>
      <Notice run={run} />
      <main class={isOld ? 'old' : ''} data-freshness={run.freshness}>
        {run.login !== 'none' && <Login wrong={run.login === 'wrong'} logIn={run.logIn} />}
        {asked !== undefined && (
          <Answer key={asked.number} asked={asked} token={run.token} close={() => setAsked(undefined)} />
        )}
        {run.login === 'none' && tick === undefined && <p class="empty">Waiting for the first numbers…</p>}
        {run.login === 'none' && tick !== undefined && (
          <>
            <Tiles tick={tick} />
            <Traffic points={points} theme={shown} />
            <WorkersCpu points={points} board={board} theme={shown} />
            <Relief status={tick.status} />
            <Shunts points={points} status={tick.status} theme={shown} />
            <LedgerPanel status={tick.status} />
            {board !== undefined && (
              <>
                <Checks board={board} old={boardOld} />
                <Services board={board} old={boardOld} />
                <TopFlows board={board} old={boardOld} search={search} />
                <Talkers board={board} old={boardOld} />
                <Policies board={board} old={boardOld} />
                <Sources board={board} old={boardOld} />
                <Losses board={board} old={boardOld} />
                <Rules {...run} board={board} old={boardOld} />
                <Attacks board={board} old={boardOld} />
              </>
            )}
          </>
        )}
      </main>
      {tick !== undefined && (
        <footer>
          Sluice {tick.status.version} · started{' '}
          {new Date(tick.status.started * 1000).toLocaleString('en-GB')} ·{' '}
          {scaled(tick.status.memoryBytes, 'B')} of memory
        </footer>
      )}
    </>
  );
}

/** How old everything here is: the first thing to look at. */
function State({ run }: { run: RunView }) {
  const { freshness, age = 0 } = run;
  const text = {
    waiting: 'connecting',
    live: `live · ${age.toFixed(0)} s old`,
    late: `late · ${age.toFixed(0)} s old`,
    stale: `stale · ${duration(age)} old`,
    ended: `ended · ${duration(age)} ago`,
  }[freshness];
  return (
    <span class={`state ${freshness}`} data-state={freshness}>
      <span class="dot" aria-hidden="true" />
      {text}
    </span>
  );
}

function Notice({ run }: { run: RunView }) {
  const { freshness, tick, retryIn } = run;
  const again = retryIn === undefined ? '' : ` Trying again in ${Math.ceil(retryIn)} s.`;
  const at = tick === undefined ? '' : clock(tick.status.at);
  return (
    <div class="notice" role="status">
      {freshness === 'stale' && (
        <p>
          No numbers for more than {STALE_SECONDS} s: what is below is from {at}, and may be wrong by now.
          {again}
        </p>
      )}
      {freshness === 'ended' && (
        <p>The run has ended at {at}: these are its last numbers. A new run will show up here.</p>
      )}
      {freshness === 'waiting' && run.login === 'none' && retryIn !== undefined && (
        <p>The run cannot be reached.{again}</p>
      )}
    </div>
  );
}

function Tiles({ tick }: { tick: Tick }) {
  const { rates, status } = tick;
  const lost = status.losses.packets;
  const tiles = [
    { name: 'Arriving', value: scaled(rates.seenBits, 'bit/s'), more: scaled(rates.seenPkts, 'pkt/s') },
    {
      name: 'Shunted now',
      value: percent(rates.shuntedBits, rates.seenBits),
      more: scaled(rates.shuntedBits, 'bit/s'),
    },
    {
      name: 'To the sensor',
      value: scaled(rates.sensorBits, 'bit/s'),
      more: scaled(rates.sensorPkts, 'pkt/s'),
    },
    {
      name: 'Lost',
      value: count(lost),
      more: lost === 0 ? 'packets, since the start' : `${scaled(rates.lostPkts, 'pkt/s')} now`,
      state: lost === 0 ? '' : 'bad',
    },
    {
      name: 'Connections',
      value: count(status.connections.open),
      more: `${scaled(rates.connectionsEnded, '/s')} end`,
    },
    {
      name: 'Live shunts',
      value: count(status.shunts.live),
      more: `${scaled(rates.shuntsStarted, '/s')} begin`,
    },
    { name: 'CPU', value: percent(rates.cpus), more: 'of one processor' },
  ];
  return (
    <dl class="tiles">
      {tiles.map(({ name, value, more, state = '' }) => (
        <div key={name} class={state}>
          <dt>{name}</dt>
          <dd>
            {value}
            <small>{more}</small>
          </dd>
        </div>
      ))}
    </dl>
  );
}
