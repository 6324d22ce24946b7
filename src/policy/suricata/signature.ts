import { RE2JS } from 're2js';
import { type PrefixTable, PrefixTableBuilder, parsePrefix } from '../prefix-set.ts';
import { parseRule, type RuleOption, type RuleText } from './rule.ts';

/** What of a signature's content is looked at: the server name of TLS or QUIC, the host of HTTP. */
export type Buffer = 'tls.sni' | 'http.host';

export interface Pattern {
  buffer: Buffer;
  /** Lower case where `nocase`. */
  text: string;
  nocase: boolean;
  negated: boolean;
  startswith: boolean;
  endswith: boolean;
  /** The match lies between these characters of the buffer; see Suricata's offset and depth. */
  offset: number;
  depth: number;
  /** The buffer gets a dot in front before it is looked at. */
  dotprefix: boolean;
}

/** A regular expression of RE2: linear in time. Of plain data, so that it can go to workers. */
export interface Expression {
  buffer: Buffer;
  source: string;
  flags: number;
  negated: boolean;
}

export interface AddressSet {
  negated: boolean;
  table: PrefixTable;
}

export interface PortSet {
  negated: boolean;
  ranges: readonly (readonly [from: number, to: number])[];
}

/** A `bypass` signature in the form in which it is asked: plain data. */
export interface Signature {
  sid: number;
  msg: string;
  /** IP protocol; undefined: any. */
  protocol: number | undefined;
  /** Services of which one must have been recognized, and those that must not. */
  services: readonly string[];
  notServices: readonly string[];
  established: boolean;
  source: AddressSet | undefined;
  sourcePort: PortSet | undefined;
  target: AddressSet | undefined;
  targetPort: PortSet | undefined;
  /** The source is the originator, the responder, or either. */
  from: 'orig' | 'resp' | 'either';
  patterns: readonly Pattern[];
  expressions: readonly Expression[];
}

export type Variables = Readonly<Record<string, string>>;

/** What Suricata's own configuration says. */
export const VARIABLES: Variables = {
  HOME_NET: '[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]',
  EXTERNAL_NET: '!$HOME_NET',
  HTTP_SERVERS: '$HOME_NET',
  SMTP_SERVERS: '$HOME_NET',
  SQL_SERVERS: '$HOME_NET',
  DNS_SERVERS: '$HOME_NET',
  TELNET_SERVERS: '$HOME_NET',
  HTTP_PORTS: '80',
  SSH_PORTS: '22',
  SHELLCODE_PORTS: '!80',
  ORACLE_PORTS: '1521',
  FTP_PORTS: '21',
};

/** Services as conn.log writes them, by the names of Suricata's protocols. */
const SERVICES: ReadonlyMap<string, string> = new Map([
  ['http', 'http'],
  ['http1', 'http'],
  ['tls', 'ssl'],
  ['ssl', 'ssl'],
  ['ssh', 'ssh'],
  ['smtp', 'smtp'],
  ['ftp', 'ftp'],
  ['imap', 'imap'],
  ['pop3', 'pop3'],
  ['dns', 'dns'],
  ['quic', 'quic'],
  ['smb', 'smb'],
  ['dcerpc', 'dce_rpc'],
  ['rdp', 'rdp'],
  ['rfb', 'rfb'],
  ['sip', 'sip'],
  ['snmp', 'snmp'],
  ['ntp', 'ntp'],
  ['dhcp', 'dhcp'],
  ['krb5', 'krb'],
  ['ike', 'ike'],
  ['mqtt', 'mqtt'],
  ['modbus', 'modbus'],
  ['bittorrent-dht', 'bittorrent'],
  ['pgsql', 'postgresql'],
  ['ldap', 'ldap_tcp'],
  ['websocket', 'websocket'],
]);
const PROTOCOLS: ReadonlyMap<string, number | undefined> = new Map([
  ['ip', undefined],
  ['tcp', 6],
  ['tcp-stream', 6],
  ['udp', 17],
  ['icmp', 1],
  ['icmpv6', 58],
]);
const BUFFERS: ReadonlyMap<string, Buffer> = new Map([
  ['tls.sni', 'tls.sni'],
  ['tls_sni', 'tls.sni'],
  ['http.host', 'http.host'],
  ['quic.sni', 'tls.sni'],
]);
/** Say nothing about which connection is meant. */
const IGNORED = new Set([
  'msg',
  'sid',
  'rev',
  'gid',
  'classtype',
  'reference',
  'metadata',
  'priority',
  'target',
  'bypass',
  'noalert',
  'alert',
  'fast_pattern',
  'prefilter',
  'requires',
]);
const MAX_PATTERN = 255;

class Refused extends Error {}

const refuse = (why: string): never => {
  throw new Refused(why);
};

export interface ReadSignature {
  sid: number;
  msg: string;
  /** It has the keyword `bypass`. */
  bypass: boolean;
  signature: Signature | undefined;
  /** Why it cannot be honoured. */
  reason: string | undefined;
}

