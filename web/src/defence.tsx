import { useState } from 'preact/hooks';
import type { Attack, Board, Rule, Session } from '../../src/api/board-shapes.ts';
import { ask } from './feed.ts';
import { clock, duration, evidenceText, percent, scaled, words } from './format.ts';
import { Empty, Exact, Panel, Table } from './parts.tsx';
import { place } from './series.ts';

interface RulesProps {
  board: Board;
  old: boolean;
  session: Session | undefined;
  token: string | undefined;
  logIn: (token: string | undefined) => void;
  refresh: () => void;
}

const WHY_NOT = {
  no: 'read-only: this run was started without --api-control-token-file',
  token: 'read-only until you log in with the control token',
  yes: 'each switch is written to audit.log',
} as const;

export function Rules({ board, old, session, token, logIn, refresh }: RulesProps) {
  const [problem, setProblem] = useState<string>();
  const [busy, setBusy] = useState<string>();
  const { rules } = board;
  const switches = session?.switches ?? 'no';
  const flip = async ({ interface: name, id, enabled }: Rule): Promise<void> => {
    setBusy(`${name} ${id}`);
    try {
      await ask('/v1/rules/switch', token, { body: { interface: name, id, on: !enabled } });
      setProblem(undefined);
    } catch (error) {
      setProblem((error as Error).message);
    }
    setBusy(undefined);
    refresh();
  };
  return (
    <Panel
      title="Rules"
      wide={12}
      old={old}
      note={rules === null ? undefined : WHY_NOT[switches]}
      tools={switches === 'token' && rules !== null ? <Unlock logIn={logIn} /> : undefined}
    >
      {problem !== undefined && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {rules === null ? (
        <Empty>
          This run has no rules: --mitigate and --mitigate-dry-run make some, and let people add theirs.
        </Empty>
      ) : rules.length === 0 ? (
        <Empty>No rule is in force.</Empty>
      ) : (
        <Table
          label="Rules"
          head={['On', 'Rule', 'Expression', 'Action', '#Matched', '#Dropped', '#Expires', 'Note']}
          less={[4, 5, 7, 8]}
        >
          {rules.map((rule) => (
            <tr key={`${rule.interface} ${rule.id}`} class={rule.enabled ? '' : 'off'}>
              <td>
                {switches === 'yes' ? (
                  <button
                    type="button"
                    role="switch"
                    class="switch"
                    aria-checked={rule.enabled}
                    aria-label={`Rule ${rule.id}`}
                    disabled={busy === `${rule.interface} ${rule.id}`}
                    onClick={() => void flip(rule)}
                  />
                ) : rule.enabled ? (
                  'on'
                ) : (
                  'off'
                )}
              </td>
              <td class="mono wrap">{rule.id}</td>
              <td class="mono wrap">{rule.expr}</td>
              <td>{rule.action}</td>
              <td class="n">
                <Exact name={`rule-${rule.id}-matched`} value={rule.matched.pkts} />
              </td>
              <td class="n" title={scaled(rule.dropped.bytes, 'B')}>
                <Exact name={`rule-${rule.id}-dropped`} value={rule.dropped.pkts} />
              </td>
              <td class="n">{rule.expires === null ? 'never' : duration(rule.expires - board.at)}</td>
              <td class="wrap">{rule.note || '–'}</td>
            </tr>
          ))}
        </Table>
      )}
    </Panel>
  );
}

function Unlock({ logIn }: { logIn: (token: string | undefined) => void }) {
  return (
    <form
      class="unlock"
      onSubmit={(event) => {
        event.preventDefault();
        const given = new FormData(event.currentTarget).get('token');
        if (typeof given === 'string' && given !== '') logIn(given.trim());
      }}
    >
      <input
        name="token"
        type="password"
        aria-label="Control token"
        placeholder="control token"
        autocomplete="off"
      />
      <button type="submit">Unlock</button>
    </form>
  );
}

/** Attacks on a line of time, each with what it was told from. */
export function Attacks({ board, old }: { board: Board; old: boolean }) {
  const { attacks, at } = board;
  if (attacks === null || attacks.length === 0)
    return (
      <Panel title="Attacks" wide={12} old={old}>
        <Empty>
          {attacks === null
            ? 'Nothing looks for attacks: --mitigate and --mitigate-dry-run do.'
            : 'No attack since the start.'}
        </Empty>
      </Panel>
    );
  const from = Math.min(at - 300, ...attacks.map(({ began }) => began));
  const lasting = attacks.filter(({ ended, attack }) => ended === null && attack).length;
  return (
    <Panel
      title="Attacks"
      wide={12}
      old={old}
      note={lasting === 0 ? 'none lasts' : lasting === 1 ? 'one lasts' : `${lasting} last`}
    >
      <div class="axis" aria-hidden="true">
        <span>{clock(from)}</span>
        <span>{clock((from + at) / 2)}</span>
        <span>{clock(at)}</span>
      </div>
      <ul class="attacks">
        {attacks.map((attack) => (
          <AttackLine key={`${attack.interface} ${attack.id}`} attack={attack} from={from} to={at} />
        ))}
      </ul>
    </Panel>
  );
}

function AttackLine({ attack, from, to }: { attack: Attack; from: number; to: number }) {
  const { began, ended, kind, target, peak, usual, why, rules, evidence, dryRun, surprise } = attack;
  const left = place(began, from, to);
  const right = place(ended ?? to, from, to);
  const what = attack.attack ? kind : `no attack: ${surprise ?? ''}`;
  const lasts = ended === null ? `since ${duration(to - began)}` : `for ${duration(ended - began)}`;
  return (
    <li class={attack.attack ? (ended === null ? 'lasts' : '') : 'none'}>
      <div class="track" aria-hidden="true">
        <span style={{ left: `${left}%`, width: `${Math.max(0.6, right - left)}%` }} />
      </div>
      <details>
        <summary>
          <b>{what}</b> on <span class="mono">{target}</span> · {clock(began)}, {lasts} · peak{' '}
          {scaled(peak, 'pkt/s')}{' '}
          <span class="dim">
            (usual {scaled(usual, 'pkt/s')}) · {rules.length} {dryRun ? 'proposed ' : ''}
            {rules.length === 1 ? 'rule' : 'rules'}
          </span>
        </summary>
        <p>{why}</p>
        {rules.length > 0 && (
          <ul class="plain">
            {rules.map(({ id, expr, action, covers }) => (
              <li key={id}>
                {action} <code>{expr}</code> <span class="dim">matches {percent(covers)} of it</span>
              </li>
            ))}
          </ul>
        )}
        <dl class="evidence">
          {Object.entries(evidence).map(([name, value]) => (
            <div key={name}>
              <dt>{words(name)}</dt>
              <dd>{evidenceText(value)}</dd>
            </div>
          ))}
        </dl>
      </details>
    </li>
  );
}
