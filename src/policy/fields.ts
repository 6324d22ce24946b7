/** What a policy may know of a connection, as the sensor shows it at one moment. Unknown texts are undefined. */
export interface FlowFacts {
  /** IP protocol number. */
  readonly protocol: number;
  readonly origPort: number;
  readonly respPort: number;
  /** Addresses: 4 or 16 bytes at `at`. Valid until the next call. */
  readonly orig: FactAddress;
  readonly resp: FactAddress;
  /** -1: none. */
  readonly vlan: number;
  readonly innerVlan: number;
  readonly vni: number;
  /** Confirmed services in order of confirmation. */
  readonly services: readonly string[];
  /** Recognizers still look at payload: what is not known may become known. */
  readonly learning: boolean;
  readonly tlsEstablished: boolean;
  readonly tlsResumed: boolean;
  /** As ssl.log writes it: TLSv12, TLSv13, DTLSv12. */
  readonly tlsVersion: string | undefined;
  readonly serverName: string | undefined;
  readonly alpn: string | undefined;
  readonly ja3: string | undefined;
  readonly ja4: string | undefined;
  /** Host of the first HTTP request, without its port. */
  readonly httpHost: string | undefined;
  /** Both sides have switched to new keys. */
  readonly sshEncrypted: boolean;
  /** Nothing was recognized, and what was seen looks like random bytes in both directions. */
  readonly opaque: boolean;
  /** The name whose answer had the responder's address last. */
  readonly dnsName: string | undefined;
  readonly origPackets: number;
  readonly respPackets: number;
  /** IP bytes. */
  readonly origBytes: number;
  readonly respBytes: number;
  /** Seconds since its first packet. */
  readonly duration: number;
  /** Packets of both sides since TLS or SSH was established; -1 before. */
  readonly establishedPackets: number;
  /** ISO 3166 code, and number of the autonomous system (0: unknown), where a database was given. */
  country(side: 'orig' | 'resp'): string | undefined;
  asn(side: 'orig' | 'resp'): number;
}

export interface FactAddress {
  readonly u8: Uint8Array;
  readonly at: number;
  readonly bytes: 4 | 16;
}

/** When a field's value may change: never, when something was learned of the content, or with each packet. */
export type FieldChange = 'fixed' | 'learned' | 'counted';

export type FieldAbout =
  | { kind: 'flag'; change: FieldChange; help: string; of: (f: FlowFacts) => boolean }
  | {
      kind: 'text';
      change: FieldChange;
      help: string;
      of: (f: FlowFacts) => string | undefined;
      /** What it can be at all: another value would never hold, without a word. */
      form?: { test: RegExp; like: string };
    }
  | {
      kind: 'texts';
      change: FieldChange;
      help: string;
      of: (f: FlowFacts) => readonly string[];
      /** How what many call by another name is called here. */
      rather: ReadonlyMap<string, string>;
    }
  | { kind: 'domain'; change: FieldChange; help: string; of: (f: FlowFacts) => string | undefined }
  | {
      kind: 'number';
      change: 'fixed';
      help: string;
      /** Negative: there is none. */
      of: readonly ((f: FlowFacts) => number)[];
      most: number;
    }
  | { kind: 'address'; change: 'fixed'; help: string; of: readonly ((f: FlowFacts) => FactAddress)[] }
  /** Looked up in sets of signatures alone. */
  | { kind: 'signature'; change: 'learned'; help: string }
  | CounterField;

/** Only grows, save for `rate`. */
export interface CounterField {
  kind: 'counter';
  change: 'counted';
  help: string;
  unit: 'bytes' | 'packets' | 'seconds' | 'rate';
  of: (f: FlowFacts) => number;
}

const PROTOCOLS = new Map([
  [1, 'icmp'],
  [6, 'tcp'],
  [17, 'udp'],
  [47, 'gre'],
  [50, 'esp'],
  [51, 'ah'],
  [58, 'icmp6'],
  [132, 'sctp'],
]);

