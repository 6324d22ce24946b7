/** A mix of traffic that is mostly TLS, as frames to be sent again and again, each time as other connections. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { connect, createSecureContext, type SecureVersion, TLSSocket } from 'node:tls';
import { makeCertificate } from '../lab/certificate.ts';
import { eth } from '../src/packet/build.ts';
import { conversation, seeded, type Turn } from '../src/packet/conversation.ts';

/** Their lower halves are those of the turn in what is sent (bpf/bench_send.bpf.c), and add up to the same. */
const CLIENT = '10.20.0.0';
const SERVER = '198.51.100.0';
const RECORD = 16_384;

export interface MixPart {
  tls: boolean;
  frames: Uint8Array[];
}

export interface Mix {
  /** Frame i lies from offsets[i] to offsets[i + 1]. */
  readonly frames: Uint8Array;
  readonly offsets: Uint32Array;
  readonly packets: number;
  readonly connections: number;
  /** Shares of TLS, all of its packets counted. */
  readonly tlsPackets: number;
  readonly tlsBytes: number;
}

/** Bytes of a TLS connection (1.3 unless told) in the order of the wire, with `size` bytes from the server. */
export async function tlsTurns(
  size: number,
  { servername = 'www.lab.example', version }: { servername?: string; version?: SecureVersion } = {},
): Promise<Turn[]> {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-mix-'));
  try {
    const files = await makeCertificate(directory);
    const [key, cert] = [readFileSync(files.key), readFileSync(files.certificate)];
    const turns: Turn[] = [];
    const ends: Duplex[] = [];
    for (const [side, from] of (['client', 'server'] as const).entries())
      ends.push(
        new Duplex({
          read() {},
          write(chunk: Buffer, _encoding, done) {
            for (let at = 0; at < chunk.length; at += RECORD)
              turns.push({ from, data: Uint8Array.from(chunk.subarray(at, at + RECORD)) });
            ends[1 - side].push(chunk);
            done();
          },
        }),
      );
    const server = new TLSSocket(ends[1], {
      isServer: true,
      secureContext: createSecureContext({ key, cert }),
    });
    const client = connect({
      socket: ends[0],
      servername,
      rejectUnauthorized: false,
      ...(version === undefined ? {} : { minVersion: version, maxVersion: version }),
    });
    await new Promise<void>((resolve, reject) => {
      let got = 0;
      server.once('data', () => void server.write(Buffer.alloc(size, 's')));
      client.once('secureConnect', () => void client.write(`GET / HTTP/1.1\r\nHost: ${servername}\r\n\r\n`));
      client.on('data', (chunk: Buffer) => {
        got += chunk.length;
        if (got >= size) resolve();
      });
      for (const end of [client, server]) end.once('error', reject);
    });
    client.destroy();
    server.destroy();
    return turns;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function httpTurns(size: number): Turn[] {
  const request = 'GET /file HTTP/1.1\r\nHost: plain.lab.example\r\n\r\n';
  const head = `HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: ${size}\r\n\r\n`;
  const body = Buffer.alloc(head.length + size, 'plain text ');
  body.write(head);
  return [
    { from: 'client', data: Buffer.from(request) },
    { from: 'server', data: body },
  ];
}

/** The beginning of a recorded connection, with `size` bytes from the server or a little more. */
function shortened(turns: readonly Turn[], size: number): Turn[] {
  let left = size;
  return turns.filter(({ from, data }) => {
    const keep = left > 0;
    if (from === 'server') left -= typeof data === 'number' ? data : data.length;
    return keep;
  });
}

/** How many connections of how many bytes; with these 88 % of the bytes are TLS. */
export const SIZES = {
  tls: [
    [1, 12_000_000],
    [3, 4_500_000],
    [12, 1_200_000],
    [40, 60_000],
  ],
  http: [
    [1, 2_500_000],
    [27, 120_000],
  ],
  dns: 200,
} as const;

/** Bytes of all bulky connections in a mix that warms up, and what each has more than `bulk` asks for. */
const BULKY_BYTES = 60_000_000;
const BULKY_MORE = 1.05;

interface MixSizes {
  tls: readonly (readonly [number, number])[];
  http: readonly (readonly [number, number])[];
  dns: number;
}

/**
 * What has sensors begin connections and shunts so often that their code gets compiled: short connections, and some of HTTP that have
 * a little more than `bulk` bytes.
 */
export async function warmMix(bulk: number): Promise<Mix> {
  return await tlsMix({
    tls: [
      [150, 6_000],
      [50, 60_000],
    ],
    http: [
      [150, 3_000],
      [Math.ceil(BULKY_BYTES / bulk), Math.ceil(bulk * BULKY_MORE)],
    ],
    dns: 400,
  });
}

/** The mix of these connections, each spread over a part of it. */
export async function tlsMix(sizes: MixSizes = SIZES): Promise<Mix> {
  const whole = await tlsTurns(Math.max(...sizes.tls.map(([, size]) => size)));
  const parts: MixPart[] = [];
  const add = (tls: boolean, port: number, turns: Turn[]): void => {
    const client = { address: CLIENT, port: 20_000 + parts.length };
    const made = conversation({ client, server: { address: SERVER, port }, turns });
    parts.push({ tls, frames: made.map(({ bytes }) => bytes) });
  };
  for (const [count, size] of sizes.tls)
    for (let n = 0; n < count; n++) add(true, 443, shortened(whole, size));
  for (const [count, size] of sizes.http) for (let n = 0; n < count; n++) add(false, 80, httpTurns(size));
  for (let n = 0; n < sizes.dns; n++) parts.push({ tls: false, frames: [dnsQuery(n)] });
  return mixOf(parts);
}

function dnsQuery(n: number): Uint8Array {
  const name = [3, ...Buffer.from('www'), 3, ...Buffer.from('lab'), 7, ...Buffer.from('example'), 0];
  const query = Uint8Array.of(n >> 8, n, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...name, 0, 1, 0, 1);
  return eth()
    .ipv4({ src: CLIENT, dst: SERVER })
    .udp({ sport: 30_000 + n, dport: 53 })
    .payload(query)
    .bytes();
}

/** Frames of all parts in one order: each part takes a half of the time, beginning somewhere in the first half. */
export function mixOf(parts: readonly MixPart[]): Mix {
  const random = seeded(3);
  const order = parts
    .flatMap(({ frames, tls }, nth) => {
      const start = random() / 2;
      return frames.map((bytes, i) => ({ bytes, tls, at: start + i / frames.length / 2 + nth * 1e-9 }));
    })
    .sort((a, b) => a.at - b.at);
  const offsets = new Uint32Array(order.length + 1);
  for (const [i, { bytes }] of order.entries()) offsets[i + 1] = offsets[i] + bytes.length;
  const frames = new Uint8Array(offsets[order.length]);
  for (const [i, { bytes }] of order.entries()) frames.set(bytes, offsets[i]);
  const tls = order.filter((each) => each.tls);
  return {
    frames,
    offsets,
    packets: order.length,
    connections: parts.length,
    tlsPackets: tls.length / order.length,
    tlsBytes: tls.reduce((sum, { bytes }) => sum + bytes.length, 0) / frames.length,
  };
}
