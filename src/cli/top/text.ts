import type { CommandIo } from '../../base/io.ts';
import { grouped, scaled } from '../../base/units.ts';
import type { Sort, TopFlow, TopFrame } from './frame.ts';

/** What is said around a frame. */
export interface Around {
  columns: number;
  /** Lines that there is room for. */
  rows: number;
  sort: Sort;
  paused: boolean;
  /** Seconds without an answer; undefined: the figures are of now. */
  silent: number | undefined;
  paint: CommandIo['paint'];
  /** Keys are read. */
  keys: boolean;
}

const WIDE = 76;
const RULES = 6;
const LOSSES = 8;

const time = (at: number): string => new Date(at * 1000).toISOString().slice(11, 19);
const clip = (text: string, columns: number): string =>
  text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 1))}…`;
/** Text that other programs or people have chosen: no control characters reach the terminal. */
const safe = (text: string): string => text.replaceAll(/\p{Cc}/gu, '?');

/** A frame as lines, none wider than the terminal; in a window that is too low the end is left out. */
export function frameLines(frame: TopFrame, around: Around): string[] {
  const { columns, rows, paint } = around;
  const lines: string[] = [...headLines(frame, around)];
  const put = (text: string): void => {
    lines.push(clip(text, columns));
  };
  const live = around.silent === undefined;
  const rate = (text: string): string => (live && frame.seconds > 0 ? text : '–');
  put('');
  for (const line of trafficLines(frame, rate)) put(line);
  put('');
  lines.push(...lossLines(frame, around, rate));
  for (const { id, kind, target, peak } of frame.attacks)
    lines.push(
      paint(
        'red',
        clip(`attack ${safe(id)}  ${safe(kind)}  ${safe(target)}  peak ${grouped(peak)}/s`, columns),
      ),
    );
  if (frame.rules.length > 0) {
    put('');
    lines.push(paint('bold', clip(`rules (${frame.rules.length})   dropped/s      dropped`, columns)));
    for (const rule of frame.rules.toSorted((a, b) => b.dropRate - a.dropRate).slice(0, RULES))
      put(
        `${rule.enabled ? 'on ' : 'off'} ${rate(grouped(Math.round(rule.dropRate))).padStart(15)} ${grouped(rule.dropped).padStart(12)}  ${safe(rule.action)}  ${safe(rule.expr)}`,
      );
  }
  put('');
  lines.push(...flowLines(frame, around, rate));
  if (around.keys && lines.length < rows)
    lines.push(paint('dim', clip('s sort · p pause · q quit', columns)));
  return lines.slice(0, rows);
}

function headLines(frame: TopFrame, { columns, paused, silent, paint }: Around): string[] {
  const who = frame.kind === 'run' ? 'run' : 'gate';
  const pid = frame.pid === null ? '' : `, process ${frame.pid}`;
  const title = clip(
    `sluice top · ${who} on ${safe(frame.name)} (${frame.mode}${pid}) · ${time(frame.at)} UTC`,
    columns,
  );
  if (silent !== undefined)
    return [
      paint(
        'red',
        clip(`NO ANSWER for ${silent.toFixed(0)} s: figures are of ${time(frame.at)} UTC`, columns),
      ),
      title,
    ];
  if (paused) return [paint('yellow', clip(`PAUSED at ${time(frame.at)} UTC`, columns)), title];
  return [paint('bold', title)];
}

function trafficLines(
  { rates, ledger, handled, connections, shunts }: TopFrame,
  rate: (text: string) => string,
): string[] {
  const line = (name: string, pkts: number, bits: number | undefined, total: number | undefined): string =>
    `${name.padEnd(8)}${rate(scaled(pkts, 'pkt/s')).padStart(13)}${(bits === undefined ? '' : rate(scaled(bits, 'bit/s'))).padStart(14)}${total === undefined ? '' : `${grouped(total)} packets`.padStart(26)}`;
  const lines = [line('seen', rates.seenPkts, rates.seenBits, ledger?.seen.pkts ?? handled?.pkts)];
  if (ledger !== null) {
    lines.push(line('shunted', rates.shuntedPkts, rates.shuntedBits, ledger.shunted.pkts));
    lines.push(
      line('rules', rates.droppedPkts, undefined, ledger.ruleDropped.pkts + ledger.rateLimited.pkts),
    );
    lines.push(line('passed', rates.passedPkts, undefined, ledger.passed.pkts));
  }
  const open = connections === null ? '' : `${grouped(connections)} connections open, `;
  lines.push(`${open}${grouped(shunts.live)} entries in the gate`);
  return lines;
}

function lossLines(
  { losses }: TopFrame,
  { columns, paint }: Around,
  rate: (text: string) => string,
): string[] {
  if (losses === null) return [];
  const told = losses.rows.filter(({ kind, total }) => kind === 'loss' && total > 0);
  if (told.length === 0) return [paint('green', clip('lost    nothing, from the card on', columns))];
  const head = `lost    ${grouped(losses.lost.packets)} packets, ${rate(`${grouped(Math.round(losses.lost.rate))}/s`)}`;
  return [
    paint('red', clip(head, columns)),
    ...told
      .toSorted((a, b) => b.rate - a.rate || b.total - a.total)
      .slice(0, LOSSES)
      .map(({ stage, where, counter, unit, total, rate: now }) =>
        clip(
          `  ${stage} ${safe(where)} ${counter}: ${grouped(total)} ${unit}, ${rate(`${grouped(Math.round(now))}/s`)}`,
          columns,
        ),
      ),
  ];
}

function flowLines(
  frame: TopFrame,
  { columns, rows, sort, paint }: Around,
  rate: (text: string) => string,
): string[] {
  const { listed, top, live } = frame.shunts;
  if (!listed) return live === 0 ? [] : [clip('shunted flows are not listed here', columns)];
  const wide = columns >= WIDE;
  const head = wide
    ? `${'bit/s'.padStart(12)}${'pkt/s'.padStart(12)}${'dropped'.padStart(10)}  shunted flow, by ${sort}`
    : `${'bit/s'.padStart(10)}  shunted flow`;
  const line = (flow: TopFlow): string => {
    const name = `${flow.proto} ${flow.a} ${flow.b}`;
    const bits = rate(scaled(flow.bitRate, '').trim());
    if (!wide) return `${bits.padStart(10)}  ${name}`;
    const by = [flow.owner, flow.trigger].filter((text) => text !== '').map(safe);
    return `${bits.padStart(12)}${rate(scaled(flow.pktRate, '').trim()).padStart(12)}${scaled(flow.bytes, 'B').padStart(10)}  ${name}  ${by.join(' ')}`;
  };
  return [paint('bold', clip(head, columns)), ...top.slice(0, rows).map((flow) => clip(line(flow), columns))];
}
