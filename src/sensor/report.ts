import type { CommandIo } from '../base/io.ts';
import { scaled } from '../base/units.ts';
import type { Ledger } from '../gate/index.ts';
import { type LossReport, reportLines } from './losses/index.ts';
import type { PolicyCounts, Snapshot } from './snapshot.ts';
import type { EarlyDrop, Station } from './station.ts';
import { type UdpBooks, udpBooks } from './udp-books.ts';

/** What `sluice run --json` ends with. */
export interface RunSummary {
  seconds: number;
  /** `drop`: where what is shunted is dropped; `capture`: ring, or afxdp with its mode. */
  interfaces: { interface: string; mode: string; drop: EarlyDrop; capture: string }[];
  /** What became of each listener's datagrams; `mode` of the gate before it, or none. */
  udp: ({ source: string; mode: string; drop: EarlyDrop } & UdpBooks)[];
  /** Undefined without a gate. */
  ledger: Ledger | undefined;
  /** The capture rings: frames that reached them, those they had no room for, and how often one was full. */
  ring: { packets: number; drops: number; freezes: number };
  connections: number;
  shuntedConnections: number;
  /** Connections that began in an earlier run. */
  recovered: number;
  policies: Record<string, PolicyCounts>;
  /** Where nothing drops early: connections, packets that were counted and not analysed, their IP bytes. */
  localBypass: Snapshot['localBypass'];
  /** TCP connections that have ended and tell whether both directions were seen (`judged`), and those of which one was not. */
  directions: { judged: number; oneWay: number };
  refused: number;
  latePackets: number;
  /** Seconds from the packet that triggered a shunt to the first dropped one. */
  timeToDrop: { shunts: number; median: number; p99: number } | undefined;
  cpuSeconds: number;
  logLinesLost: number;
  /** What became of packets on their way, counter by counter (docs/losses.md). */
  losses: LossReport;
  logDir: string;
  /** What ended the run before its time. */
  error?: { code: string; message: string; help?: string };
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

export function summarize(
  end: Snapshot,
  seconds: number,
  delays: readonly number[],
  stations: readonly Station[],
  losses: LossReport,
  logDir: string,
): RunSummary {
  const sorted = delays.toSorted((a, b) => a - b);
  return {
    seconds,
    interfaces: stations
      .filter(({ kind }) => kind === 'interface')
      .map(({ name, mode, earlyDrop, capture }) => ({ interface: name, mode, drop: earlyDrop, capture })),
    udp: stations
      .filter(({ kind }) => kind === 'udp')
      .map(({ name, mode, earlyDrop, stats }) => ({
        source: name,
        mode,
        drop: earlyDrop,
        ...udpBooks(stats),
      })),
    ledger: end.ledger,
    ring: { packets: end.ringPackets, drops: end.ringDrops, freezes: end.ringFreezes },
    connections: end.connections,
    shuntedConnections: end.shuntedConnections,
    recovered: end.recovered,
    policies: Object.fromEntries(end.policies.map(({ name, ...counts }) => [name, counts])),
    localBypass: end.localBypass,
    directions: { judged: end.judged, oneWay: end.oneWay },
    refused: end.refused,
    latePackets: end.latePackets,
    timeToDrop:
      sorted.length === 0
        ? undefined
        : { shunts: sorted.length, median: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) },
    cpuSeconds: end.cpu,
    logLinesLost: end.logLinesLost,
    losses,
    logDir,
  };
}

const count = (n: number): string => n.toLocaleString('en-US');
const ms = (seconds: number): string => `${(seconds * 1000).toFixed(0)} ms`;
const percent = (part: number, whole: number): string =>
  whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : '–';
const rate = (now: number, before: number, seconds: number): number =>
  seconds > 0 ? (now - before) / seconds : 0;

/** The live view: what arrives, what the gate drops of it, what that leaves to the sensor. */
export function progressText(now: Snapshot, last: Snapshot, first: Snapshot, io: CommandIo): string {
  const seconds = now.at - last.at;
  const cpu = `sensor CPU ${(100 * rate(now.cpu, last.cpu, seconds)).toFixed(0)} %`;
  const clock = `${(now.at - first.at).toFixed(0)} s`;
  const flows = `${now.activeFlows} connections open, ${now.shuntsLive} in the gate`;
  if (now.ledger === undefined || last.ledger === undefined) {
    const bits = scaled(rate(now.bytes, last.bytes, seconds) * 8, 'bit/s');
    const drops = now.ringDrops + now.socketDrops;
    const lost = drops > 0 ? `, ${drops} lost` : '';
    return `${clock}  ${bits}, ${scaled(rate(now.packets, last.packets, seconds), 'pkt/s')}${lost} · ${flows} · ${cpu}`;
  }
  const seen = now.ledger.seen;
  const shunted = now.ledger.shunted;
  const bits = rate(seen.bytes, last.ledger.seen.bytes, seconds) * 8;
  const dropped = rate(shunted.bytes, last.ledger.shunted.bytes, seconds) * 8;
  const drops = now.ringDrops + now.socketDrops;
  const lost = drops > 0 ? io.paint('red', `, ${drops} lost before the sensor`) : '';
  return (
    `${clock}  tap ${scaled(bits, 'bit/s')}, ${scaled(rate(seen.pkts, last.ledger.seen.pkts, seconds), 'pkt/s')}` +
    ` · ${io.paint('green', `shunted ${percent(dropped, bits)}`)} (in all ${percent(shunted.bytes, seen.bytes)})` +
    `${lost} · ${flows} · ${cpu}`
  );
}