/** A rule as a signature, or why it is none that can be honoured. Never throws. */
export function readSignature(text: string, variables: Variables): ReadSignature {
  const rule = parseRule(text);
  if (typeof rule === 'string') return { sid: 0, msg: '', bypass: false, signature: undefined, reason: rule };
  const sid = Number(valueOf(rule, 'sid') ?? 0) || 0;
  const msg = unquoted(valueOf(rule, 'msg') ?? '').text;
  const bypass = rule.options.some(({ name }) => name === 'bypass');
  if (!bypass) return { sid, msg, bypass, signature: undefined, reason: undefined };
  try {
    return { sid, msg, bypass, signature: signatureOf(rule, sid, msg, variables), reason: undefined };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { sid, msg, bypass, signature: undefined, reason: error.message };
  }
}

const valueOf = (rule: RuleText, name: string) => rule.options.find((option) => option.name === name)?.value;

function signatureOf(rule: RuleText, sid: number, msg: string, variables: Variables): Signature {
  const service = SERVICES.get(rule.protocol);
  if (service === undefined && !PROTOCOLS.has(rule.protocol)) refuse(`protocol '${rule.protocol}'`);
  const services = service === undefined ? [] : [service];
  const notServices: string[] = [];
  const patterns: Pattern[] = [];
  const expressions: Expression[] = [];
  let buffer: Buffer | undefined;
  let dotprefix = false;
  let last: Pattern | undefined;
  let bare: Pattern[] = [];
  let established = false;
  let toClient = false;
  let toServer = false;
  const modify = (name: string): Pattern => last ?? refuse(`${name} without a content`);

  for (const { name, value } of rule.options) {
    if (IGNORED.has(name)) continue;
    const sticky = BUFFERS.get(name);
    // `tls_sni;` and `http.host;` hold for the contents behind them, `http_host;` for the one before it.
    if (sticky !== undefined) {
      buffer = sticky;
      dotprefix = false;
      last = undefined;
      continue;
    }
    switch (name) {
      case 'http_host':
        modify(name).buffer = 'http.host';
        modify(name).nocase = true;
        bare = bare.filter((pattern) => pattern !== last);
        break;
      case 'dotprefix':
        dotprefix = true;
        break;
      case 'content': {
        const { text, negated } = unquoted(value ?? '');
        last = {
          buffer: buffer ?? 'http.host',
          text: literal(text),
          nocase: false,
          negated,
          startswith: false,
          endswith: false,
          offset: 0,
          depth: Number.POSITIVE_INFINITY,
          dotprefix,
        };
        patterns.push(last);
        if (buffer === undefined) bare.push(last);
        break;
      }
      case 'nocase':
        modify(name).nocase = true;
        break;
      case 'startswith':
        modify(name).startswith = true;
        break;
      case 'endswith':
        modify(name).endswith = true;
        break;
      case 'offset':
        modify(name).offset = count(value);
        break;
      case 'depth':
        modify(name).depth = count(value);
        break;
      case 'bsize':
        if (last === undefined || count(value) !== last.text.length)
          refuse('bsize other than that of the content');
        modify(name).startswith = true;
        modify(name).endswith = true;
        break;
      case 'pcre':
        expressions.push(expressionOf(value ?? '', buffer));
        break;
      case 'flow':
        for (const word of (value ?? '').split(',').map((part) => part.trim())) {
          if (word === 'established') established = true;
          else if (word === 'to_server' || word === 'from_client') toServer = true;
          else if (word === 'to_client' || word === 'from_server') toClient = true;
          else if (word !== 'stateless') refuse(`flow:${word}`);
        }
        break;
      case 'app-layer-protocol': {
        const negated = value?.startsWith('!') === true;
        const wanted = (negated ? value?.slice(1) : value)?.trim() ?? '';
        const found = SERVICES.get(wanted) ?? refuse(`app-layer-protocol:${wanted}`);
        (negated ? notServices : services).push(found);
        break;
      }
      default:
        refuse(`keyword '${name}'`);
    }
  }
  if (bare.length > 0) refuse('content of the stream, which is not kept');
  for (const pattern of patterns) {
    if (pattern.text.length > MAX_PATTERN) refuse('a content that is longer than any name');
    // Suricata shows the host in lower case.
    if (pattern.nocase || pattern.buffer === 'http.host')
      Object.assign(pattern, { nocase: true, text: pattern.text.toLowerCase() });
    if (pattern.negated && patterns.every(({ negated }) => negated) && expressions.length === 0)
      refuse('nothing but what must not be there');
  }
  const from =
    rule.direction === '<>'
      ? 'either'
      : toClient && !toServer
        ? 'resp'
        : toServer || service !== undefined || patterns.length > 0
          ? 'orig'
          : 'either';
  return {
    sid,
    msg,
    protocol: PROTOCOLS.get(rule.protocol),
    services,
    notServices,
    established,
    source: addressesOf(rule.source, variables),
    sourcePort: portsOf(rule.sourcePort, variables),
    target: addressesOf(rule.target, variables),
    targetPort: portsOf(rule.targetPort, variables),
    from,
    patterns,
    expressions,
  };
}

