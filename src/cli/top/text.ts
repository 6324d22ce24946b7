import { grouped, scaled } from '../../base/units.ts';
import { lossLines } from '../../gate/losses/text.ts';
import type { TopFrame } from './frame.ts';
import { type Around, clip, rateOf, safe, viewLines } from './views.ts';

const LOSSES = 8;
/** Columns of what a line is about. */
const NAMES = 10;
/** Lines that a window has to have for more than a list. */
const ROOM = 16;
const KEYS = 'q quit · Tab view (o f t r a l) · s sort · p pause';

const time = (at: number): string => new Date(at * 1000).toISOString().slice(11, 19);

/** A frame as lines, none wider than the terminal; in a window that is too low the end is left out. */
export function frameLines(frame: TopFrame, around: Around): string[] {
  const { columns, rows, view, keys, paint } = around;
  const lines: string[] = [...headLines(frame, around)];
  // In a low window the list that was asked for comes before what stands above all lists.
  if (view === 'overview' || rows >= ROOM) {
    lines.push('', ...trafficLines(frame, rateOf(frame.seconds, around)).map((line) => clip(line, columns)));
    lines.push('');
    if (view !== 'losses') lines.push(...lossText(frame, around));
    // The overview begins with one of its own.
    if (view !== 'losses' && view !== 'overview') lines.push('');
  }
  const room = Math.max(0, rows - lines.length - (keys ? 1 : 0));
  lines.push(...(view === 'losses' ? lossText(frame, around) : viewLines(frame, around)).slice(0, room));
  if (keys && lines.length < rows) lines.push(paint('dim', clip(KEYS, columns)));
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
  lines.push(`${open}${grouped(shunts.live)} ${shunts.live === 1 ? 'entry' : 'entries'} in the gate`);
  return lines;
}

function lossText({ losses, seconds }: TopFrame, around: Around): string[] {
  const { columns, paint, view } = around;
  if (losses === null) return [];
  const rate = rateOf(seconds, around);
  const lines = lossLines(losses, view === 'losses' ? { rate, all: true } : { rate, most: LOSSES });
  const isLost = losses.rows.some(({ kind, total }) => kind === 'loss' && total > 0);
  return lines
    .filter(([name]) => view === 'losses' || name !== 'noted')
    .map(([name, text]) => {
      const line = clip(safe(`${name.padEnd(NAMES)} ${text}`), columns);
      if (name !== 'lost') return line;
      return paint(isLost ? 'red' : 'green', line);
    });
}
