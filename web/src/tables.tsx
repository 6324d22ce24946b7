import type { Board } from '../../src/api/board-shapes.ts';
import { count, duration, endpoint, percent, scaled, tags } from './format.ts';
import { Bar, Empty, Exact, Panel, Table } from './parts.tsx';

const SHOWN_FLOWS = 12;

interface BoardProps {
  board: Board;
  old: boolean;
}

/** `search`: asks about a flow. */
export function TopFlows({ board, old, search }: BoardProps & { search: (flow: string) => void }) {
  const { top, entries } = board.shunts;
  const most = top[0]?.ipBytes ?? 1;
  return (
    <Panel title="Top shunted flows" wide={8} old={old} note={`${count(entries)} entries in the gate`}>
      {top.length === 0 ? (
        <Empty>No flow is being shunted.</Empty>
      ) : (
        <Table
          label="Top shunted flows"
          head={['Flow', 'By', 'State', '#Since', '#Packets', '#Dropped']}
          less={[2, 3, 4, 5]}
        >
          {top.slice(0, SHOWN_FLOWS).map((flow) => {
            const ids = tags(flow);
            const text = `${flow.proto} ${endpoint(flow.a)} ${endpoint(flow.b)}${ids}`;
            return (
              <tr key={`${flow.interface} ${text}`}>
                <td>
                  <button
                    type="button"
                    class="link mono"
                    onClick={() => search(text)}
                    aria-label={`Look up ${text}`}
                  >
                    <span class="dim">{flow.proto}</span> {endpoint(flow.a)} ↔ {endpoint(flow.b)}
                    <span class="dim">{ids}</span>
                  </button>
                </td>
                <td>{flow.trigger === '' ? flow.owner || 'by hand' : flow.trigger}</td>
                <td>{flow.state}</td>
                <td class="n">{flow.since === null ? '–' : duration(board.at - flow.since)}</td>
                <td class="n">
                  <Exact value={flow.pkts} />
                </td>
                <td class="n">
                  <Bar share={flow.ipBytes / most} /> {scaled(flow.ipBytes, 'B')}
                </td>
              </tr>
            );
          })}
        </Table>
      )}
    </Panel>
  );
}

export function Talkers({ board, old }: BoardProps) {
  const { hosts, seconds } = board.talkers;
  const most = Math.max(1, ...hosts.map(({ bytes, liveBytes }) => bytes + liveBytes));
  return (
    <Panel
      title="Talkers"
      wide={4}
      old={old}
      note={`ended in ${Math.round(seconds / 60)} min, and shunted now`}
    >
      {hosts.length === 0 ? (
        <Empty>No connection has ended yet.</Empty>
      ) : (
        <Table label="Talkers" head={['Address', '#Conns', '#IP bytes', '#Shunted']}>
          {hosts.slice(0, 12).map(({ name, connections, bytes, shuntedBytes, liveBytes }) => (
            <tr key={name}>
              <td class="mono">{name}</td>
              <td class="n">{count(connections)}</td>
              <td class="n">
                <Bar share={(bytes + liveBytes) / most} /> {scaled(bytes + liveBytes, 'B')}
              </td>
              <td class="n">{percent(shuntedBytes + liveBytes, bytes + liveBytes)}</td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

export function Services({ board, old }: BoardProps) {
  return (
    <Panel title="Services" wide={4} old={old} note="ended connections, since the start">
      {board.services.length === 0 ? (
        <Empty>No connection has ended yet.</Empty>
      ) : (
        <Table label="Services" head={['Service', '#Conns', '#IP bytes', '#Shunted']}>
          {board.services.slice(0, 12).map(({ name, connections, bytes, shuntedBytes }) => (
            <tr key={name}>
              <td>{name}</td>
              <td class="n">
                <Exact value={connections} />
              </td>
              <td class="n">{scaled(bytes, 'B')}</td>
              <td class="n">{percent(shuntedBytes, bytes)}</td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

export function Policies({ board, old }: BoardProps) {
  const all = board.policies.reduce((sum, { bytes }) => sum + bytes, 0);
  return (
    <Panel
      title="Policies"
      wide={12}
      old={old}
      note="what they kept from the sensor, of shunts that are over"
    >
      {board.policies.length === 0 ? (
        <Empty>This run has no policies.</Empty>
      ) : (
        <Table
          label="Policies"
          head={['Policy', '#Connections', '#Packets', '#IP bytes', '#Yield', '#Noted', 'Spared']}
          less={[3, 5, 7]}
        >
          {board.policies.map(({ name, connections, pkts, bytes, noted, spared }) => (
            <tr key={name}>
              <td>{name}</td>
              <td class="n">
                <Exact name={`policy-${name}-connections`} value={connections} />
              </td>
              <td class="n">
                <Exact name={`policy-${name}-pkts`} value={pkts} />
              </td>
              <td class="n">{scaled(bytes, 'B')}</td>
              <td class="n">
                <Bar share={bytes / Math.max(1, all)} />{' '}
                {connections === 0 ? '–' : `${scaled(bytes / connections, 'B')} each`}
              </td>
              <td class="n">{count(noted)}</td>
              <td>
                {Object.entries(spared)
                  .filter(([, times]) => times > 0)
                  .map(([why, times]) => `${count(times)} ${why}`)
                  .join(', ') || '–'}
              </td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

const MARKS = { ok: '✓', warning: '!', bad: '✕' } as const;

export function Checks({ board, old }: BoardProps) {
  return (
    <Panel title="Health" wide={3} old={old}>
      <ul class="checks">
        {board.checks.map(({ name, state, text }) => (
          <li key={name} class={state}>
            <span class="mark" aria-hidden="true">
              {MARKS[state]}
            </span>
            <b>
              {name}
              <span class="hidden">: {state}</span>
            </b>
            <span>{text}</span>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

export function Sources({ board, old }: BoardProps) {
  return (
    <Panel title="Sources" wide={7} old={old}>
      <Table label="Sources" head={['Worker', 'Gate', '#Packets', '#Lost']}>
        {board.sources.flatMap(({ name, mode, capture, workers }) =>
          workers.map(({ packets, dropped }, i) => (
            <tr key={`${name}/${i}`} class={dropped > 0 ? 'bad' : ''}>
              <td>
                {name}/{i}
              </td>
              <td>
                {mode}, {capture}
              </td>
              <td class="n">
                <Exact value={packets} />
              </td>
              <td class="n">
                <Exact value={dropped} />
              </td>
            </tr>
          )),
        )}
      </Table>
    </Panel>
  );
}
