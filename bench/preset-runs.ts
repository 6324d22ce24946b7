/** Traffic of presets through `sluice run` behind the gate, and what became of each kind. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { SluiceError } from '../src/base/errors.ts';
import { interfaceCounters, PacketSender, packageRoot } from '../src/kernel/index.ts';
import { readLog } from '../src/log/reader.ts';
import { eth } from '../src/packet/build.ts';
import { pcapFile } from '../src/packet/pcap.ts';
import type { RunSummary } from '../src/sensor/report.ts';
import { endsOf, framesOf, type Kind, serversOf } from './preset-traffic.ts';

export interface PresetSizes {
  /** Of each kind. */
  connections: number;
  /** Packets behind the beginning of each connection. */
  packets: number;
  /** Packets a second, of as many connections at a time. */
  rate: number;
  atATime: number;
  /**
   * Each connection stops behind its trigger until all shunts have begun, however long that takes: what is dropped then does
   * not depend on the machine. Times are not to be had of it.
   */
  paused: boolean;
}

/** One run of all kinds in which those of `kept` are kept. */
export interface PresetPart {
  kinds: readonly Kind[];
  policies: readonly Record<string, unknown>[];
  kept: ReadonlySet<number>;
  /** Of each kind, at most. */
  connections?: number | undefined;
}

export interface KindRun {
  readonly kind: Kind;
  /** It was to be kept: its carrier or a veto says so. */
  readonly kept: boolean;
  readonly connections: number;
  readonly shunted: number;
  readonly packets: number;
  readonly bytes: number;
  readonly droppedPackets: number;
  /** IP bytes. */
  readonly droppedBytes: number;
  /** Seconds from the triggering packet to the first one that was dropped. */
  readonly delays: readonly number[];
  /** Triggers other than its own. */
  readonly strangers: readonly string[];
  /** What differs in the records from those of a sensor that saw all of it. */
  readonly differences: readonly string[];
}

export interface PresetRun {
  readonly kinds: readonly KindRun[];
  readonly summary: RunSummary;
  /** Frames that were sent into the interface. */
  readonly sent: number;
  /** Connections that vetoes were told of. */
  readonly vetoed: number;
}

type Line = Record<string, unknown>;

const SLUICE = join(packageRoot(), 'bin', 'sluice.js');
const READY_MS = 60_000;
const END_MS = 120_000;
const PAUSE_MS = 120_000;
const BURST = 32;
/** Frames on their way at most: the queue of the interface takes 256. */
const WINDOW = 128;
/** So many milliseconds, and more, frames are waited for. */
const ARRIVAL_MS = 10_000;
const TIMES = new Set(['ts', 'uid', 'duration', 'tunnel_parents']);

/** Of a connection of nobody's. */
const NOISE = eth()
  .ipv4({ src: '10.9.9.1', dst: '10.9.9.2' })
  .udp({ sport: 9, dport: 9 })
  .payload(20)
  .bytes();

/** Frames of many connections, so many at a time, evenly mixed. */
function ordered(parts: readonly (readonly Uint8Array[])[], atATime: number): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (let at = 0; at < parts.length; at += atATime) {
    const group = parts
      .slice(at, at + atATime)
      .flatMap((frames, nth) =>
        frames.map((bytes, i) => ({ bytes, at: (i + 0.5) / frames.length + nth * 1e-9 })),
      );
    out.push(...group.sort((a, b) => a.at - b.at).map(({ bytes }) => bytes));
  }
  return out;
}

function policyFile(kinds: readonly Kind[], policies: readonly Line[], kept: ReadonlySet<number>): string {
  const carriers = kinds.flatMap(({ carrier }, i) => (kept.has(i) && carrier !== undefined ? [carrier] : []));
  const vetoes = kinds.flatMap(({ carrier }, i) =>
    kept.has(i) && carrier === undefined ? [serversOf(i)] : [],
  );
  const all: Line[] = [...policies];
  if (kinds.some(({ trigger }) => trigger === 'TLS_ESTABLISHED'))
    all.push({ preset: carriers.length === 0 ? 'tls' : `tls=-${carriers.join('-')}`, priority: 1 });
  if (vetoes.length > 0)
    all.push({ name: 'kept', when: `resp.addr in {${vetoes.join(', ')}}`, action: 'never' });
  return JSON.stringify({ policies: all });
}

const lines = (directory: string, name: string): Line[] => {
  const path = join(directory, `${name}.log`);
  return existsSync(path) ? readLog(path).records : [];
};

