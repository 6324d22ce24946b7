import type { Board } from '../../src/api/board-shapes.ts';
import type { Status } from '../../src/api/shapes.ts';
import { percent, scaled } from './format.ts';
import { Empty, Exact, Panel, Table } from './parts.tsx';

const ROWS = [
  ['seen', 'Seen by the gate'],
  ['passed', 'Passed to the sensor'],
  ['shunted', 'Shunted'],
  ['ruleDropped', 'Dropped by rules'],
  ['rateLimited', 'Over a limit'],
  ['steered', 'Steered'],
  ['aborted', 'Aborted'],
] as const;

/** Every packet once, and what was lost. */
export function LedgerPanel({ status }: { status: Status }) {
  const { ledger, losses, packets, bytes } = status;
  return (
    <Panel title="Ledger" wide={5} note="since the start; seen is the sum">
      <Table label="Ledger" head={['', '#Packets', '#Bytes', '#Share']} less={[4]}>
        {ledger !== null &&
          ROWS.map(([name, text]) => (
            <tr key={name}>
              <th scope="row">{text}</th>
              <td class="n">
                <Exact name={`${name}-pkts`} value={ledger[name].pkts} />
              </td>
              <td class="n" title={scaled(ledger[name].bytes, 'B')}>
                <Exact name={`${name}-bytes`} value={ledger[name].bytes} />
              </td>
              <td class="n">{percent(ledger[name].bytes, ledger.seen.bytes)}</td>
            </tr>
          ))}
        <tr class="rule">
          <th scope="row">Handled by the workers</th>
          <td class="n">
            <Exact name="handled-pkts" value={packets} />
          </td>
          <td class="n">
            <Exact name="handled-bytes" value={bytes} />
          </td>
          <td />
        </tr>
        {(
          [
            ['lost-ring', 'Lost: capture ring full', losses.ring],
            ['lost-socket', 'Lost: UDP socket full', losses.socket],
            ['lost-lines', 'Log lines not written', losses.logLines],
          ] as const
        ).map(([name, text, value]) => (
          <tr key={name} class={value > 0 ? 'bad' : ''}>
            <th scope="row">{text}</th>
            <td class="n">
              <Exact name={name} value={value} />
            </td>
            <td />
            <td />
          </tr>
        ))}
      </Table>
    </Panel>
  );
}

/** Where packets got lost between the card and the logs. What was dropped on purpose is in the ledger above. */
export function Losses({ board, old }: { board: Board; old: boolean }) {
  const { rows, lost } = board.losses;
  const shown = rows.filter(({ kind, total }) => total > 0 && (kind === 'loss' || kind === 'warning'));
  const looked = new Set(rows.filter(({ kind }) => kind === 'loss').map(({ stage }) => stage));
  return (
    <Panel title="Losses" wide={5} old={old} note={`looked for in: ${[...looked].join(', ')}`}>
      {shown.length === 0 ? (
        <Empty>Nothing is lost.</Empty>
      ) : (
        <Table label="Losses" head={['Where', 'What', '#Total', '#Now']} fits>
          {shown.map(({ stage, where, counter, kind, unit, total, rate }) => (
            <tr key={`${stage} ${where} ${counter}`} class={kind === 'loss' ? 'bad' : ''}>
              <td class="place">
                {stage} <span class="dim">{where || 'machine'}</span>
              </td>
              <td class="wrap">
                {counter}
                {kind === 'warning' ? ' (a warning, in no sum)' : ''}
              </td>
              <td class="n">
                <Exact value={total} /> {unit}
              </td>
              <td class="n">{rate > 0 ? scaled(rate, '/s') : '–'}</td>
            </tr>
          ))}
          <tr class="rule">
            <th scope="row" colSpan={2}>
              Packets lost in all
            </th>
            <td class="n">
              <Exact value={lost.packets} />
            </td>
            <td class="n">{lost.rate > 0 ? scaled(lost.rate, '/s') : '–'}</td>
          </tr>
        </Table>
      )}
    </Panel>
  );
}
