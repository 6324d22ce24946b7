import { expect, test } from 'vitest';
import { FlowFlag } from '../../src/flow/index.ts';
import { eth } from '../../src/packet/build.ts';
import { Harness } from './support/harness.ts';
import { capture } from './tls-capture.ts';

const TLS = FlowFlag.tlsConfirmed | FlowFlag.tlsEstablished;

interface End {
  address: string;
  port: number;
}

const CLIENT: End = { address: '10.0.0.1', port: 40_000 };
const FTP: End = { address: '192.0.2.1', port: 21 };

/** One TCP conversation whose pieces follow each other; `>` is said by `a`. */
function talk(harness: Harness, a: End, b: End, pieces: readonly string[], ts: number): void {
  const next: [number, number] = [1001, 5001];
  const send = (from: 0 | 1, flags: string, seq: number, ack: number, payload = '') => {
    const [src, dst] = from === 0 ? [a, b] : [b, a];
    harness.feed(
      eth()
        .ipv4({ src: src.address, dst: dst.address })
        .tcp({ sport: src.port, dport: dst.port, flags, seq, ack })
        .payload(Buffer.from(payload, 'latin1')),
      ts,
    );
  };
  send(0, 'S', 1000, 0);
  send(1, 'SA', 5000, 1001);
  send(0, 'A', 1001, 5001);
  for (const piece of pieces) {
    const from = piece.startsWith('>') ? 0 : 1;
    send(from, 'PA', next[from], next[1 - from], piece.slice(1));
    next[from] += piece.length - 1;
  }
}

function datagram(harness: Harness, from: End, to: End, payload: Uint8Array, ts: number): void {
  harness.feed(
    eth()
      .ipv4({ src: from.address, dst: to.address })
      .udp({ sport: from.port, dport: to.port })
      .payload(payload),
    ts,
  );
}

const login = ['<220 FTP ready\r\n', '>USER x\r\n', '<331 password\r\n'];

test('data connections that FTP has announced are ftp-data, whatever they carry', () => {
  const harness = new Harness();
  talk(
    harness,
    CLIENT,
    FTP,
    [
      ...login,
      '>PORT 10,0,0,1,200,1\r\n',
      '<200 ok\r\n',
      '>PASV\r\n',
      '<227 Passive (192,0,2,1,78,32)\r\n',
      '>EPSV\r\n',
      '<229 Extended (|||20001|)\r\n',
    ],
    1,
  );
  const active = { address: '10.0.0.1', port: 200 * 256 + 1 };
  talk(harness, { address: '192.0.2.1', port: 20 }, active, ['>GET / HTTP/1.1\r\n\r\n'], 2);
  talk(harness, { ...CLIENT, port: 40_001 }, { address: '192.0.2.1', port: 20_000 }, [], 3);
  talk(harness, { ...CLIENT, port: 40_002 }, { address: '192.0.2.1', port: 20_001 }, ['<x'], 4);
  // Each announcement is for one connection.
  talk(harness, { ...CLIENT, port: 40_003 }, { address: '192.0.2.1', port: 20_001 }, ['<x'], 5);
  expect(harness.finish().map(({ service }) => service)).toEqual([
    'ftp',
    'ftp-data',
    'ftp-data',
    'ftp-data',
    undefined,
  ]);
});

test('an announcement holds for five minutes', () => {
  const harness = new Harness();
  talk(
    harness,
    CLIENT,
    FTP,
    [...login, '>EPSV\r\n', '<229 x (|||20001|)\r\n', '>EPSV\r\n', '<229 x (|||20002|)\r\n'],
    1,
  );
  talk(harness, { ...CLIENT, port: 40_001 }, { address: '192.0.2.1', port: 20_001 }, ['<x'], 300);
  talk(harness, { ...CLIENT, port: 40_002 }, { address: '192.0.2.1', port: 20_002 }, ['<x'], 302);
  const services = harness.finish().map(({ respPort, service }) => [respPort, service]);
  expect(services).toContainEqual([20_001, 'ftp-data']);
  expect(services).toContainEqual([20_002, undefined]);
});