const shuntsIn = (directory: string, event: 'start' | 'end'): Line[] =>
  lines(directory, 'shunt').filter((line) => line['event'] === event);

const tuple = (line: Line): string =>
  ['id.orig_h', 'id.orig_p', 'id.resp_h', 'id.resp_p', 'proto'].map((field) => String(line[field])).join(' ');

/** By connection: what conn.log says beside times, and ssl.log. */
function recordsOf(directory: string): Map<string, Line> {
  const records = new Map<string, Line>();
  for (const conn of lines(directory, 'conn')) records.set(tuple(conn), conn);
  for (const ssl of lines(directory, 'ssl')) {
    const conn = records.get(
      tuple({ ...ssl, proto: records.has(tuple({ ...ssl, proto: 'tcp' })) ? 'tcp' : 'udp' }),
    );
    for (const [field, value] of Object.entries(ssl))
      if (conn !== undefined && !(field in conn) && !TIMES.has(field)) conn[`ssl.${field}`] = value;
  }
  return records;
}

function differencesOf(mine: Line | undefined, theirs: Line): string[] {
  if (mine === undefined) return ['there is no record'];
  return Object.keys(theirs)
    .filter((field) => !TIMES.has(field) && !field.includes('shunt'))
    .filter((field) => String(mine[field]) !== String(theirs[field]))
    .map((field) => `${field} ${String(mine[field])} in place of ${String(theirs[field])}`);
}

async function send(
  { near, far }: { near: string; far: string },
  frames: readonly Uint8Array[],
  rate: number,
): Promise<void> {
  using sender = new PacketSender(far);
  const arrived = () => interfaceCounters(near).rxPackets;
  const before = arrived();
  const begin = performance.now();
  for (let sent = 0; sent < frames.length; ) {
    const part = frames.slice(sent, sent + BURST);
    const offsets = new Uint32Array(part.length + 1);
    for (const [i, frame] of part.entries()) offsets[i + 1] = offsets[i] + frame.length;
    sent += sender.send(Buffer.concat(part), offsets);
    await pause(Math.max(0, begin + (sent * 1000) / rate - performance.now()));
    for (let i = 0; i < ARRIVAL_MS && sent - (arrived() - before) > WINDOW; i++) await pause(1);
  }
  for (let i = 0; i < ARRIVAL_MS && arrived() - before < frames.length; i++) await pause(1);
}

