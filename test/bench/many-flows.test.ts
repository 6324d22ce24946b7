import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { writeManyFlows } from '../../bench/many-flows.ts';
import { FileSource } from '../../src/capture/file.ts';
import { describe as layers } from '../../src/packet/describe.ts';

const dir = mkdtempSync(join(tmpdir(), 'sluice-flows-'));
afterAll(() => rmSync(dir, { recursive: true }));

const small = { packets: 5000, flows: 300, concurrent: 40, segment: 100 };

describe('writeManyFlows', () => {
  const path = join(dir, 'a.pcap');
  const made = writeManyFlows(path, small);

  test('as many packets and connections as asked for, all well-formed, with TCP numbers that follow', () => {
    const source = FileSource.open(path);
    const ends = new Set<string>();
    const next = new Map<string, number>();
    const kinds = new Map<string, number>();
    let frameBytes = 0;
    let last = 0;
    const sink = (packet: { u8: Uint8Array; offset: number; caplen: number; ts: number }) => {
      const text = layers(packet.u8.subarray(packet.offset, packet.offset + packet.caplen));
      expect(text).not.toMatch(/BAD|cut off/);
      expect(packet.ts).toBeGreaterThanOrEqual(last);
      last = packet.ts;
      frameBytes += packet.caplen;
      const [, a, b] = /ipv[46] (\S+) > (\S+)/.exec(text) as unknown as [string, string, string];
      const [, proto, sport, dport] = /(tcp|udp) (\d+) > (\d+)/.exec(text) as unknown as string[];
      ends.add([`${a} ${sport}`, `${b} ${dport}`, proto].sort().join(' '));
      kinds.set(
        `${a.includes(':') ? 6 : 4} ${proto}`,
        (kinds.get(`${a.includes(':') ? 6 : 4} ${proto}`) ?? 0) + 1,
      );
      if (proto === 'udp') return;
      const [, seq, flags] = /seq (\d+) ack \d+ flags (\w+)/.exec(text) as unknown as string[];
      const side = `${a} ${sport} ${b} ${dport}`;
      if (next.has(side)) expect(Number(seq)).toBe(next.get(side));
      const payload = Number(/data (\d+)/.exec(text)?.[1] ?? 0);
      next.set(side, (Number(seq) + payload + (/[SF]/.test(flags) ? 1 : 0)) >>> 0);
    };
    while (source.drain(sink, 1000));
    source.close();
    expect(source.problem).toBeUndefined();
    expect(source.packets).toBe(5000);
    expect(ends.size).toBe(300);
    expect(made).toEqual({ packets: 5000, flows: 300, bytes: source.totalBytes, frameBytes });
    expect([...kinds.keys()].sort()).toEqual(['4 tcp', '4 udp', '6 tcp', '6 udp']);
  });

  test('the same seed gives the same bytes, another one others', () => {
    const other = join(dir, 'b.pcap');
    writeManyFlows(other, small);
    expect(readFileSync(other).equals(readFileSync(path))).toBe(true);
    writeManyFlows(other, { ...small, seed: 2 });
    expect(readFileSync(other).equals(readFileSync(path))).toBe(false);
  });

  test('too few packets for the connections is refused', () => {
    expect(() => writeManyFlows(join(dir, 'c.pcap'), { packets: 100, flows: 100 })).toThrow(RangeError);
  });
});
