import { isIPv6 } from 'node:net';
import { type BpfMap, RingBuffer } from '../kernel/index.ts';
import { mappedAddress, mappedText } from './exceptions.ts';
import { protocolName } from './flow-key.ts';
import { SlPacket, SlTrace, SlTraceFilter } from './layout.gen.ts';
import { VERDICTS, type Verdict } from './layout.ts';

const F = SlTraceFilter.members;
const T = SlTrace.members;
const P = SlPacket.members;

/** SL_TRACE_* of bpf/gate.h. */
export const TracePart = { proto: 1, a: 2, b: 4, portA: 8, portB: 16 } as const;
/** SL_P_* of bpf/gate.h. */
const PacketFlag = { fragment: 1, later: 2, first: 4 } as const;
const IPPROTO_TCP = 6;

/** Which packets to tell of, in either direction; what is left out may be anything. */
export interface TraceFilter {
  /** IP protocol number. */
  proto?: number;
  a?: string;
  b?: string;
  portA?: number;
  portB?: number;
}

/** A decision on one packet, as `gate trace --json` prints it. */
export interface TraceRow {
  /** Seconds since the epoch. */
  ts: number;
  cpu: number;
  action: 'drop' | 'pass';
  verdict: Verdict;
  reason: string;
  /** Bytes of the frame. */
  length: number;
  vlan: number;
  innerVlan: number;
  /** Empty: not IP, or not parsed so far. */
  proto: string;
  src: { addr: string; port: number | null } | null;
  dst: { addr: string; port: number | null } | null;
  fragment: 'first' | 'later' | null;
  tcp: { flags: string; seq: number; ack: number; window: number } | null;
  /** Bytes behind the transport header. */
  payload: number | null;
  /** Of what a rule decided. */
  rule: number | null;
}

/** Why, in words. */
export const VERDICT_TEXT: Readonly<Record<Verdict, string>> = {
  aborted: 'the program failed',
  shunted: 'an entry of its flow',
  passNoEntry: 'no entry',
  passNotIp: 'not IP',
  passFragment: 'a fragment',
  passParse: 'cut, malformed, or beyond what is parsed',
  passArmed: 'its entry is armed: about to shunt',
  passEnding: 'its entry is ending',
  passClose: 'a SYN, FIN or RST ends its entry',
  passLease: "the lease of its entry's owner is over",
  passIdle: 'its entry was idle too long',
  passOther: 'a protocol that carries others',
  passLimit: 'the time of its entry is over',
  passException: 'an exception: never shunted',
  shuntedPair: 'an entry of its address pair or prefix',
  shuntedPeer: "another sensor's entry, in a table of its own",
  ruleDropped: 'a rule',
  rateLimited: 'a rule that limits the rate',
  passTunnel: 'a tunnel in which there is nothing to look at',
  passCarrier: 'its entry is of the same flow in other tunnels, or of a tunnel',
  passHost: "the host's own traffic",
};

const DROPS: ReadonlySet<Verdict> = new Set([
  'shunted',
  'shuntedPair',
  'shuntedPeer',
  'ruleDropped',
  'rateLimited',
]);

/** The row of the map `trace_filter`; no record is lost yet. @throws SluiceError USAGE for what is no address */
export function filterRow({ proto, a, b, portA, portB }: TraceFilter): Uint8Array {
  const row = new Uint8Array(SlTraceFilter.size);
  const view = new DataView(row.buffer);
  let parts = 0;
  if (proto !== undefined) {
    parts |= TracePart.proto;
    view.setUint32(F.proto, proto, true);
  }
  if (a !== undefined) {
    parts |= TracePart.a;
    row.set(mappedAddress(a), F.a);
  }
  if (b !== undefined) {
    parts |= TracePart.b;
    row.set(mappedAddress(b), F.b);
  }
  if (portA !== undefined) {
    parts |= TracePart.portA;
    view.setUint16(F.port_a, portA);
  }
  if (portB !== undefined) {
    parts |= TracePart.portB;
    view.setUint16(F.port_b, portB);
  }
  view.setUint32(F.parts, parts, true);
  return row;
}

/** Seconds that CLOCK_MONOTONIC is behind the time of day. */
export function monotonicEpoch(): number {
  const [s, ns] = process.hrtime();
  return Date.now() / 1000 - (s + ns / 1e9);
}

function u64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

const FLAG_LETTERS = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];

function tcpFlags(bits: number): string {
  return FLAG_LETTERS.filter((_, bit) => (bits & (1 << bit)) !== 0).join('');
}

