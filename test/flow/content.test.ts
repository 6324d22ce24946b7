import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { FlowFlag } from '../../src/flow/index.ts';
import { looksRandom } from '../../src/flow/randomness.ts';
import { eth } from '../../src/packet/build.ts';
import { Harness, handshake } from './support/harness.ts';

let drawn = 0;
/** As from a cipher, and the same each time. */
function randomBytes(size: number): Buffer {
  const pieces = Array.from({ length: Math.ceil(size / 64) }, () =>
    createHash('sha512').update(`${drawn++}`).digest(),
  );
  return Buffer.concat(pieces).subarray(0, size);
}

function talk(
  harness: Harness,
  pieces: readonly (readonly ['client' | 'server', string | Uint8Array])[],
): number {
  let slot = handshake(harness, 1);
  let ts = 2;
  const next = { client: 1001, server: 5001 };
  for (const [from, text] of pieces) {
    const data = typeof text === 'string' ? new TextEncoder().encode(text) : text;
    const peer = from === 'client' ? 'server' : 'client';
    const [a, b] = [
      { address: '10.0.0.1', port: 40_000 },
      { address: '192.0.2.1', port: 8443 },
    ];
    const [source, target] = from === 'client' ? [a, b] : [b, a];
    slot = harness.feed(
      eth()
        .ipv4({ src: source.address, dst: target.address })
        .tcp({ sport: source.port, dport: target.port, flags: 'PA', seq: next[from], ack: next[peer] })
        .payload(data),
      (ts += 0.1),
    );
    next[from] += data.length;
  }
  return slot;
}

/** One packet of SSH's transport layer, unencrypted. */
const sshPacket = (type: number) => Uint8Array.from([0, 0, 0, 12, 10, type, ...new Uint8Array(10)]);

test('SSH is encrypted once both sides have switched to new keys', () => {
  const harness = new Harness();
  const begin = [
    ['server', 'SSH-2.0-a\r\n'],
    ['client', 'SSH-2.0-b\r\n'],
    ['client', sshPacket(20)],
    ['server', sshPacket(20)],
    ['server', sshPacket(21)],
  ] as const;
  const slot = talk(harness, begin);
  expect(harness.engine.content.services(slot)).toBe('ssh');
  expect(harness.engine.flags(slot) & FlowFlag.sshEncrypted).toBe(0);
  expect(harness.engine.content.isLearning(slot)).toBe(true);
  harness.engine.finish();
  const both = talk(harness, [...begin, ['client', sshPacket(21)]]);
  expect(harness.engine.flags(both) & FlowFlag.sshEncrypted).not.toBe(0);
  expect(harness.engine.content.establishedAt(both)).toBe(9);
  expect(harness.engine.content.isLearning(both)).toBe(false);
});

test('the host of the first HTTP request, without its port, whatever the letters of its name', () => {
  const harness = new Harness();
  const slot = talk(harness, [
    ['client', 'GET / HTTP/1.1\r\nAccept: x\r\nhOsT:  WWW.Example.com:8080 \r\n\r\n'],
    ['server', 'HTTP/1.1 200 OK\r\n\r\n'],
  ]);
  expect(harness.engine.content.host(slot)).toBe('www.example.com');
  harness.engine.finish();
  const odd = talk(harness, [
    ['client', 'GET / HTTP/1.1\r\nHost: <script>\r\n\r\n'],
    ['server', 'HTTP/1.1 200 OK\r\n\r\n'],
  ]);
  expect(harness.engine.content.services(odd)).toBe('http');
  expect(harness.engine.content.host(odd)).toBeUndefined();
});

test('news are told once, and a settled flow stays so until all are looked at anew', () => {
  const harness = new Harness();
  const slot = talk(harness, [
    ['client', 'GET / HTTP/1.1\r\nHost: a.b\r\n\r\n'],
    ['server', 'HTTP/1.1 200 OK\r\n\r\n'],
  ]);
  const { engine } = harness;
  expect(engine.flags(slot) & FlowFlag.news).not.toBe(0);
  engine.takeNews(slot);
  engine.setSettled(slot, true);
  expect(engine.flags(slot) & (FlowFlag.news | FlowFlag.settled)).toBe(FlowFlag.settled);
  engine.unsettleAll();
  expect(engine.flags(slot) & FlowFlag.settled).toBe(0);
});

test('random bytes look random, what people and programs write does not', () => {
  for (let i = 0; i < 500; i++) expect(looksRandom(randomBytes(64 + i), 0, 64 + i)).toBe(true);
  expect(looksRandom(randomBytes(40), 0, 40)).toBe(false);
  const source = readFileSync(new URL(import.meta.url));
  for (let at = 0; at + 200 < source.length; at += 100) expect(looksRandom(source, at, 200)).toBe(false);
  expect(looksRandom(new Uint8Array(500), 0, 500)).toBe(false);
  if (existsSync(process.execPath)) {
    const program = readFileSync(process.execPath).subarray(0, 4096);
    expect(looksRandom(program, 0, 512)).toBe(false);
  }
});

/** No first byte that a protocol might begin with: it is looked at as it is. */
const noise = () => Uint8Array.from([0xf7, ...randomBytes(200)]);

test('a connection is opaque when the first payload of both sides looks random and nothing is recognized', () => {
  const harness = new Harness({ randomness: true });
  const one = talk(harness, [['client', noise()]]);
  expect(harness.engine.content.isOpaque(one)).toBe(false);
  harness.engine.finish();
  const slot = talk(harness, [
    ['client', noise()],
    ['server', noise()],
  ]);
  expect(harness.engine.content.isOpaque(slot)).toBe(true);
  harness.engine.finish();
  const text = talk(harness, [
    ['client', noise()],
    ['server', 'hello '.repeat(40)],
  ]);
  expect(harness.engine.content.isOpaque(text)).toBe(false);
});
