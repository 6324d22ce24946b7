import { bytesOf, C, hex, S, type Said } from '../../../lab/bytes.ts';
import { full as dtls } from '../../../lab/dtls-build.ts';
import { crypto, initial, short } from '../../../lab/quic-build.ts';
import { answer, ENCRYPT, inPackets, PRELOGIN } from '../../../lab/tds-build.ts';
import { SERVICES } from '../../../src/flow/services/index.ts';
import type { Service } from '../../../src/flow/services/service.ts';
import { capture } from '../tls-capture.ts';
import { ber, integer, kerberos, NTLM_NEGOTIATE, spnego } from './ber-build.ts';

/** A conversation as all recognizers together see it. */
export interface Example {
  transport: 'tcp' | 'udp';
  /** What comes to stand in `service`. */
  found: string;
  said: readonly Said[];
  respPort: number;
}

/** A port that suggests nothing. */
export const ANY_PORT = 4242;

const joined = (...parts: (string | Uint8Array)[]) => Buffer.concat(parts.map(bytesOf));
const framed = (bytes: Uint8Array) => joined(Uint8Array.of(bytes.length >>> 8, bytes.length & 255), bytes);
const zeros = (bytes: number) => new Uint8Array(bytes);

const ldapBind = ber(0x30, integer(1), ber(0x60, integer(3), ber(4, 'cn=x'), ber(0x80, 'secret')));
const saslBind = (token: Uint8Array) =>
  ber(0x30, integer(1), ber(0x60, integer(3), ber(4), ber(0xa3, ber(4, 'GSS-SPNEGO'), ber(4, token))));
const startTls = ber(0x30, integer(2), ber(0x77, ber(0x80, '1.3.6.1.4.1.1466.20037')));
const startTlsDone = ber(0x30, integer(2), ber(0x78, ber(10, zeros(1)), ber(4), ber(4)));
const krbRequest = ber(0x6a, ber(0x30, ber(0xa1, integer(5)), ber(0xa2, integer(10)), ber(0xa4, 'body')));
const startup = hex('00000017 00030000 7573657200 706f73746772657300 00');
const wireguard = joined(hex('01000000 11223344'), zeros(140));
const dnp3 = hex('0564 05 c0 0100 0004 e921');

const NAME = '03777777076578616d706c65036f726700';
const query = hex(`1234 0100 0001 0000 0000 0000 ${NAME} 0001 0001`);
const reply = hex(`1234 8180 0001 0001 0000 0000 ${NAME} 0001 0001 c00c 0001 0001 00000e10 0004 c0000201`);
const ntp = (first: string, origin: string, transmit: string) =>
  hex(
    `${first} 01 08 ec ${'00'.repeat(8)} 47505300 ${'22'.repeat(8)} ${origin.repeat(8)} ${'33'.repeat(8)} ${transmit.repeat(8)}`,
  );
const PDU = '1c 02 04 12345678 02 01 00 02 01 00 30 0e 30 0c 06 08 2b06010201010300 05 00';
const snmp = (tag: string) => hex(`30 29 02 01 01 04 06 7075626c6963 ${tag}${PDU}`);
const sshPacket = (type: number, payload: number) => {
  const bytes = Buffer.alloc(10 + payload);
  bytes.writeUInt32BE(bytes.length - 4);
  bytes[4] = 4;
  bytes[5] = type;
  return bytes;
};
const mysqlPacket = (sequence: number, body: Uint8Array) =>
  joined(Uint8Array.of(body.length & 255, body.length >>> 8, 0, sequence), body);
const mysqlGreeting = mysqlPacket(
  0,
  joined('\x0a8.0.36\0', hex('08000000 6162636465666768 00 ffff ff0200'), zeros(40)),
);
const tpkt = (body: Uint8Array) =>
  joined(Uint8Array.of(3, 0, (body.length + 4) >>> 8, (body.length + 4) & 255), body);
const x224 = (type: number, rest: Uint8Array) =>
  tpkt(joined(Uint8Array.of(6 + rest.length, type, 0, 0, 0, 0, 0), rest));