/** What became of a mirror's datagrams. */
function bookLines({ datagrams, frames, early, dropped, bad, cut }: UdpBooks): [string, string][] {
  const lines: [string, string][] = [
    [
      'datagrams',
      `${count(datagrams)}, of which ${count(frames)} analysed, ${count(dropped)} lost in the socket`,
    ],
  ];
  const rest = Object.entries({ ...bad, 'before the start': early, cut }).filter(([, n]) => n > 0);
  if (rest.length > 0) lines.push(['', rest.map(([why, n]) => `${why}: ${count(n)}`).join(', ')]);
  return lines;
}

/** The end of a run for people: aligned, one fact a line. */
export function summaryText(s: RunSummary, io: Pick<CommandIo, 'paint'>): string {
  const lines: [string, string][] = [];
  const ledger = s.ledger;
  if (s.interfaces.length > 0)
    lines.push([
      'interface',
      s.interfaces.map((i) => `${i.interface} (gate: ${i.mode}; capture: ${i.capture})`).join(', '),
    ]);
  for (const { source, mode, ...books } of s.udp)
    lines.push(['mirror', mode === 'none' ? source : `${source} (gate: ${mode})`], ...bookLines(books));
  lines.push(['time', `${s.seconds.toFixed(1)} s, ${s.cpuSeconds.toFixed(1)} s of CPU`]);
  if (ledger !== undefined) {
    const of = (c: { pkts: number; bytes: number }): string =>
      `${count(c.pkts)} packets, ${scaled(c.bytes, 'B')}`;
    lines.push(['seen', of(ledger.seen)]);
    lines.push([
      'shunted',
      `${of(ledger.shunted)}  (${percent(ledger.shunted.bytes, ledger.seen.bytes)} of the bytes dropped before the sensor)`,
    ]);
    lines.push(['passed', of(ledger.passed)]);
    if (ledger.aborted.pkts > 0) lines.push(['aborted', of(ledger.aborted)]);
  }
  if (s.interfaces.length > 0)
    lines.push(['ring', `${count(s.ring.packets)} packets, ${count(s.ring.drops)} lost`]);
  lines.push(['connections', `${count(s.connections)}, of which ${count(s.shuntedConnections)} shunted`]);
  for (const [name, p] of Object.entries(ledger === undefined ? {} : s.policies)) {
    lines.push([
      `policy ${name}`,
      `${count(p.connections)} connections, ${count(p.pkts)} packets, ${scaled(p.bytes, 'B')} not sent to the sensor`,
    ]);
    const spared = Object.entries(p.spared).filter(([, n]) => n > 0);
    if (p.noted > 0) lines.push(['', `${count(p.noted)} connections noted`]);
    if (spared.length > 0)
      lines.push(['', `spared: ${spared.map(([why, n]) => `${count(n)} (${why})`).join(', ')}`]);
  }
  if (s.localBypass.connections > 0) {
    const { connections, pkts, bytes } = s.localBypass;
    lines.push([
      'local bypass',
      `${count(connections)} connections, ${count(pkts)} packets, ${scaled(bytes, 'B')} counted and not analysed`,
    ]);
  }
  if (s.directions.oneWay > 0)
    lines.push([
      'one way',
      `${count(s.directions.oneWay)} of ${count(s.directions.judged)} TCP connections (${percent(s.directions.oneWay, s.directions.judged)})`,
    ]);
  if (s.timeToDrop !== undefined) {
    lines.push([
      'time to drop',
      `median ${ms(s.timeToDrop.median)}, p99 ${ms(s.timeToDrop.p99)} from the triggering packet (${count(s.timeToDrop.shunts)} shunts)`,
    ]);
  }
  if (s.recovered > 0)
    lines.push(['recovered', `${count(s.recovered)} connections that an earlier run had begun`]);
  if (s.refused > 0) lines.push(['refused', `${count(s.refused)} shunts (see shunt.log)`]);
  lines.push(...reportLines(s.losses));
  lines.push(['logs', s.logDir]);
  const width = Math.max(...lines.map(([name]) => name.length));
  return `${lines.map(([name, value]) => `${io.paint('bold', name.padEnd(width))}  ${value}`).join('\n')}\n`;
}
