import { SluiceError } from '../base/errors.ts';
import { nearest } from '../base/suggest.ts';
import { bytesText, parseBytes } from '../base/units.ts';
import { parseDomain } from './domain-set.ts';
import type { PolicySpec } from './spec.ts';

/** IP bytes in one direction, when `bulk` is given without a size. */
export const BULK_DEFAULT_BYTES = 1_000_000;
/** From which packet of a connection on `bulk` looks at it, so that short ones cost nothing. */
export const BULK_FROM_PACKET = 10;

export interface Preset {
  /** What --help and errors say about it. */
  readonly help: string;
  /** With the argument behind `=`, if there is one. */
  make(argument: string | undefined): Pick<PolicySpec, 'name' | 'when'> & { trigger: string };
}

/** What TLS is started in, as `service` has it: what of it is kept is named with a minus. */
const CARRIERS: ReadonlyMap<string, string> = new Map([
  ...'smtp imap pop3 ftp irc xmpp nntp sieve rdp mysql postgresql tds socks http'
    .split(' ')
    .map((name) => [name, `service == ${name}`] as const),
  ['ldap', 'service == ldap_tcp'],
  ['dtls', 'proto == udp'],
]);

/** Where films and music come from; a file of one's own is a set in a policy file. */
const STREAMING = [
  'nflxvideo.net',
  'googlevideo.com',
  'ttvnw.net',
  'vimeocdn.com',
  'dssott.com',
  'bamgrid.com',
  'hulustream.com',
  'pv-cdn.net',
  'aiv-cdn.net',
  'aiv-delivery.net',
  'hls.itunes.apple.com',
  'scdn.co',
  'spotifycdn.com',
  'tiktokcdn.com',
  'sndcdn.com',
  'steamcontent.com',
];

/** From which packet on a DNS name alone is enough: what else would be known is known by then. */
const STREAMING_FROM_PACKET = 20;

/** rsync, iSCSI, NFS, Bacula, DRBD, Veeam, NetBackup, Commvault, NDMP, AFP, Ceph, GlusterFS, borg over TCP. */
const BACKUP_PORTS =
  '873, 3260, 2049, 9101-9103, 7788-7799, 2500-2501, 10006, 6162, 1556, 13724, 8400-8403, 10000, 548, 6789, 6800-7300, 24007, 49152-49156';

export const PRESETS: ReadonlyMap<string, Preset> = new Map<string, Preset>([
  [
    'tls',
    {
      help: 'tls[=[SIZE][-CARRIER…]]: TLS and DTLS once both sides have finished the handshake, and SIZE bytes were seen of the connection if it is given; also inside of smtp, imap, pop3, ftp, irc, xmpp, nntp, sieve, ldap, rdp, mysql, postgresql, tds, socks, http; tls=-socks-rdp keeps these, tls=100kB-socks is both',
      make: makeTls,
    },
  ],
  [
    'quic',
    {
      help: 'quic: QUIC once both sides have sent a packet with a short header',
      make: fixed('quic', 'QUIC_ESTABLISHED', 'service == quic and tls.established'),
    },
  ],
  [
    'ssh',
    {
      help: 'ssh: SSH once both sides have switched to new keys',
      make: fixed('ssh', 'SSH_ENCRYPTED', 'ssh.encrypted'),
    },
  ],
  [
    'vpn',
    {
      help: 'vpn: WireGuard, OpenVPN, and IPsec (ESP, in UDP too, and AH)',
      make: fixed('vpn', 'VPN', 'service in {wireguard, openvpn, esp} or proto in {esp, ah}'),
    },
  ],
  [
    'bulk',
    {
      help: `bulk[=SIZE]: connections beyond SIZE IP bytes in one direction (${bytesText(BULK_DEFAULT_BYTES)} unless given)`,
      make: (argument) => {
        const size = sizeOf('bulk', argument, BULK_DEFAULT_BYTES);
        return {
          name: 'bulk',
          trigger: 'BULK',
          when: `packets >= ${BULK_FROM_PACKET} and either.bytes >= ${size}`,
        };
      },
    },
  ],
  [
    'depth',
    {
      help: 'depth=SIZE[/both]: connections of which SIZE IP bytes were seen in one direction, or in both: the stream depth of Suricata',
      make: makeDepth,
    },
  ],
  [
    'elephant',
    {
      help: 'elephant[=RATE]: connections of 10 MB and more at RATE (100Mb/s) and more since their first packet',
      make: makeElephant,
    },
  ],
  [
    'streaming',
    {
      help: 'streaming[=DOMAIN+DOMAIN…]: films and music by server name: a list of well-known ones, or these',
      make: makeStreaming,
    },
  ],
  [
    'unknown',
    {
      help: 'unknown[=PACKETS/SIZE]: connections in which nothing was recognized after so many packets and bytes (20/100kB)',
      make: makeUnknown,
    },
  ],
  [
    'opaque',
    {
      help: 'opaque[=SIZE]: nothing recognized, random-looking bytes in both directions, and SIZE bytes (100kB)',
      make: (argument) => {
        const size = sizeOf('opaque', argument, 100_000);
        return { name: 'opaque', trigger: 'OPAQUE', when: `opaque and bytes >= ${size}` };
      },
    },
  ],
  [
    'backup',
    {
      help: 'backup[=SIZE]: well-known ports of backup, replication and storage, beyond SIZE bytes (10MB)',
      make: (argument) => {
        const size = sizeOf('backup', argument, 10_000_000);
        return {
          name: 'backup',
          trigger: 'BACKUP',
          when: `proto == tcp and resp.port in {${BACKUP_PORTS}} and bytes >= ${size}`,
        };
      },
    },
  ],
]);

