import { beforeAll, expect, test } from 'vitest';
import { FlowFlag } from '../../src/flow/index.ts';
import { CLIENT_SIDE, Harness, handshake, noDelta, segment } from './support/harness.ts';
import { capture, type Piece } from './tls-capture.ts';

const TLS = FlowFlag.tlsConfirmed | FlowFlag.tlsEstablished;

interface Step {
  from: 'client' | 'server';
  seq: number;
  ack: number;
  bytes: Uint8Array;
}

/** The pieces of a TLS connection as segments of at most 500 bytes. */
function segments(pieces: readonly Piece[]): Step[] {
  const next = { client: 1001, server: 5001 };
  const out: Step[] = [];
  for (const { from, bytes } of pieces) {
    const [side, peer] = from === 0 ? (['client', 'server'] as const) : (['server', 'client'] as const);
    for (let at = 0; at < bytes.length; at += 500) {
      const part = bytes.subarray(at, at + 500);
      out.push({ from: side, seq: next[side], ack: next[peer], bytes: part });
      next[side] += part.length;
    }
  }
  return out;
}

function frameOf({ from, seq, ack, bytes }: Step): Uint8Array {
  return segment(from, 'PA', seq, ack).payload(bytes).bytes();
}

let steps: Step[] = [];

beforeAll(async () => {
  const tls = await capture({ servername: 'sluice.test', maxVersion: 'TLSv1.3', minVersion: 'TLSv1.3' });
  expect(tls.version).toBe('TLSv1.3');
  steps = segments(tls.pieces);
});

test('TLS is recognized, established once, and in the record', () => {
  const harness = new Harness();
  const slot = handshake(harness, 1);
  const changes: number[] = [];
  let before = 0;
  for (const step of steps) {
    harness.feed(frameOf(step), 2);
    const flags = harness.engine.flags(slot) & TLS;
    if (flags !== before) changes.push(flags);
    before = flags;
  }
  expect(changes).toEqual([FlowFlag.tlsConfirmed, FlowFlag.tlsConfirmed | FlowFlag.tlsEstablished]);
  expect(harness.engine.tls(slot)).toMatchObject({
    version: 0x0304,
    serverName: 'sluice.test',
    established: true,
  });
  expect(harness.engine.record(slot).service).toBe('ssl');
  harness.finish();
  expect(harness.engine.tls(slot)).toBeUndefined();
});

test('in any order of segments near one another, with repeats', () => {
  const harness = new Harness();
  const slot = handshake(harness, 1);
  for (let at = 0; at < steps.length; at += 3) {
    const group = steps.slice(at, at + 3).toReversed();
    for (const step of [...group, ...group]) harness.feed(frameOf(step), 2);
  }
  expect(harness.engine.flags(slot) & TLS).toBe(FlowFlag.tlsConfirmed | FlowFlag.tlsEstablished);
});

test('not in a bare run, not when a segment was cut by the capture, not when it was dropped', () => {
  const bare = new Harness({ bare: true });
  const whole = new Harness();
  const dropped = new Harness();
  const slots = [bare, whole, dropped].map((harness) => handshake(harness, 1));
  for (const [index, step] of steps.entries()) {
    const frame = frameOf(step);
    bare.feed(frame, 2);
    if (index === 1) {
      whole.feed(frame.subarray(0, frame.length - 10), 2, { wirelen: frame.length });
      const side = step.from === 'client' ? CLIENT_SIDE : 1;
      const sides = [noDelta(), noDelta()] as [ReturnType<typeof noDelta>, ReturnType<typeof noDelta>];
      Object.assign(sides[side], { pkts: 1, seq: step.seq + step.bytes.length });
      dropped.engine.absorb(slots[2], sides, []);
    } else {
      whole.feed(frame, 2);
      dropped.feed(frame, 2);
    }
  }
  for (const [index, harness] of [bare, whole, dropped].entries())
    expect(harness.engine.flags(slots[index]) & FlowFlag.tlsEstablished).toBe(0);
});

test('what is held back is bounded: a flow beyond it is not recognized, the others are', () => {
  const harness = new Harness({ serviceBufferBytes: 600 });
  const slot = handshake(harness, 1);
  for (const step of steps.toReversed()) harness.feed(frameOf(step), 2);
  expect(harness.engine.flags(slot) & TLS).toBe(0);
  harness.finish();
  const again = handshake(harness, 100);
  for (const step of steps) harness.feed(frameOf(step), 101);
  expect(harness.engine.flags(again) & FlowFlag.tlsEstablished).not.toBe(0);
});

test('other protocols are looked at once', () => {
  const harness = new Harness();
  const slot = handshake(harness, 1);
  harness.feed(segment('client', 'PA', 1001, 5001).payload('GET / HTTP/1.1\r\n\r\n'), 2);
  for (const step of steps) harness.feed(frameOf({ ...step, seq: step.seq + 18 }), 3);
  expect(harness.engine.flags(slot) & TLS).toBe(0);
  expect(harness.only().service).toBeUndefined();
});
