/** Traffic of each kind that a preset of policies is for, as frames: connections with enough behind the packet that triggers. */
import { C, hex, S, type Said, bytesOf as saidBytes } from '../lab/bytes.ts';
import { full as dtlsHandshake, record as dtlsRecord } from '../lab/dtls-build.ts';
import { crypto, initial, short } from '../lab/quic-build.ts';
import { answer, ENCRYPT, inPackets, PRELOGIN } from '../lab/tds-build.ts';
import { eth, pattern } from '../src/packet/build.ts';
import { conversation, seeded, type Turn } from '../src/packet/conversation.ts';
import { tlsTurns } from './tls-mix.ts';

/** Bytes of a segment or datagram behind the beginning. */
const SIZE = 1400;
/** Bytes of TLS in an Initial packet. */
const INITIAL = 1000;

export interface Kind {
  readonly name: string;
  /** What conn.log says of it. */
  readonly service: string | undefined;
  /** How logs name the policy that takes it. */
  readonly trigger: string;
  /** The carrier of TLS that `tls=-CARRIER` keeps; others are kept by a veto. */
  readonly carrier?: string;
  readonly transport: 'tcp' | 'udp' | 'esp';
  readonly port: number;
  /** Connection `nth`, `packets` of them behind its beginning. */
  talk(nth: number, packets: number): Turn[];
}

/** What a connection looks like in the logs. */
export interface Ends {
  client: string;
  server: string;
}

/** Addresses of connection `nth` of kind `kind`; every third one is IPv6. */
export function endsOf(kind: number, nth: number, transport: Kind['transport']): Ends {
  const client = `10.${30 + kind}.${nth >> 8}.${nth & 255}`;
  if (transport === 'esp' || nth % 3 !== 2) return { client, server: `198.51.100.${kind + 1}` };
  const group = (kind + 1).toString(16);
  return { client: `2001:db8:1:${group}::${(nth + 1).toString(16)}`, server: `2001:db8:2:${group}::1` };
}

/** The addresses that connections of this kind go to. */
export const serversOf = (kind: number): string =>
  `198.51.100.${kind + 1}, 2001:db8:2:${(kind + 1).toString(16)}::1`;

export function framesOf(kind: Kind, at: number, nth: number, packets: number): Uint8Array[] {
  const { client, server } = endsOf(at, nth, kind.transport);
  const turns = kind.talk(nth, packets);
  const ports = { client: 30_000 + nth, server: kind.port };
  if (kind.transport === 'tcp')
    return conversation({
      client: { address: client, port: ports.client },
      server: { address: server, port: ports.server },
      mss: SIZE,
      turns,
    }).map(({ bytes }) => bytes);
  return turns.map(({ from, data }) => {
    const [src, dst] = from === 'client' ? [client, server] : [server, client];
    const bytes = typeof data === 'number' ? pattern(data) : data;
    if (kind.transport === 'esp') return eth().ipv4({ src, dst, protocol: 50 }).payload(bytes).bytes();
    const [sport, dport] = from === 'client' ? [ports.client, ports.server] : [ports.server, ports.client];
    const network = src.includes(':') ? eth().ipv6({ src, dst }) : eth().ipv4({ src, dst });
    return network.udp({ sport, dport }).payload(bytes).bytes();
  });
}

const turnOf = ([from, bytes]: Said): Turn => ({
  from: from === 1 ? 'client' : 'server',
  data: Uint8Array.from(saidBytes(bytes)),
});

const saidOf = ({ from, data }: Turn): Said => [from === 'client' ? 1 : 0, data as Uint8Array];

const text = (...said: readonly Said[]): Turn[] => said.map(turnOf);

/** Datagrams of both sides, three of four from the server. */
const datagrams = (packets: number, data: (i: number) => Uint8Array): Turn[] =>
  Array.from({ length: packets }, (_, i) => ({ from: i % 4 === 0 ? 'client' : 'server', data: data(i) }));

function noise(bytes: number, seed: number): Uint8Array {
  const random = seeded(seed);
  return Uint8Array.from({ length: bytes }, () => Math.floor(random() * 256));
}

const zeros = (bytes: number) => new Uint8Array(bytes);
const mysql = (sequence: number, body: Uint8Array) =>
  Buffer.concat([Uint8Array.of(body.length & 255, body.length >>> 8, 0, sequence), body]);
const greeting = mysql(
  0,
  Buffer.concat([
    Buffer.from('\x0a8.0.36\0', 'latin1'),
    hex('08000000 6162636465666768 00 ffff ff0200'),
    zeros(40),
  ]),
);
const x224 = (type: number, rest: Uint8Array) => {
  const body = Buffer.concat([Uint8Array.of(6 + rest.length, type, 0, 0, 0, 0, 0), rest]);
  return Buffer.concat([Uint8Array.of(3, 0, (body.length + 4) >>> 8, (body.length + 4) & 255), body]);
};
const stream =
  "<?xml version='1.0'?><stream:stream to='x' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