/** The preset `name` with its argument. @throws SluiceError USAGE */
export function presetPolicy(text: string): PolicySpec {
  const equals = text.indexOf('=');
  const name = (equals < 0 ? text : text.slice(0, equals)).trim().toLowerCase();
  const preset = PRESETS.get(name);
  if (preset === undefined) {
    // Carriers that are kept stand behind the sign, also without a size.
    const near = name.startsWith('tls-') ? `tls=${name.slice(3)}` : nearest(name, PRESETS.keys());
    const hint = near === undefined ? '' : `did you mean '${near}'? `;
    throw usage(
      name === '' ? 'a policy has no name' : `there is no policy '${name}'`,
      `${hint}known: ${[...PRESETS.keys(), 'none'].join(', ')}; others are written into a policy file (--policy-file)`,
    );
  }
  const made = preset.make(equals < 0 ? undefined : text.slice(equals + 1).trim());
  return { ...made, action: 'shunt', priority: 0, share: 1, dryRun: false, note: '' };
}

function fixed(name: string, trigger: string, when: string): Preset['make'] {
  return (argument) => {
    if (argument !== undefined)
      throw usage(`policy '${name}' takes no argument, but got '${argument}'`, `write just ${name}`);
    return { name, trigger, when };
  };
}

function makeTls(argument: string | undefined): ReturnType<Preset['make']> {
  const made = { name: 'tls', trigger: 'TLS_ESTABLISHED', when: 'tls.established and not service == quic' };
  if (argument === undefined) return made;
  const [size, ...kept] = argument.split('-');
  const other = kept.find((name) => !CARRIERS.has(name));
  if (other !== undefined || (size === '' && kept.length === 0))
    throw usage(
      `policy 'tls' does not know '${other ?? argument}'`,
      `carriers that are kept are named with a minus: tls=-socks-rdp; known: ${[...CARRIERS.keys()].join(', ')}`,
    );
  if (size !== '') made.when += ` and bytes >= ${sizeOf('tls', size, 0)}`;
  const names = [...new Set(kept)].sort();
  const but = names.map((name) => ` and not ${CARRIERS.get(name)}`).join('');
  return { ...made, when: made.when + but };
}

function makeDepth(argument: string | undefined): ReturnType<Preset['make']> {
  const [size = '', sides, ...rest] = (argument ?? '').split('/');
  if (argument === undefined || rest.length > 0 || (sides !== undefined && sides !== 'both'))
    throw usage("policy 'depth' needs a size", 'write it like depth=1MB, or depth=1MB/both');
  const bytes = sizeOf('depth', size, 0);
  return sides === undefined
    ? { name: 'depth', trigger: 'DEPTH', when: `either.bytes >= ${bytes}` }
    : { name: 'depth', trigger: 'DEPTH', when: `both.bytes >= ${bytes}` };
}

function makeElephant(argument = '100Mb/s'): ReturnType<Preset['make']> {
  if (!/^\d{1,6}(\.\d{1,3})?[kMG]?[bB]\/s$/.test(argument))
    throw usage(`policy 'elephant' needs a rate, not '${argument}'`, 'write it like elephant=100Mb/s');
  return {
    name: 'elephant',
    trigger: 'ELEPHANT',
    when: `bytes >= 10MB and rate >= ${argument}`,
  };
}

function makeStreaming(argument: string | undefined): ReturnType<Preset['make']> {
  const domains = (argument ?? STREAMING.join('+'))
    .split('+')
    .map((text) => [text, parseDomain(text)] as const);
  for (const [text, name] of domains)
    if (name === undefined)
      throw usage(
        `policy 'streaming': '${text}' is no domain`,
        'write it like streaming=example.com+example.net',
      );
  const list = domains.map(([, name]) => `"${name}"`).join(', ');
  // Not before it is known what the record will say: how TLS came about, which service it is.
  const known = ['tls.sni', 'http.host', 'dns.name'].map((field) => `${field} in {${list}}`);
  return {
    name: 'streaming',
    trigger: 'STREAMING',
    when: `tls.established and (${known[0]} or ${known[2]}) or service == http and ${known[1]} or packets >= ${STREAMING_FROM_PACKET} and ${known[2]}`,
  };
}

function makeUnknown(argument = '20/100kB'): ReturnType<Preset['make']> {
  const match = /^(\d{1,9})\/(.+)$/.exec(argument);
  if (match === null)
    throw usage(
      `policy 'unknown' does not know '${argument}'`,
      'write it like unknown=20/100kB: packets, bytes',
    );
  const size = sizeOf('unknown', match[2], 0);
  return {
    name: 'unknown',
    trigger: 'UNKNOWN',
    when: `packets >= ${match[1]} and bytes >= ${size} and not service`,
  };
}

function sizeOf(policy: string, argument: string | undefined, otherwise: number): number {
  if (argument === undefined) return otherwise;
  let size: number;
  try {
    size = parseBytes(argument);
  } catch (error) {
    throw new SluiceError('USAGE', `policy '${policy}' needs a size, not '${argument}'`, {
      cause: error,
      help: `write it like ${policy}=1MB (10^6 bytes), ${policy}=500kB or ${policy}=1MiB (2^20 bytes)`,
    });
  }
  if (size < 1) throw usage(`policy '${policy}' needs a size above 0`, `write it like ${policy}=1MB`);
  return size;
}

function usage(message: string, help: string): SluiceError {
  return new SluiceError('USAGE', message, { help });
}
