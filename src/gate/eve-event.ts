import { isIP } from 'node:net';

/** Bytes of a line and levels of nesting that are looked at. */
export const EVE_LIMITS = { line: 256 * 1024, depth: 32, text: 1024 } as const;

/** What one record of Suricata's EVE output (JSON lines) says of a connection, as far as policies want to know. */
export interface EveEvent {
  type: 'flow' | 'tls' | 'http' | 'alert';
  proto: 'tcp' | 'udp' | 'sctp';
  /** Who opened the connection, as Suricata sees it. */
  orig: { addr: string; port: number };
  resp: { addr: string; port: number };
  vlan: number;
  innerVlan: number;
  /** Suricata has let go of it: the record is its last. */
  over: boolean;
  /** Suricata itself does not look at it any more. */
  bypassed: boolean;
  appProto: string | undefined;
  serverName: string | undefined;
  /** As ssl.log writes it. */
  tlsVersion: string | undefined;
  tlsResumed: boolean;
  alpn: string | undefined;
  ja3: string | undefined;
  ja4: string | undefined;
  httpHost: string | undefined;
  /** Whole so far; undefined where the record has none. L2 bytes as Suricata counts them. */
  counts: { origPkts: number; respPkts: number; origBytes: number; respBytes: number } | undefined;
  /** Seconds since its first packet; undefined where the record does not tell. */
  age: number | undefined;
}

const TYPES: ReadonlySet<string> = new Set(['flow', 'tls', 'http', 'alert']);
const PROTOCOLS: Readonly<Record<string, EveEvent['proto']>> = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' };

type Json = Readonly<Record<string, unknown>>;

/** Why a line is of no use: what else Suricata writes, or nothing that it would write. */
export type EveRefusal = 'other' | 'bad';

/** Any text is safe: what is not understood is refused. */
export function parseEve(line: string): EveEvent | EveRefusal {
  if (tooDeep(line)) return 'bad';
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return 'bad';
  }
  const e = object(value);
  if (e === undefined) return 'bad';
  const type = e['event_type'];
  if (typeof type !== 'string') return 'bad';
  const proto = typeof e['proto'] === 'string' ? PROTOCOLS[e['proto'].toUpperCase()] : undefined;
  if (!TYPES.has(type) || proto === undefined) return 'other';
  const src = endpoint(e['src_ip'], e['src_port']);
  const dst = endpoint(e['dest_ip'], e['dest_port']);
  if (src === undefined || dst === undefined) return 'bad';
  const turned = type === 'alert' && e['direction'] === 'to_client';
  const vlans = vlansOf(e['vlan']);
  if (vlans === undefined) return 'bad';
  const flow = object(e['flow']);
  const tls = object(e['tls']);
  const http = object(e['http']);
  return {
    type: type as EveEvent['type'],
    proto,
    orig: turned ? dst : src,
    resp: turned ? src : dst,
    vlan: vlans[0],
    innerVlan: vlans[1],
    over: type === 'flow',
    bypassed: flow?.['state'] === 'bypassed',
    appProto: known(text(e['app_proto'])),
    serverName: text(tls?.['sni'])?.toLowerCase(),
    tlsVersion: versionOf(text(tls?.['version'])),
    tlsResumed: tls?.['session_resumed'] === true,
    alpn: first(tls?.['server_alpns']),
    ja3: text(object(tls?.['ja3'])?.['hash']),
    ja4: text(tls?.['ja4']),
    httpHost: hostOf(text(http?.['hostname'])),
    counts: countsOf(flow),
    age: ageOf(flow, text(e['timestamp'])),
  };
}

/** Nested beyond the limit; brackets in texts do not count. */
function tooDeep(line: string): boolean {
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < line.length; i++) {
    const c = line.charCodeAt(i);
    if (quoted) {
      if (c === 0x5c) i++;
      else if (c === 0x22) quoted = false;
    } else if (c === 0x22) quoted = true;
    else if (c === 0x7b || c === 0x5b) {
      if (++depth > EVE_LIMITS.depth) return true;
    } else if (c === 0x7d || c === 0x5d) depth--;
  }
  return false;
}

function object(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' && value.length <= EVE_LIMITS.text ? value : undefined;
}

function first(value: unknown): string | undefined {
  return Array.isArray(value) ? text(value[0]) : undefined;
}

function known(proto: string | undefined): string | undefined {
  return proto === 'failed' || proto === 'unknown' ? undefined : proto;
}

function endpoint(addr: unknown, port: unknown): { addr: string; port: number } | undefined {
  if (typeof addr !== 'string' || isIP(addr) === 0 || addr.includes('%')) return undefined;
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 0 || port > 65_535) return undefined;
  return { addr, port };
}

/** The two outermost ids; undefined for what is no list of ids. */
function vlansOf(value: unknown): [number, number] | undefined {
  if (value === undefined) return [0, 0];
  if (!Array.isArray(value) || value.length > 8) return undefined;
  if (!value.every((id) => Number.isInteger(id) && id >= 0 && id < 4096)) return undefined;
  const ids = (value as number[]).filter((id) => id !== 0);
  return [ids[0] ?? 0, ids[1] ?? 0];
}

function hostOf(name: string | undefined): string | undefined {
  return name?.replace(/:\d{1,5}$/, '').toLowerCase();
}

/** `TLS 1.2` is TLSv12 in ssl.log. */
function versionOf(version: string | undefined): string | undefined {
  const [, kind, major, minor] = /^(TLS|DTLS)v?\s?(\d)\.(\d)$/i.exec(version ?? '') ?? [];
  if (kind === undefined) return /^(SSL|TLS|DTLS)v\d{1,2}$/.test(version ?? '') ? version : undefined;
  return major === '1' && minor === '0'
    ? `${kind.toUpperCase()}v10`
    : `${kind.toUpperCase()}v${major}${minor}`;
}

function count(value: unknown): number {
  return typeof value === 'number' && value >= 0 && Number.isSafeInteger(value) ? value : 0;
}

function countsOf(flow: Json | undefined): EveEvent['counts'] {
  if (flow === undefined || flow['pkts_toserver'] === undefined) return undefined;
  return {
    origPkts: count(flow['pkts_toserver']),
    respPkts: count(flow['pkts_toclient']),
    origBytes: count(flow['bytes_toserver']),
    respBytes: count(flow['bytes_toclient']),
  };
}

function ageOf(flow: Json | undefined, timestamp: string | undefined): number | undefined {
  const start = Date.parse(text(flow?.['start']) ?? '');
  const now = Date.parse(timestamp ?? '');
  return Number.isNaN(start) || Number.isNaN(now) ? undefined : Math.max(0, (now - start) / 1000);
}