function unquoted(value: string): { text: string; negated: boolean } {
  const negated = value.startsWith('!');
  const rest = (negated ? value.slice(1) : value).trim();
  return {
    text: rest.startsWith('"') && rest.endsWith('"') && rest.length > 1 ? rest.slice(1, -1) : rest,
    negated,
  };
}

/** The characters of a content: `|68 69|` is hexadecimal, a backslash takes away a meaning. */
function literal(text: string): string {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\') out += text[++i] ?? '';
    else if (text[i] === '|') {
      const end = text.indexOf('|', i + 1);
      const hex = text.slice(i + 1, end).replace(/\s/g, '');
      if (end < 0 || hex.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(hex))
        refuse('a content that is not written right');
      for (let j = 0; j < hex.length; j += 2)
        out += String.fromCharCode(Number.parseInt(hex.slice(j, j + 2), 16));
      i = end;
    } else out += text[i];
  }
  return out === '' ? refuse('an empty content') : out;
}

function count(value: string | undefined): number {
  return value !== undefined && /^\d{1,5}$/.test(value)
    ? Number(value)
    : refuse(`'${value ?? ''}' where a number belongs`);
}

/** `"/expression/flags"`; W is the host of HTTP, as in Snort. */
function expressionOf(value: string, buffer: Buffer | undefined): Expression {
  const { text, negated } = unquoted(value);
  const match = /^\/(.*)\/([A-Za-z]*)$/s.exec(text);
  if (match === null) return refuse('a pcre that is not written right');
  let flags = 0;
  let into = buffer;
  for (const flag of match[2]) {
    if (flag === 'i') flags |= RE2JS.CASE_INSENSITIVE;
    else if (flag === 's') flags |= RE2JS.DOTALL;
    else if (flag === 'm') flags |= RE2JS.MULTILINE;
    else if (flag === 'W') into = 'http.host';
    else refuse(`flag ${flag} of a pcre`);
  }
  if (into === undefined) return refuse('a pcre over the stream, which is not kept');
  try {
    RE2JS.compile(match[1], flags);
  } catch {
    return refuse('a pcre that takes more than linear time, or is not written right');
  }
  return { buffer: into, source: match[1], flags, negated };
}

function resolved(text: string, variables: Variables, depth = 0): string {
  if (depth > 8) return refuse('variables that name each other');
  return text.replace(/\$(\w+)/g, (_, name: string) => {
    const value = variables[name] ?? VARIABLES[name];
    return value === undefined
      ? refuse(`variable $${name} is not set`)
      : resolved(value, variables, depth + 1);
  });
}

/** Parts of a list, and whether the whole is negated; undefined for `any`. */
function listOf(text: string, variables: Variables): { negated: boolean; parts: string[] } | undefined {
  let rest = resolved(text, variables).replace(/\s/g, '');
  let negated = false;
  while (rest.startsWith('!')) {
    negated = !negated;
    rest = rest.slice(1);
  }
  if (rest === 'any') return negated ? refuse('nothing is not any') : undefined;
  const parts = rest
    .replaceAll('[', '')
    .replaceAll(']', '')
    .split(',')
    .filter((part) => part !== '');
  const inner = parts.filter((part) => part.startsWith('!'));
  if (inner.length === 0) return { negated, parts };
  if (inner.length === parts.length && !negated)
    return { negated: true, parts: inner.map((part) => part.slice(1)) };
  return refuse('a list with exceptions in it');
}

/** Tables by the text in the rule: thousands of rules have the same few. */
const ADDRESSES = new WeakMap<Variables, Map<string, AddressSet | undefined>>();

function addressesOf(text: string, variables: Variables): AddressSet | undefined {
  let known = ADDRESSES.get(variables);
  if (known === undefined) {
    known = new Map();
    ADDRESSES.set(variables, known);
  }
  if (!known.has(text)) known.set(text, addressTable(text, variables));
  return known.get(text);
}

function addressTable(text: string, variables: Variables): AddressSet | undefined {
  const list = listOf(text, variables);
  if (list === undefined) return undefined;
  const builder = new PrefixTableBuilder();
  for (const part of list.parts) {
    const prefix = parsePrefix(part) ?? refuse(`'${part}' is no address`);
    builder.add(prefix.bytes, prefix.bits);
  }
  return { negated: list.negated, table: builder.build() };
}

function portsOf(text: string, variables: Variables): PortSet | undefined {
  const list = listOf(text, variables);
  if (list === undefined) return undefined;
  const ranges = list.parts.map((part): readonly [number, number] => {
    const match = /^(\d{0,5})(:?)(\d{0,5})$/.exec(part);
    if (match === null || part === '' || part === ':') return refuse(`'${part}' is no port`);
    const from = match[1] === '' ? 0 : Number(match[1]);
    return [from, match[2] === '' ? from : match[3] === '' ? 65_535 : Number(match[3])];
  });
  return { negated: list.negated, ranges };
}

export type { RuleOption };
