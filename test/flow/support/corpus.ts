import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { FileSource } from '../../../src/capture/file.ts';
import {
  type ConnRecord,
  createFlowEngine,
  type FlowEngine,
  type LikelyServerPorts,
} from '../../../src/flow/index.ts';
import type { Packet } from '../../../src/packet/packet.ts';

export interface CorpusCase {
  name: string;
  tier: number;
  bare: boolean;
  checksums_ignored: boolean;
  likely_server_ports: string[] | 'default';
  linktype: string;
  packets: number;
  format: string;
  tags: string[];
  /** What the service column was made with: all of Zeek's analyzers, those in `loaded`, or other settings. */
  service_scope: 'default' | 'loaded' | 'altered';
  loaded: string[];
  config: { bpf?: string };
}

/** The folder with cases.json, or undefined when there is none. */
export function corpusRoot(): string | undefined {
  const root = resolve(process.env['SLUICE_CORPUS'] ?? '../shared/corpus/zeek');
  return existsSync(join(root, 'cases.json')) ? root : undefined;
}

export function readCases(root: string): CorpusCase[] {
  return JSON.parse(readFileSync(join(root, 'cases.json'), 'utf8')) as CorpusCase[];
}

/** The only filter that the cases use. */
function passes(filter: string | undefined, packet: Packet): boolean {
  if (filter === undefined) return true;
  if (filter !== 'vlan') throw new Error(`a filter that is not known here: ${filter}`);
  return packet.u8[packet.offset + 12] === 0x81 && packet.u8[packet.offset + 13] === 0;
}

function portsOf(list: string[]): LikelyServerPorts {
  const of = (proto: string) =>
    list.filter((port) => port.endsWith(`/${proto}`)).map((port) => Number.parseInt(port, 10));
  return { tcp: of('tcp'), udp: of('udp') };
}

/** All connections of a case; `done` is shown the engine that they went through. */
export function runCase(
  root: string,
  entry: CorpusCase,
  done: (engine: FlowEngine) => void = () => {},
): ConnRecord[] {
  const records: ConnRecord[] = [];
  const ports = entry.likely_server_ports;
  const engine = createFlowEngine(
    {
      bare: entry.bare && !entry.loaded.includes('base/protocols/dns'),
      // Also where Zeek had loaded a few analyzers only: what they found has to be found.
      services: true,
      checksums: !entry.checksums_ignored,
      maxFlows: 1 << 14,
      ...(ports === 'default' ? {} : { likelyServerPorts: portsOf(ports) }),
    },
    {
      beforePacket: () => undefined,
      mayExpire: () => true,
      closed: (slot) => records.push(engine.record(slot)),
    },
  );
  const source = FileSource.open(join(root, entry.name, `trace.${entry.format}`));
  try {
    const sink = (packet: Packet) => {
      if (passes(entry.config.bpf, packet)) engine.process(packet);
    };
    while (source.drain(sink, 100_000));
    if (source.problem !== undefined) throw source.problem;
  } finally {
    source.close();
  }
  engine.finish();
  done(engine);
  return records;
}

/** A record with the names of conn.log. */
export function logLine(record: ConnRecord): string {
  return JSON.stringify({
    ts: record.ts,
    uid: record.uid,
    'id.orig_h': record.origHost,
    'id.orig_p': record.origPort,
    'id.resp_h': record.respHost,
    'id.resp_p': record.respPort,
    proto: record.proto,
    ip_proto: record.ipProto,
    service: record.service,
    duration: record.duration === undefined ? undefined : Number(record.duration.toFixed(6)),
    orig_bytes: record.origBytes,
    resp_bytes: record.respBytes,
    conn_state: record.connState,
    local_orig: record.localOrig,
    local_resp: record.localResp,
    missed_bytes: record.missedBytes,
    history: record.history,
    orig_pkts: record.origPkts,
    orig_ip_bytes: record.origIpBytes,
    resp_pkts: record.respPkts,
    resp_ip_bytes: record.respIpBytes,
    tunnel_parents: record.tunnelParents,
  });
}

/** A field of one connection that is not what Zeek wrote. */
export interface Difference {
  case: string;
  conn: string;
  field: string;
  expected: string;
  actual: string;
}

export interface Comparison {
  /** Share of the fields that agree: of all cases, and of the worst one. */
  agree: number;
  worst: number;
  differences: Difference[];
  /** Connections that have no counterpart, of either log. */
  unmatched: string[];
  /** Of all cases: fields compared, connections expected. */
  fields: number;
  conns: number;
}

/** What compare-conn.py --json prints, as far as it is used. */
interface CaseResult {
  fields_ok: number;
  fields_total: number;
  expected: number;
  missing: string[];
  extra: string[];
  mismatches: { conn: string; fields: { field: string; expected: string; actual: string }[] }[];
}

/** Runs the cases and the corpus' own comparison over them. */
export function compare(root: string, cases: readonly CorpusCase[], args: readonly string[]): Comparison {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-corpus-'));
  try {
    const actual = join(dir, 'actual');
    mkdirSync(actual);
    for (const entry of cases) {
      const lines = runCase(root, entry).map(logLine);
      writeFileSync(join(actual, `${entry.name}.jsonl`), lines.map((line) => `${line}\n`).join(''));
    }
    const list = join(dir, 'cases.json');
    writeFileSync(list, JSON.stringify(cases));
    const script = resolve(root, '..', 'compare-conn.py');
    const run = spawnSync(
      'python3',
      [script, '--cases', list, '--root', root, '--actual-dir', actual, '--json', ...args],
      { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
    );
    if (run.status !== 0 && run.status !== 1) throw new Error(`compare-conn.py failed: ${run.stderr}`);
    const { cases: results } = JSON.parse(run.stdout) as { cases: Record<string, CaseResult> };
    return sum(results);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function sum(results: Readonly<Record<string, CaseResult>>): Comparison {
  const out: Comparison = { agree: 0, worst: 1, differences: [], unmatched: [], fields: 0, conns: 0 };
  let ok = 0;
  for (const [name, result] of Object.entries(results)) {
    ok += result.fields_ok;
    out.fields += result.fields_total;
    out.conns += result.expected;
    out.worst = Math.min(out.worst, result.fields_ok / result.fields_total);
    out.unmatched.push(...[...result.missing, ...result.extra].map((conn) => `${name}: ${conn}`));
    for (const { conn, fields } of result.mismatches)
      out.differences.push(...fields.map((field) => ({ case: name, conn, ...field })));
  }
  out.agree = ok / out.fields;
  return out;
}