/** `sluice run` on this interface while `work` is done; its summary. */
async function running(
  ifname: string,
  args: readonly string[],
  work: () => Promise<void>,
): Promise<RunSummary> {
  const child = spawn(process.execPath, [SLUICE, 'run', '-i', ifname, '--tap', '--json', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, said] = ['', ''];
  child.stdout.on('data', (data: Buffer) => {
    out += data.toString();
  });
  child.stderr.on('data', (data: Buffer) => {
    said += data.toString();
  });
  const closed = once(child, 'close');
  try {
    for (const until = Date.now() + READY_MS; !/^ready$/m.test(said); await pause(10))
      if (child.exitCode !== null || Date.now() > until)
        throw new SluiceError('LAB', `sluice run was not ready: ${said}`);
    await work();
    child.kill('SIGTERM');
    const late = setTimeout(() => child.kill('SIGKILL'), END_MS);
    await closed;
    clearTimeout(late);
    if (child.exitCode !== 0)
      throw new SluiceError('LAB', `sluice run ended with ${child.exitCode}: ${said}`);
    return JSON.parse(out) as RunSummary;
  } finally {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  }
}

/**
 * Sends all kinds from `far` to `near`, an interface pair of this thread's network namespace, on which `sluice run` shunts by
 * these policies and `tls`; those of `kept` are kept by their carrier or a veto. Errors: LAB.
 */
export async function runPresets(
  ends: { near: string; far: string },
  { kinds, policies, kept, connections: most = Number.POSITIVE_INFINITY }: PresetPart,
  sizes: PresetSizes,
): Promise<PresetRun> {
  const connections = Math.min(most, sizes.connections);
  const directory = mkdtempSync(join(tmpdir(), 'sluice-presets-'));
  try {
    const parts = kinds.map((kind, at) =>
      Array.from({ length: connections }, (_, nth) => framesOf(kind, at, nth, sizes.packets)),
    );
    const behind = sizes.paused ? Math.floor(sizes.packets / 2) : 0;
    const [frames, rest] = [
      (part: Uint8Array[]) => part.slice(0, part.length - behind),
      (part: Uint8Array[]) => part.slice(part.length - behind),
    ].map((cut) => ordered(parts.flat().map(cut), sizes.atATime));
    writeFileSync(join(directory, 'policies.yaml'), policyFile(kinds, policies, kept));
    const logs = (name: string) => ['--log-dir', join(directory, name), '--log-format', 'json'];
    const files = ['--policy', 'none', '--policy-file', join(directory, 'policies.yaml')];
    let noise = 0;
    const summary = await running(ends.near, [...files, ...logs('gate')], async () => {
      await send(ends, frames, sizes.rate);
      if (!sizes.paused) return;
      // A shunt takes its steps when packets come.
      const wanted = kinds.filter((_, at) => !kept.has(at)).length * connections;
      for (
        const until = Date.now() + PAUSE_MS;
        shuntsIn(join(directory, 'gate'), 'start').length < wanted && Date.now() < until;
        noise += BURST
      )
        await send(ends, Array<Uint8Array>(BURST).fill(NOISE), 20 * BURST);
      await send(ends, rest, sizes.rate);
    });
    const all = sizes.paused ? [...frames, ...rest] : frames;
    reference(directory, all, logs('whole'));
    const [gated, whole] = [recordsOf(join(directory, 'gate')), recordsOf(join(directory, 'whole'))];
    const ended = shuntsIn(join(directory, 'gate'), 'end');
    return {
      kinds: kinds.map((kind, at) =>
        kindRun(kind, kept.has(at), parts[at], serversAt(kind, at, connections), gated, whole, ended),
      ),
      summary,
      sent: all.length + noise,
      vetoed: summary.policies['kept']?.spared.never ?? 0,
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const serversAt = (kind: Kind, at: number, connections: number): ReadonlySet<string> =>
  new Set(Array.from({ length: connections }, (_, nth) => endsOf(at, nth, kind.transport).server));

/** The same frames, all of them, as a capture file. */
function reference(directory: string, frames: readonly Uint8Array[], logs: readonly string[]): void {
  const file = join(directory, 'whole.pcap');
  writeFileSync(file, pcapFile(frames.map((bytes, i) => ({ ts: 1_700_000_000 + i * 1e-4, bytes }))));
  const { status, stderr } = spawnSync(process.execPath, [SLUICE, 'read', file, '--json', ...logs], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (status !== 0) throw new SluiceError('LAB', `sluice read ended with ${status}: ${stderr}`);
}

function kindRun(
  kind: Kind,
  kept: boolean,
  parts: readonly (readonly Uint8Array[])[],
  servers: ReadonlySet<string>,
  gated: ReadonlyMap<string, Line>,
  whole: ReadonlyMap<string, Line>,
  ends: readonly Line[],
): KindRun {
  const mine = ({ 'id.resp_h': resp, 'id.orig_h': orig }: Line) =>
    servers.has(String(resp)) || servers.has(String(orig));
  const records = [...gated.values()].filter(mine);
  const number = (line: Line, field: string) => Number(line[field] ?? 0);
  const sum = (...fields: string[]) =>
    records.reduce((total, line) => total + fields.reduce((part, field) => part + number(line, field), 0), 0);
  const own = ends.filter(mine);
  const differences = [...whole].flatMap(([name, line]) =>
    mine(line) ? differencesOf(gated.get(name), line).map((what) => `${name}: ${what}`) : [],
  );
  const services = new Set(records.map(({ service }) => service as string | undefined));
  if (services.size !== 1 || !services.has(kind.service))
    differences.push(`service ${[...services].join(' and ')} in place of ${kind.service}`);
  if (records.length !== parts.length) differences.push(`${records.length} records`);
  return {
    kind,
    kept,
    connections: parts.length,
    shunted: records.filter((line) => line['is_shunted'] === true).length,
    packets: parts.flat().length,
    bytes: sum('orig_ip_bytes', 'resp_ip_bytes'),
    droppedPackets: sum('orig_shunted_pkts', 'resp_shunted_pkts'),
    droppedBytes: sum('orig_shunted_bytes', 'resp_shunted_bytes'),
    delays: own.flatMap(({ delay }) => (typeof delay === 'number' ? [delay] : [])),
    strangers: own.flatMap(({ shunt_trigger: by }) => (by === kind.trigger ? [] : [String(by)])),
    differences,
  };
}