/** RFC 4511 4.14: the extended request and its answer. */
const startTls = hex(`301d020102 7718 8016 ${Buffer.from('1.3.6.1.4.1.1466.20037').toString('hex')}`);
const startTlsDone = hex('300c020102 7807 0a0100 0400 0400');

/** What each protocol says before TLS begins inside of it. */
const CARRIERS: readonly (readonly [
  carrier: string,
  service: string,
  port: number,
  said: readonly Said[],
])[] = [
  [
    'smtp',
    'smtp',
    587,
    [
      S('220 mail.example ESMTP\r\n'),
      C('EHLO client\r\n'),
      S('250-mail.example\r\n250 STARTTLS\r\n'),
      C('STARTTLS\r\n'),
      S('220 go ahead\r\n'),
    ],
  ],
  ['imap', 'imap', 143, [S('* OK ready\r\n'), C('a STARTTLS\r\n'), S('a OK begin\r\n')]],
  ['pop3', 'pop3', 110, [S('+OK ready\r\n'), C('STLS\r\n'), S('+OK begin\r\n')]],
  ['ftp', 'ftp', 21, [S('220 FTP server\r\n'), C('AUTH TLS\r\n'), S('234 AUTH TLS successful\r\n')]],
  ['irc', 'irc', 6667, [C('NICK y\r\nSTARTTLS\r\n'), S(':irc.example 670 y :STARTTLS successful\r\n')]],
  ['xmpp', 'xmpp', 5222, [C(stream), S(stream), C('<starttls/>'), S('<proceed/>')]],
  ['ldap', 'ldap_tcp', 389, [C(startTls), S(startTlsDone)]],
  [
    'mysql',
    'mysql',
    3306,
    [S(greeting), C(mysql(1, Buffer.concat([hex('85aeff19 00000001 ff'), zeros(23)])))],
  ],
  ['postgresql', 'postgresql', 5432, [C(hex('00000008 04d2162f')), S('S')]],
  [
    'rdp',
    'rdp',
    3389,
    [C(x224(0xe0, hex('01 00 0800 0b000000'))), S(x224(0xd0, hex('02 1f 0800 02000000')))],
  ],
  [
    'socks',
    'socks',
    1080,
    [
      C(hex('05 01 00')),
      S(hex('05 00')),
      C(Buffer.concat([hex('05 01 00 03 09'), Buffer.from('x.example'), hex('01bb')])),
      S(hex('05 00 00 01 00000000 0000')),
    ],
  ],
  [
    'http',
    'http',
    3128,
    [C('CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\n\r\n'), S('HTTP/1.1 200 OK\r\n\r\n')],
  ],
  [
    'nntp',
    'nntp',
    119,
    [
      S('200 news.example ready\r\n'),
      C('CAPABILITIES\r\n'),
      S('101 list\r\nVERSION 2\r\nSTARTTLS\r\n.\r\n'),
      C('STARTTLS\r\n'),
      S('382 go ahead\r\n'),
    ],
  ],
  [
    'sieve',
    'sieve',
    4190,
    [
      S('"IMPLEMENTATION" "example"\r\n"SIEVE" "fileinto"\r\n"STARTTLS"\r\nOK "ready"\r\n'),
      C('STARTTLS\r\n'),
      S('OK "go ahead"\r\n'),
    ],
  ],
];

/** A binary packet of SSH 2. */
function sshPacket(type: number, payload: number): Uint8Array {
  const bytes = Buffer.alloc(10 + payload);
  bytes.writeUInt32BE(bytes.length - 4);
  bytes[4] = 4;
  bytes[5] = type;
  return bytes;
}

const esp = (index: number, number: number): Uint8Array => {
  const bytes = Buffer.from(noise(SIZE, number));
  bytes.writeUInt32BE(index, 0);
  bytes.writeUInt32BE(number + 1, 4);
  return bytes;
};

function download(host: string, bytes: number): Turn[] {
  const head = `HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: ${bytes}\r\n\r\n`;
  const body = Buffer.alloc(head.length + bytes, 'plain text ');
  body.write(head);
  return [...text(C(`GET /file HTTP/1.1\r\nHost: ${host}\r\n\r\n`)), { from: 'server', data: body }];
}

/** A body up, and one as long down. */
function exchange(bytes: number): Turn[] {
  const body = Buffer.alloc(bytes, 'plain text ').toString();
  const post = `POST /file HTTP/1.1\r\nHost: plain.example\r\nContent-Length: ${bytes}\r\n\r\n${body}`;
  const answer = `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${bytes}\r\n\r\n${body}`;
  return text(C(post), S(answer));
}