const xmppHeader =
  "<?xml version='1.0'?><stream:stream to='x' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const smb2 = (command: number, response: boolean, body: number, offsetAt: number, buffer: Uint8Array) => {
  const message = Buffer.alloc(64 + body + buffer.length);
  message.write('\xfeSMB', 'latin1');
  message[4] = 64;
  message[12] = command;
  message[16] = response ? 1 : 0;
  message.writeUInt16LE(64 + body, 64 + offsetAt);
  message.writeUInt16LE(buffer.length, 64 + offsetAt + 2);
  message.set(buffer, 64 + body);
  return joined(zeros(2), framed(message));
};
const smb1 = (command: number, words: number, lengthAt: number, blob: Uint8Array) => {
  const message = Buffer.alloc(33 + words * 2 + 2 + blob.length);
  message.write('\xffSMB', 'latin1');
  message[4] = command;
  message[32] = words;
  message.writeUInt16LE(blob.length, 33 + lengthAt);
  message.set(blob, 33 + words * 2 + 2);
  return joined(zeros(2), framed(message));
};
const dceBind = (auth: Uint8Array) => {
  const pdu = joined(hex('05000b03 10000000'), zeros(64), auth);
  pdu.writeUInt16LE(pdu.length, 8);
  pdu.writeUInt16LE(auth.length, 10);
  return pdu;
};
const dceAck = hex('05000c03 10000000 1c00 0000 01000000 b810b810 00000000 00000000');
const esp = (number: number) => joined(hex('c0ffee01 000000'), Uint8Array.of(number), zeros(40));
const ike = hex('0102030405060708 0000000000000000 21202208 00000000 0000001c');
const openvpn = [
  hex('38 0102030405060708 00 00000000'),
  hex('40 1112131415161718 01 00000000 0102030405060708 00000000'),
] as const;
const smtp: readonly Said[] = [S('220 x ESMTP\r\n'), C('EHLO y\r\n'), S('250 x\r\n')];
const news: readonly Said[] = [S('200 news.example ready\r\n'), C('MODE READER\r\n'), S('200 go on\r\n')];
const sieve = S('"IMPLEMENTATION" "x"\r\n"SIEVE" "fileinto"\r\n"STARTTLS"\r\nOK\r\n');
const http: readonly Said[] = [
  C('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
  S('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'),
];

type Row = readonly [found: string, said: readonly Said[], respPort?: number];

const TCP: readonly Row[] = [
  ['smtp', smtp],
  [
    'smtp',
    [...smtp, C('MAIL FROM:<a@b>\r\nDATA\r\n'), S('250 ok\r\n354 go\r\n'), C('x\r\n.\r\n'), S('250 ok\r\n')],
  ],
  [
    'smtp',
    [
      ...smtp,
      C('AUTH LOGIN\r\n'),
      S('334 VXNlcg==\r\n'),
      C('eA==\r\n'),
      S('235 ok\r\n'),
      C('BDAT 2 LAST\r\nxx'),
    ],
  ],
  ['ftp', [S('220 x ready\r\n'), C('USER y\r\n'), S('331 password\r\n')]],
  ['ftp', [C('USER y\r\n'), S('220 x ready\r\n331 password\r\n')]],
  [
    'ftp',
    [
      S('220-welcome\r\n to\r\n220 FTP ready.\r\n'),
      C('USER anonymous\r\nPORT 192,168,1,2,201,7\r\nEPRT |2|2001:db8::1|5282|\r\nPASV\r\nEPSV\r\n'),
      S('227 Passive (10,0,0,9,4,1).\r\n229 Extended (|||6446|)\r\n'),
    ],
  ],
  ['imap', [S('* OK ready\r\n'), C('a CAPABILITY\r\n')]],
  ['pop3', [S('+OK ready\r\n'), C('USER y\r\n'), S('+OK\r\n')]],
  [
    'pop3',
    [S('+OK\r\n'), C('CAPA\r\nAUTH\r\n'), S('+OK\r\nUSER\r\n.\r\n+OK\r\nPLAIN\r\n.\r\n'), C('LIST\r\n')],
  ],
  ['irc', [C('NICK y\r\nUSER y 0 * :Y\r\n'), S(':x 001 y :Welcome\r\n')]],
  ['ldap_tcp', [C(ldapBind)]],
  ['ntlm,ldap_tcp', [C(saslBind(NTLM_NEGOTIATE))]],
  ['krb,gssapi,ldap_tcp', [C(saslBind(spnego(kerberos())))]],
  ['krb_tcp', [C(joined(zeros(2), framed(krbRequest)))]],
  ['postgresql', [C(startup), S(hex('52 00000008 00000000'))]],
  ['postgresql', [C(hex('00000008 04d21630')), S('N'), C(hex('00000008 04d2162f')), S('N'), C(startup)]],
  ['mqtt', [C(joined(hex('10 10 0004'), 'MQTT', hex('04 02 003c 0004 61626364'))), S(hex('20 02 0000'))]],
  ['redis', [C('*1\r\n$4\r\nPING\r\n'), S('+PONG\r\n*2\r\n:1\r\n$-1\r\n$2\r\nxx\r\n')]],
  ['modbus', [C(hex('0001 0000 0006 01 03 0000 0002')), S(hex('0001 0000 0007 01 03 04 00010002'))]],
  ['dnp3_tcp', [C(dnp3)]],
  ['bittorrent', [C(`\x13BitTorrent protocol${'\0'.repeat(48)}`)]],
  ['rfb', [S('RFB 003.008\n'), C('RFB 003.008\n')]],
  ['http', http],
  ['http', [C('GET /\r\n'), S('<html>')], 80],
  [
    'http',
    [
      C('CONNECT a:1 HTTP/1.1\r\n\r\n'),
      S('HTTP/1.1 407 Authenticate\r\n\r\n'),
      C('CONNECT a:1 HTTP/1.1\r\n'),
    ],
  ],
  ['http,smtp', [C('CONNECT a:25 HTTP/1.1\r\n\r\n'), S('HTTP/1.0 200 OK\r\n\r\n'), ...smtp]],
  [
    'http,websocket',
    [
      C('GET /c HTTP/1.1\r\nUpgrade: websocket\r\n\r\n'),
      S('HTTP/1.1 101 Switching\r\n\r\n'),
      C(hex('82 85 01020304 5051525354')),
      S(hex('82 7e 0005 6162636465')),
    ],
  ],
  ['dns', [C(framed(query)), S(framed(reply))], 53],
  [
    'ssh',
    [
      C('SSH-2.0-OpenSSH_9.6\r\n'),
      S('SSH-2.0-dropbear_2022.83\r\n'),
      C(sshPacket(20, 600)),
      S(joined(sshPacket(20, 200), sshPacket(31, 200), sshPacket(21, 0))),
    ],
  ],
  ['syslog_tcp', [C('<34>Oct 11 22:14:15 host su: failed\n')]],
  ['syslog_tcp', [C('14 <34>1 x failed\n')]],
  [
    'mysql',
    [S(mysqlGreeting), C(mysqlPacket(1, joined(hex('85a6ff19 00000001 ff'), zeros(23), 'root\0\0')))],
  ],
  ['mysql', [S(mysqlGreeting), C(mysqlPacket(1, joined(hex('85aeff19 00000001 ff'), zeros(23))))]],
  [
    'rdp',
    [
      C(x224(0xe0, joined('Cookie: mstshash=a\r\n', hex('01 00 0800 0b000000')))),
      S(x224(0xd0, hex('02 1f 0800 02000000'))),
    ],
  ],
  ['xmpp', [C(xmppHeader), S(`${xmppHeader}<stream:features/>`), C('<starttls/>'), S('<proceed/>')]],
  [
    'gssapi,ntlm,smb,dce_rpc',
    [
      C(smb2(0, false, 64, 40, zeros(0))),
      S(smb2(0, true, 64, 56, spnego(zeros(3)))),
      C(smb2(1, false, 24, 12, spnego(NTLM_NEGOTIATE))),
      S(smb2(1, true, 16, 4, spnego(NTLM_NEGOTIATE))),
      C(smb2(9, false, 48, 2, dceBind(zeros(0)))),
    ],
  ],
  [
    'krb,gssapi,smb',
    [
      C(smb1(0x72, 0, 0, zeros(0))),
      S(smb1(0x72, 17, 0, zeros(0))),
      C(smb1(0x73, 12, 14, spnego(kerberos()))),
    ],
  ],
  ['ntlm,dce_rpc', [C(dceBind(NTLM_NEGOTIATE)), S(dceAck)]],
  ['socks,smtp', [C(hex('04 01 0019 0a000001 00')), S(hex('00 5a 0000 00000000')), ...smtp]],
  [
    'socks,smtp',
    [
      C(hex('05 02 00 02')),
      S(hex('05 02')),
      C(hex('01 01 61 02 6263')),
      S(hex('01 00')),
      C(joined(hex('05 01 00 03 09'), 'x.example', hex('0019'))),
      S(hex('05 00 00 01 00000000 0000')),
      ...smtp,
    ],
  ],
  ['openvpn', [C(framed(openvpn[0])), S(framed(openvpn[1]))]],
  ['tds', [C(PRELOGIN), S(answer(ENCRYPT.notSupported)), C(hex('10 01 0010 0000 01 00 0000000000000000'))]],
  ['nntp', [...news, C('GROUP a.b\r\nLIST\r\nSTAT 1\r\n'), S('211 1 1 1 a.b\r\n215 list\r\n.\r\n')]],
  ['nntp', [S('201 no posting\r\n'), C('AUTHINFO USER x\r\n'), S('381 password\r\n'), C('LIST\r\nQUIT\r\n')]],
  ['sieve', [sieve, C('AUTHENTICATE "PLAIN" {4+}\r\neA==\r\n'), S('OK "in"\r\n')]],
];

const UDP: readonly Row[] = [
  ['ldap_udp', [C(ldapBind)]],
  ['krb', [C(krbRequest)]],
  ['wireguard', [C(wireguard), S(joined(hex('02000000 55667788 11223344'), zeros(80)))]],
  ['ike', [C(ike)]],
  ['ike,esp', [C(joined(zeros(4), ike)), C(esp(1)), C(esp(2)), C(esp(3))], 4500],
  ['dnp3_udp', [C(dnp3)]],
  ['bittorrent', [C('d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe')]],
  ['openvpn', [C(openvpn[0]), S(openvpn[1])]],
  ['dns', [C(query), S(reply)]],
  ['dns', [C(query)], 53],
  ['ntp', [C(ntp('23', '00', '11')), S(ntp('24', '11', '44'))]],
  ['dhcp', [C(hex(`01 01 06 00 ${'00'.repeat(232)} 63825363 350101 ff`))]],
  ['radius', [C(hex(`01 07 001a ${'5a'.repeat(16)} 01 06 6e656d6f`))], 1812],
  ['sip', [C('INVITE sip:b@x SIP/2.0\r\nVia: y\r\n\r\n'), S('SIP/2.0 100 Trying\r\n\r\n')]],
  ['snmp', [C(snmp('a0')), S(snmp('a2'))]],
  [
    'snmp',
    [0, 1]
      .map(() =>
        hex('30 1f 02 01 03 30 10 02 03 011111 02 03 00ffe3 04 01 04 02 01 03 04 02 3000 30 04 04000400'),
      )
      .map((v3, i) => [i as 0 | 1, v3] as const),
  ],
  ['stun', [C(hex('0001 0008 2112a442 000102030405060708090a0b 80220004 74657374'))]],
  ['syslog', [C("<34>Oct 11 22:14:15 host su: 'su root' failed\n")]],
  [
    'rdpeudp',
    [C(joined(hex('ffffffff 0000 0001'), zeros(80))), S(joined(hex('00000000 0000 0005'), zeros(80)))],
  ],
  ['ssl', dtls],
];

const CLIENT = { servername: 'quic.sluice.test', ALPNProtocols: ['h3'] };

/** What needs a handshake of OpenSSL. */
async function handshakes(): Promise<Example[]> {
  const versions = await Promise.all(
    (['TLSv1.2', 'TLSv1.3'] as const).map((version) =>
      capture({ ...CLIENT, minVersion: version, maxVersion: version }, { ALPNProtocols: ['h3'] }, 300),
    ),
  );
  // The client is 0 there.
  const said = versions.map(({ pieces }) =>
    pieces.map(({ from, bytes }): Said => [from === 0 ? 1 : 0, bytes]),
  );
  const hello = (from: 0 | 1) => {
    const bytes = Buffer.concat(said[1].filter(([side]) => side === from).map(([, text]) => bytesOf(text)));
    return bytes.subarray(5, 5 + bytes.readUInt16BE(3));
  };
  const quic: Said[] = [
    C(initial(crypto(0, hello(1)))),
    S(initial(joined(hex('02 00 40ff 01 00 03 01'), crypto(0, hello(0))), { from: 0 })),
    S(short),
    C(short),
  ];
  const inside: [string, Said[]][] = [
    ['smtp', [...smtp, C('STARTTLS\r\n'), S('220 go\r\n')]],
    ['imap', [S('* OK ready\r\n'), C('a STARTTLS\r\n'), S('a OK go\r\n')]],
    ['pop3', [S('+OK\r\n'), C('STLS\r\n'), S('+OK go\r\n')]],
    ['ftp', [S('220 FTP\r\n'), C('AUTH TLS\r\n'), S('234 go\r\n')]],
    ['irc', [C('NICK y\r\nSTARTTLS\r\n'), S(':x 670 y :go\r\n')]],
    ['xmpp', [C(xmppHeader), S(xmppHeader), C('<starttls/>'), S('<proceed/>')]],
    ['ldap_tcp', [C(startTls), S(startTlsDone)]],
    ['mysql', [S(mysqlGreeting), C(mysqlPacket(1, joined(hex('85aeff19 00000001 ff'), zeros(23))))]],
    ['postgresql', [C(hex('00000008 04d2162f')), S('S')]],
    ['rdp', [C(x224(0xe0, hex('01 00 0800 0b000000'))), S(x224(0xd0, hex('02 1f 0800 02000000')))]],
    ['socks', [C(hex('04 01 01bb 0a000001 00')), S(hex('00 5a 0000 00000000'))]],
    ['http', [C('CONNECT a:443 HTTP/1.1\r\n\r\n'), S('HTTP/1.0 200 OK\r\n\r\n')]],
    ['nntp', [...news, C('STARTTLS\r\n'), S('382 go\r\n')]],
    ['sieve', [sieve, C('STARTTLS\r\n'), S('OK "go"\r\n')]],
  ];
  const encrypted = (mode: number) => said.map((all) => [C(PRELOGIN), S(answer(mode)), ...inPackets(all)]);
  const tcp = (found: string, all: readonly Said[]): Example => ({
    transport: 'tcp',
    found,
    said: all,
    respPort: ANY_PORT,
  });
  return [
    ...said.map((all) => tcp('ssl', all)),
    ...inside.flatMap(([carrier, first]) => said.map((all) => tcp(`${carrier},ssl`, [...first, ...all]))),
    ...[ENCRYPT.on, ENCRYPT.required].flatMap(encrypted).map((all) => tcp('tds,ssl', all)),
    // The login alone: what follows is plain.
    ...encrypted(ENCRYPT.off).map((all) => tcp('tds', all)),
    { transport: 'udp', found: 'quic,ssl', said: quic, respPort: ANY_PORT },
  ];
}

/** Conversations of all services, each with what all recognizers together make of it. */
export async function examples(): Promise<Example[]> {
  const rows = (transport: 'tcp' | 'udp', list: readonly Row[]) =>
    list.map(([found, said, respPort = ANY_PORT]): Example => ({ transport, found, said, respPort }));
  return [...rows('tcp', TCP), ...rows('udp', UDP), ...(await handshakes())];
}

/** Recognizers of which no example confirms anything. */
export function withoutExample(all: readonly Example[], services: readonly Service[] = SERVICES): string[] {
  return services
    .filter(
      ({ name, transport }) =>
        !all.some(
          (example) =>
            (transport === 'both' || transport === example.transport) &&
            example.found.split(',').includes(name),
        ),
    )
    .map(({ name, transport }) => `${name} ${transport}`);
}