/** Reads one record of the ring. */
export function traceRow(view: DataView, at: number, epoch: number): TraceRow {
  const p = at + T.packet;
  const verdict = VERDICTS[view.getUint32(at + T.verdict, true)] ?? 'aborted';
  const family = view.getUint8(p + P.family);
  const proto = view.getUint8(p + P.proto);
  const flags = view.getUint8(p + P.flags);
  const vlans = view.getUint32(p + P.vlans, true);
  const keyed = VERDICTS[view.getUint8(p + P.parsed)] === 'shunted';
  const ports = keyed || (flags & PacketFlag.first) !== 0;
  const end = (high: boolean, port: number) => {
    const size = family === 4 ? 4 : 16;
    const from = p + P.key + (high ? size : 0);
    const bytes = new Uint8Array(16);
    if (family === 4) bytes.set([0xff, 0xff], 10);
    bytes.set(new Uint8Array(view.buffer, view.byteOffset + from, size), 16 - size);
    return { addr: mappedText(bytes, 0), port: ports ? view.getUint16(p + port) : null };
  };
  const turned = view.getUint8(p + P.dir) !== 0;
  const ruled = verdict === 'ruleDropped' || verdict === 'rateLimited';
  return {
    ts: epoch + u64(view, at + T.time) / 1e9,
    cpu: view.getUint32(at + T.cpu, true),
    action: DROPS.has(verdict) ? 'drop' : 'pass',
    verdict,
    reason: VERDICT_TEXT[verdict],
    length: view.getUint32(p + P.frame_len, true),
    vlan: (vlans >>> 8) & 0xfff,
    innerVlan: vlans >>> 20,
    proto: family === 0 ? '' : protocolName(proto),
    src: family === 0 ? null : end(turned, P.sport),
    dst: family === 0 ? null : end(!turned, P.dport),
    fragment:
      (flags & PacketFlag.fragment) === 0 ? null : (flags & PacketFlag.later) === 0 ? 'first' : 'later',
    tcp:
      ports && proto === IPPROTO_TCP
        ? {
            flags: tcpFlags(view.getUint8(p + P.tcp_flags)),
            seq: view.getUint32(p + P.seq, true),
            ack: view.getUint32(p + P.ack, true),
            window: ntohs(view.getUint16(p + P.window, true)),
          }
        : null,
    payload: ports ? view.getUint32(p + P.payload, true) : null,
    rule: ruled ? view.getUint32(p + P.rule, true) : null,
  };
}

const ntohs = (value: number): number => ((value & 0xff) << 8) | (value >>> 8);

const endText = ({ addr, port }: { addr: string; port: number | null }): string => {
  const host = isIPv6(addr) && port !== null ? `[${addr}]` : addr;
  return port === null ? host : `${host}:${port}`;
};

/** A row for people. */
export function traceText(row: TraceRow): string {
  const { src, dst, tcp } = row;
  const tags = row.vlan === 0 ? '' : ` vlan ${row.vlan}${row.innerVlan === 0 ? '' : `.${row.innerVlan}`}`;
  const what = src === null || dst === null ? '' : ` ${row.proto} ${endText(src)} > ${endText(dst)}`;
  const part = row.fragment === null ? '' : ` ${row.fragment} fragment`;
  const segment = tcp === null ? '' : ` [${tcp.flags}] seq ${tcp.seq} ack ${tcp.ack}`;
  const payload = row.payload === null ? '' : ` payload ${row.payload}`;
  const rule = row.rule === null ? '' : ` ${row.rule}`;
  const time = new Date(row.ts * 1000).toISOString().slice(11, 23);
  return `${time} ${row.action}${what}${tags}${part}${segment}${payload}, ${row.length} bytes: ${row.reason}${rule}`;
}

/** Rows that wait to be read here, beyond those in the kernel's ring. */
const ROOM = 4096;

/** Collects what the gate tells until it is read. */
export class TraceReader {
  readonly #filter: BpfMap;
  readonly #ring: RingBuffer;
  #rows: TraceRow[] = [];
  #lost = 0;

  constructor(ring: BpfMap, filter: BpfMap) {
    this.#filter = filter;
    const epoch = monotonicEpoch();
    this.#ring = new RingBuffer(
      ring,
      (view, at) => {
        if (this.#rows.length < ROOM) this.#rows.push(traceRow(view, at, epoch));
        else this.#lost++;
      },
      { keepAlive: false },
    );
  }

  /** What has come since the last call, and how many were lost in all. */
  read(): { rows: TraceRow[]; lost: number } {
    this.#ring.poll();
    const row = new Uint8Array(SlTraceFilter.size);
    const known = this.#filter.get(new Uint8Array(4), row);
    const lost = this.#lost + (known ? u64(new DataView(row.buffer), F.lost) : 0);
    const rows = this.#rows;
    this.#rows = [];
    return { rows, lost };
  }

  close(): void {
    this.#ring.close();
  }
}