test('what a tunnel of HTTP carries, in the order of confirmation', () => {
  const harness = new Harness();
  talk(
    harness,
    CLIENT,
    { address: '192.0.2.1', port: 8080 },
    [
      '>CONNECT x:25 HTTP/1.1\r\n\r\n',
      '<HTTP/1.1 200 OK\r\n\r\n220 mail ESMTP\r\n',
      '>EHLO me\r\n',
      '<250 hello\r\n',
    ],
    1,
  );
  expect(harness.only().service).toBe('http,smtp');
});

test('TLS that begins inside of another protocol is established TLS for the policies', async () => {
  const tls = await capture({ servername: 'mail.sluice.test' });
  const harness = new Harness();
  const pieces = tls.pieces.map(
    ({ from, bytes }) => (from === 0 ? '>' : '<') + Buffer.from(bytes).toString('latin1'),
  );
  const before = ['<220 mail ESMTP\r\n', '>EHLO me\r\n', '<250-me\r\n250 STARTTLS\r\n'];
  talk(harness, CLIENT, { ...FTP, port: 25 }, [...before, '>STARTTLS\r\n', '<220 go\r\n', ...pieces], 7);
  expect(harness.engine.flags(0) & TLS).toBe(FlowFlag.tlsConfirmed | FlowFlag.tlsEstablished);
  expect(harness.engine.tls(0)).toMatchObject({ ts: 7, established: true, serverName: 'mail.sluice.test' });
  expect(harness.only().service).toBe('smtp,ssl');
});

test('a server of NTP or DNS that is heard first is the responder, and keeps no counts', () => {
  const server = { address: '10.0.0.9', port: 123 };
  const client = { address: '10.0.0.1', port: 123 };
  const ntp = new Uint8Array(48);
  ntp[0] = 0x24;
  const harness = new Harness();
  datagram(harness, server, client, ntp, 1);
  ntp[0] = 0x23;
  datagram(harness, client, server, ntp, 2);
  expect(harness.only()).toMatchObject({
    origHost: '10.0.0.1',
    service: 'ntp',
    history: 'D^',
    connState: 'S0',
    origPkts: 2,
    origBytes: 96,
    respPkts: 0,
  });
});

const response = Buffer.from('12348180000100010000000001610000010001c00c00010001000000780004c0000201', 'hex');

test('a DNS response to a group turns nothing', () => {
  const harness = new Harness();
  datagram(harness, { address: '10.0.0.9', port: 5353 }, { address: '224.0.0.251', port: 5353 }, response, 1);
  datagram(harness, { address: '10.0.0.9', port: 5353 }, { address: '10.0.0.1', port: 5353 }, response, 1);
  expect(harness.finish().map(({ origHost, history, service }) => [origHost, history, service])).toEqual([
    ['10.0.0.9', 'D', 'dns'],
    ['10.0.0.1', 'D^', 'dns'],
  ]);
});

test('what is no DNS on its port goes by the timeout of UDP', () => {
  const junk = Buffer.from('123401000fff00000000000061', 'hex');
  for (const [payload, alive] of [
    [response, 0],
    [junk, 1],
  ] as const) {
    const harness = new Harness();
    datagram(harness, CLIENT, { address: '192.0.2.1', port: 53 }, payload, 100);
    harness.engine.advance(115);
    expect(harness.engine.active).toBe(alive);
    harness.engine.advance(165);
    expect(harness.engine.active).toBe(0);
  }
});

test('a datagram that the capture has cut is looked at as far as it goes', () => {
  const harness = new Harness();
  const frame = eth()
    .ipv4({ src: '10.0.0.1', dst: '192.0.2.1' })
    .udp({ sport: 40_000, dport: 53 })
    .payload(Buffer.concat([response, Buffer.alloc(400)]))
    .bytes();
  harness.feed(frame, 1, { caplen: 42 + response.length, wirelen: frame.length });
  expect(harness.only().service).toBe('dns');
});