const bytes = (help: string, of: (f: FlowFacts) => number): CounterField => ({
  kind: 'counter',
  change: 'counted',
  unit: 'bytes',
  help,
  of,
});
const packets = (help: string, of: (f: FlowFacts) => number): CounterField => ({
  ...bytes(help, of),
  unit: 'packets',
});

const number = (help: string, most: number, ...of: ((f: FlowFacts) => number)[]): FieldAbout => ({
  kind: 'number',
  change: 'fixed',
  help,
  of,
  most,
});

const MAX_PORT = 65_535;
const MAX_VLAN = 4095;
const MAX_VNI = 0xff_ff_ff;
const MAX_ASN = 0xff_ff_ff_ff;

const COUNTRY = { test: /^[A-Z]{2}$/, like: 'DE' };

/** Every field of the language by its name. */
export const FIELDS: ReadonlyMap<string, FieldAbout> = new Map<string, FieldAbout>([
  [
    'proto',
    {
      kind: 'text',
      change: 'fixed',
      help: 'transport: tcp, udp, icmp, icmp6, sctp, esp, ah, gre, or the number',
      of: (f) => PROTOCOLS.get(f.protocol) ?? String(f.protocol),
      form: {
        test: /^(?:tcp|udp|icmp6?|sctp|esp|ah|gre|\d{1,2}|1\d\d|2[0-4]\d|25[0-5])$/,
        like: 'tcp, udp, esp or a number',
      },
    },
  ],
  ['addr', { kind: 'address', change: 'fixed', help: 'either address', of: [(f) => f.orig, (f) => f.resp] }],
  ['orig.addr', { kind: 'address', change: 'fixed', help: "the originator's address", of: [(f) => f.orig] }],
  ['resp.addr', { kind: 'address', change: 'fixed', help: "the responder's address", of: [(f) => f.resp] }],
  [
    'port',
    number(
      'either port',
      MAX_PORT,
      (f) => f.origPort,
      (f) => f.respPort,
    ),
  ],
  ['orig.port', number("the originator's port", MAX_PORT, (f) => f.origPort)],
  ['resp.port', number("the responder's port", MAX_PORT, (f) => f.respPort)],
  ['vlan', number('VLAN id of the outer tag', MAX_VLAN, (f) => f.vlan)],
  ['inner_vlan', number('VLAN id of the inner tag', MAX_VLAN, (f) => f.innerVlan)],
  ['vni', number('network id of the VXLAN or GENEVE tunnel', MAX_VNI, (f) => f.vni)],
  [
    'orig.country',
    {
      kind: 'text',
      change: 'fixed',
      help: 'country of the originator (ISO 3166), from --geo',
      of: (f) => f.country('orig'),
      form: COUNTRY,
    },
  ],
  [
    'resp.country',
    {
      kind: 'text',
      change: 'fixed',
      help: 'country of the responder',
      of: (f) => f.country('resp'),
      form: COUNTRY,
    },
  ],
  [
    'orig.asn',
    number("number of the originator's autonomous system, from --geo", MAX_ASN, (f) => f.asn('orig') || -1),
  ],
  ['resp.asn', number("number of the responder's autonomous system", MAX_ASN, (f) => f.asn('resp') || -1)],
  [
    'dns.name',
    {
      kind: 'domain',
      change: 'fixed',
      help: "the name that was asked for before, and answered with the responder's address",
      of: (f) => f.dnsName,
    },
  ],
  [
    'service',
    {
      kind: 'texts',
      change: 'learned',
      help: 'confirmed services as in conn.log, carriers too (smtp and ssl); alone: any',
      of: (f) => f.services,
      rather: new Map([
        ['tls', 'ssl'],
        ['https', 'ssl'],
        ['dtls', 'ssl'],
        ['postgres', 'postgresql'],
        ['mssql', 'tds'],
        ['managesieve', 'sieve'],
      ]),
    },
  ],
  [
    'tls.established',
    {
      kind: 'flag',
      change: 'learned',
      help: 'both sides of TLS, DTLS or QUIC have finished the handshake',
      of: (f) => f.tlsEstablished,
    },
  ],
  [
    'tls.resumed',
    { kind: 'flag', change: 'learned', help: 'the session was resumed', of: (f) => f.tlsResumed },
  ],
  [
    'tls.version',
    {
      kind: 'text',
      change: 'learned',
      help: 'as in ssl.log: TLSv12, TLSv13, DTLSv12',
      of: (f) => f.tlsVersion,
      form: { test: /^(?:SSLv[23]|D?TLSv1[0-3]|unknown-\d{1,5})$/, like: 'TLSv13 or DTLSv12' },
    },
  ],
  [
    'tls.sni',
    {
      kind: 'domain',
      change: 'learned',
      help: 'server name that the client asked for (TLS, DTLS, QUIC)',
      of: (f) => f.serverName,
    },
  ],
  [
    'tls.alpn',
    {
      kind: 'text',
      change: 'learned',
      help: 'application protocol that was agreed on: h2, h3, http/1.1',
      of: (f) => f.alpn,
    },
  ],
  [
    'tls.ja3',
    {
      kind: 'text',
      change: 'learned',
      help: 'JA3 of the client, MD5 in hexadecimal',
      of: (f) => f.ja3,
      form: { test: /^[0-9a-f]{32}$/, like: '32 digits of 0 to f in lower case' },
    },
  ],
  [
    'tls.ja4',
    {
      kind: 'text',
      change: 'learned',
      help: 'JA4 of the client',
      of: (f) => f.ja4,
      form: {
        test: /^[tqd][0-9sd]{2}[di][0-9]{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}$/,
        like: 't13d1516h2_8daaf6152771_02713d6af862',
      },
    },
  ],
  [
    'http.host',
    { kind: 'domain', change: 'learned', help: 'host of the first HTTP request', of: (f) => f.httpHost },
  ],
  [
    'ssh.encrypted',
    {
      kind: 'flag',
      change: 'learned',
      help: 'both sides of SSH have switched to new keys',
      of: (f) => f.sshEncrypted,
    },
  ],
  [
    'opaque',
    {
      kind: 'flag',
      change: 'learned',
      help: 'no service, and random-looking bytes in both directions',
      of: (f) => f.opaque,
    },
  ],
  [
    'signature',
    {
      kind: 'signature',
      change: 'learned',
      help: "in a set of Suricata's signatures with bypass: one of them matches",
    },
  ],
  ['bytes', bytes('IP bytes of both sides', (f) => f.origBytes + f.respBytes)],
  ['orig.bytes', bytes('IP bytes of the originator', (f) => f.origBytes)],
  ['resp.bytes', bytes('IP bytes of the responder', (f) => f.respBytes)],
  ['either.bytes', bytes('IP bytes of the side that has more', (f) => Math.max(f.origBytes, f.respBytes))],
  ['both.bytes', bytes('IP bytes of the side that has fewer', (f) => Math.min(f.origBytes, f.respBytes))],
  ['packets', packets('packets of both sides', (f) => f.origPackets + f.respPackets)],
  ['orig.packets', packets('packets of the originator', (f) => f.origPackets)],
  ['resp.packets', packets('packets of the responder', (f) => f.respPackets)],
  [
    'established.packets',
    packets('packets of both sides since TLS or SSH was established', (f) => f.establishedPackets),
  ],
  [
    'duration',
    {
      kind: 'counter',
      change: 'counted',
      unit: 'seconds',
      help: 'time since the first packet',
      of: (f) => f.duration,
    },
  ],
  [
    'rate',
    {
      kind: 'counter',
      change: 'counted',
      unit: 'rate',
      help: 'IP bytes of both sides per second since the first packet, in bits: 100Mb/s; 0 in the first second',
      of: (f) => (f.duration < 1 ? 0 : (f.origBytes + f.respBytes) / f.duration),
    },
  ],
]);