/** A message of TLS in as many Initial packets as it takes. */
function initials(said: (bytes: Uint8Array) => Said, message: Uint8Array, from: 0 | 1): Said[] {
  const packets: Said[] = [];
  for (let at = 0; at < message.length; at += INITIAL)
    packets.push(
      said(initial(crypto(at, message.subarray(at, at + INITIAL)), { from, number: packets.length })),
    );
  return packets;
}

/** Sizes of the presets that take one, so that each kind is taken by its own and behind its beginning. */
export const POLICIES = [
  // One after the other: the first that holds acts.
  { preset: 'opaque=40kB', priority: 9 },
  { preset: 'backup=60kB', priority: 8 },
  { preset: 'streaming', priority: 7 },
  { preset: 'quic', priority: 6 },
  { preset: 'ssh', priority: 5 },
  { preset: 'vpn', priority: 4 },
  { preset: 'unknown=20/100kB', priority: 3 },
] as const;

/** Every kind of `sluice run --policy tls,quic,ssh,vpn,streaming,unknown,opaque,backup`. */
export async function kindsOf(packets: number): Promise<Kind[]> {
  const size = packets * SIZE;
  const tls = {
    '1.2': await tlsTurns(size, { version: 'TLSv1.2' }),
    '1.3': await tlsTurns(size, { version: 'TLSv1.3' }),
    films: await tlsTurns(size, { servername: 'r4.example.googlevideo.com' }),
  };
  const either = (nth: number) => tls[nth % 2 === 0 ? '1.3' : '1.2'];
  const hello = (from: Turn['from']) => {
    const sent = tls['1.3'].filter((turn) => turn.from === from).map(({ data }) => data as Uint8Array);
    const bytes = Buffer.concat(sent.slice(0, 2));
    return bytes.subarray(5, 5 + bytes.readUInt16BE(3));
  };
  const quic = text(
    ...initials(C, hello('client'), 1),
    ...initials(S, hello('server'), 0),
    S(short),
    C(short),
  );
  const tcp = { transport: 'tcp', trigger: 'TLS_ESTABLISHED' } as const;
  return [
    { ...tcp, name: 'TLS 1.2', service: 'ssl', port: 443, talk: () => tls['1.2'] },
    { ...tcp, name: 'TLS 1.3', service: 'ssl', port: 8443, talk: () => tls['1.3'] },
    ...CARRIERS.map(
      ([carrier, service, port, said]): Kind => ({
        ...tcp,
        name: `TLS in ${carrier}`,
        service: `${service},ssl`,
        carrier,
        port,
        talk: (nth) => [...text(...said), ...either(nth)],
      }),
    ),
    {
      ...tcp,
      name: 'TLS in tds',
      service: 'tds,ssl',
      carrier: 'tds',
      port: 1433,
      talk: (nth) => text(C(PRELOGIN), S(answer(ENCRYPT.on)), ...inPackets(either(nth).map(saidOf))),
    },
    {
      name: 'DTLS',
      service: 'ssl',
      trigger: 'TLS_ESTABLISHED',
      carrier: 'dtls',
      transport: 'udp',
      port: 4433,
      talk: (nth, n) => [
        ...text(...dtlsHandshake),
        ...datagrams(n, (i) => dtlsRecord(23, noise(SIZE - 13, nth * 7 + i), { epoch: 1 })),
      ],
    },
    {
      name: 'QUIC',
      service: 'quic,ssl',
      trigger: 'QUIC_ESTABLISHED',
      transport: 'udp',
      port: 443,
      talk: (nth, n) => [
        ...quic,
        ...datagrams(n, (i) => Buffer.concat([Uint8Array.of(0x41), noise(SIZE, nth * 7 + i)])),
      ],
    },
    {
      name: 'SSH',
      service: 'ssh',
      trigger: 'SSH_ENCRYPTED',
      transport: 'tcp',
      port: 22,
      talk: (nth, n) => [
        ...text(
          C('SSH-2.0-OpenSSH_9.6\r\n'),
          S('SSH-2.0-OpenSSH_9.2\r\n'),
          C(sshPacket(20, 1500)),
          S(sshPacket(20, 1000)),
          C(sshPacket(30, 40)),
          S(Buffer.concat([sshPacket(31, 200), sshPacket(21, 0)])),
          C(sshPacket(21, 0)),
        ),
        { from: 'server', data: noise(n * SIZE, nth) },
      ],
    },
    {
      name: 'WireGuard',
      service: 'wireguard',
      trigger: 'VPN',
      transport: 'udp',
      port: 51_820,
      talk: (nth, n) => [
        ...text(
          C(Buffer.concat([hex('01000000 11223344'), noise(140, nth)])),
          S(Buffer.concat([hex('02000000 55667788 11223344'), noise(80, nth)])),
        ),
        ...datagrams(n, (i) => Buffer.concat([hex('04000000 55667788'), noise(SIZE, nth * 7 + i)])),
      ],
    },
    {
      name: 'OpenVPN over UDP',
      service: 'openvpn',
      trigger: 'VPN',
      transport: 'udp',
      port: 1194,
      talk: (nth, n) => [
        ...text(
          C(hex('38 0102030405060708 00 00000000')),
          S(hex('40 1112131415161718 01 00000000 0102030405060708 00000000')),
        ),
        ...datagrams(n, (i) => Buffer.concat([Uint8Array.of(0x48), noise(SIZE, nth * 7 + i)])),
      ],
    },
    {
      name: 'OpenVPN over TCP',
      service: 'openvpn',
      trigger: 'VPN',
      transport: 'tcp',
      port: 1194,
      talk: (nth, n) => [
        ...text(
          C(hex('000e 38 0102030405060708 00 00000000')),
          S(hex('001a 40 1112131415161718 01 00000000 0102030405060708 00000000')),
        ),
        { from: 'server', data: noise(n * SIZE, nth) },
      ],
    },
    {
      name: 'IPsec: ESP',
      service: undefined,
      trigger: 'VPN',
      transport: 'esp',
      port: 0,
      talk: (nth, n) => datagrams(n, (i) => esp(0xc0ffee00 + nth, i)),
    },
    {
      name: 'IPsec: ESP in UDP',
      service: 'ike,esp',
      trigger: 'VPN',
      transport: 'udp',
      port: 4500,
      talk: (nth, n) => [
        ...text(
          C(Buffer.concat([zeros(4), hex(`0102030405060708 ${'00'.repeat(8)} 21202208 00000000 0000001c`)])),
        ),
        ...datagrams(n, (i) => esp(0xc0ffee00 + nth * 2 + (i % 4 === 0 ? 1 : 0), i)),
      ],
    },
    {
      name: 'streaming by SNI',
      service: 'ssl',
      trigger: 'STREAMING',
      transport: 'tcp',
      port: 443,
      talk: () => tls.films,
    },
    {
      name: 'streaming over HTTP',
      service: 'http',
      trigger: 'STREAMING',
      transport: 'tcp',
      port: 80,
      talk: (_nth, n) => download('video.pv-cdn.net', n * SIZE),
    },
    {
      name: 'unknown',
      service: undefined,
      trigger: 'UNKNOWN',
      transport: 'tcp',
      port: 7777,
      talk: (_nth, n) => [
        { from: 'client', data: Buffer.alloc(600, 'a protocol of one’s own: ') },
        { from: 'server', data: Buffer.alloc((n + 70) * SIZE, 'what nobody has a name for, ') },
      ],
    },
    {
      name: 'opaque',
      service: undefined,
      trigger: 'OPAQUE',
      transport: 'tcp',
      port: 7778,
      talk: (nth, n) => [
        { from: 'client', data: noise(4000, nth) },
        { from: 'server', data: noise((n + 30) * SIZE, nth + 1) },
      ],
    },
    {
      name: 'backup',
      service: undefined,
      trigger: 'BACKUP',
      transport: 'tcp',
      port: 873,
      talk: (_nth, n) => [
        ...text(S('@RSYNCD: 31.0\n'), C('@RSYNCD: 31.0\n')),
        { from: 'client', data: Buffer.alloc((n + 50) * SIZE, 'rsync ') },
      ],
    },
  ];
}

const http = { service: 'http', transport: 'tcp', port: 80 } as const;

export interface SizedPart {
  readonly policies: readonly { preset: string; priority: number }[];
  readonly kind: Kind;
  /** At most; undefined: as many as of the others. */
  readonly connections?: number;
}

const sized = (preset: string, name: string, trigger: string, talk: Kind['talk']): SizedPart => ({
  policies: [{ preset, priority: 0 }],
  kind: { ...http, name, trigger, talk },
});

/** Those that go by bytes alone, which are taken in runs of their own: each would take the others' connections too. */
export const SIZED: readonly SizedPart[] = [
  sized('bulk=150kB', 'bulk', 'BULK', (_nth, n) => download('plain.example', (n + 110) * SIZE)),
  sized('depth=150kB', 'depth, one direction', 'DEPTH', (_nth, n) =>
    download('plain.example', (n + 110) * SIZE),
  ),
  sized('depth=100kB/both', 'depth, both directions', 'DEPTH', (_nth, n) => exchange((n + 80) * SIZE)),
  {
    ...sized('elephant=1Mb/s', 'elephant', 'ELEPHANT', (_nth, n) =>
      download('plain.example', (n + 7200) * SIZE),
    ),
    connections: 2,
  },
];
