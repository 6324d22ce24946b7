import { useEffect, useRef, useState } from 'preact/hooks';
import type { FlowReport } from '../../src/api/board-shapes.ts';
import { ask } from './feed.ts';
import { clock, count, duration, scaled } from './format.ts';

export interface Asked {
  text: string;
  /** Grows with each question, so that the same one may be asked again. */
  number: number;
}

/** Why was this not seen by my sensor? */
export function Search({ ask: submit }: { ask: (text: string) => void }) {
  return (
    <form
      class="search"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        const text = new FormData(event.currentTarget).get('flow');
        if (typeof text === 'string' && text.trim() !== '') submit(text.trim());
      }}
    >
      <input
        name="flow"
        type="search"
        aria-label="Look up a flow"
        placeholder="Why not seen? tcp 10.0.0.1:443 10.0.0.2:51000"
        title="Ids of VLANs and tunnels stand behind it: vlan 100, vlan 100.200, vni 5000, geneve-vni 5000"
        autocomplete="off"
        spellcheck={false}
      />
      <button type="submit">Look up</button>
    </form>
  );
}

type Found = { report: FlowReport } | { problem: string } | undefined;

export function Answer(props: { asked: Asked; token: string | undefined; close: () => void }) {
  const { asked, token, close } = props;
  const [found, setFound] = useState<Found>();
  const [at, setAt] = useState(0);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    const over = new AbortController();
    setFound(undefined);
    const look = async (): Promise<void> => {
      try {
        const path = `/v1/flow?flow=${encodeURIComponent(asked.text)}`;
        setFound({ report: await ask<FlowReport>(path, token, { signal: over.signal }) });
        setAt(Date.now() / 1000);
      } catch (error) {
        if (!over.signal.aborted) setFound({ problem: (error as Error).message });
      }
    };
    void look();
    return () => over.abort();
  }, [asked, token]);
  useEffect(() => {
    if (found !== undefined) heading.current?.focus();
  }, [found]);
  return (
    <section class="panel w12 answer" aria-labelledby="answer">
      <header>
        <h2 id="answer" tabIndex={-1} ref={heading}>
          {asked.text}
        </h2>
        {at > 0 && <span class="note">as of {clock(at)}</span>}
        <button type="button" onClick={close}>
          Close
        </button>
      </header>
      {found === undefined && <p class="empty">Looking…</p>}
      {found !== undefined && 'problem' in found && (
        <p class="problem" role="alert">
          {found.problem}
        </p>
      )}
      {found !== undefined && 'report' in found && <Report report={found.report} at={at} />}
    </section>
  );
}

function Report({ report, at }: { report: FlowReport; at: number }) {
  const { why, text, gates, conn, shunt } = report;
  return (
    <>
      <p class={`verdict ${why}`} role="status">
        {text}
      </p>
      <dl class="facts">
        {gates.map((gate) => (
          <div key={gate.interface}>
            <dt>{gate.interface}</dt>
            <dd>
              {gate.shunt === null
                ? 'no entry in the gate'
                : `${gate.shunt.state} by ${gate.shunt.trigger || 'hand'}: ${count(gate.shunt.pkts)} packets, ${scaled(gate.shunt.ipBytes, 'B')} dropped${gate.shunt.last === null ? '' : `, the last ${duration(at - gate.shunt.last)} ago`}`}
              {gate.followed ? '; a worker follows it' : ''}
              {gate.exceptions.map((prefix) => `; never shunted: ${prefix}`).join('')}
              {gate.holds.map(({ holder }) => `; held by ${holder}`).join('')}
              {gate.pairs.map(({ a, b }) => `; all between ${a} and ${b} is dropped`).join('')}
            </dd>
          </div>
        ))}
        <Tail name="conn.log" tail={conn} />
        <Tail name="shunt.log" tail={shunt} />
      </dl>
    </>
  );
}

function Tail({ name, tail }: { name: string; tail: FlowReport['conn'] }) {
  const searched =
    tail === null
      ? 'there is none'
      : `${tail.whole ? 'all' : 'the last'} ${scaled(tail.bytes, 'B')} searched`;
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {tail === null || tail.records.length === 0
          ? `nothing (${searched})`
          : `${tail.records.length} lines (${searched})`}
        {tail?.records.map((record) => (
          <pre key={JSON.stringify(record)} tabIndex={0}>
            {Object.entries(record)
              .map(
                ([field, value]) => `${field}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
              )
              .join('  ')}
          </pre>
        ))}
      </dd>
    </div>
  );
}
