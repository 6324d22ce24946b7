import { expect, it, test } from 'vitest';
import { gain, gainOfPairs } from '../../bench/shunt.ts';
import { bulkOf } from '../../bench/shunt-side.ts';
import { timelineOf, timelinePage } from '../../bench/shunt-timeline.ts';
import { lostIn, shuntsIn } from '../../bench/shunt-tools.ts';
import { mixOf, tlsMix, warmMix } from '../../bench/tls-mix.ts';
import { createFlowEngine, FlowFlag } from '../../src/flow/index.ts';
import { Packet } from '../../src/packet/packet.ts';
import { shifted } from './shifted.ts';

it('the mix has TLS that is recognized, in each turn as other connections with right checksums', async () => {
  const sizes = { tls: [[3, 40_000]], http: [[2, 8000]], dns: 4 } as const;
  const mix = await tlsMix(sizes);
  expect(mix.connections).toBe(9);
  expect(mix.tlsBytes).toBeGreaterThan(0.5);
  let established = 0;
  const services: string[] = [];
  const engine = createFlowEngine(
    { maxFlows: 1024, checksums: true },
    {
      beforePacket: () => {},
      mayExpire: () => true,
      closed: (slot) => {
        if ((engine.flags(slot) & FlowFlag.tlsEstablished) !== 0) established++;
        services.push(engine.content.services(slot) ?? '-');
      },
    },
  );
  const packet = new Packet();
  for (const turn of [0, 1]) {
    for (let i = 0; i < mix.packets; i++) {
      packet.u8 = shifted(mix, turn, i);
      packet.caplen = packet.u8.length;
      packet.wirelen = packet.caplen;
      packet.ts = 1_700_000_000 + turn + i / mix.packets;
      engine.process(packet);
    }
  }
  engine.finish();
  expect(established).toBe(6);
  expect(services.toSorted()).toEqual([
    ...Array<string>(8).fill('dns'),
    ...Array<string>(4).fill('http'),
    ...Array<string>(6).fill('ssl'),
  ]);
});

test('shares are of packets and of bytes', () => {
  const mix = mixOf([
    { tls: true, frames: [new Uint8Array(900), new Uint8Array(300)] },
    { tls: false, frames: [new Uint8Array(100), new Uint8Array(100), new Uint8Array(100)] },
  ]);
  expect(mix).toMatchObject({ packets: 5, connections: 2, tlsPackets: 0.4, tlsBytes: 0.8 });
});

test.each([512_000, 4_000_000])('what warms up has connections of more than %i bytes', async (bulk) => {
  const mix = await warmMix(bulk);
  const most = new Map<number, number>();
  const view = new DataView(mix.frames.buffer);
  for (let i = 0; i < mix.packets; i++) {
    const at = mix.offsets[i] + 14;
    // To a client: its port is the connection's.
    if (mix.frames[at + 12] !== 10)
      most.set(view.getUint16(at + 22), (most.get(view.getUint16(at + 22)) ?? 0) + view.getUint16(at + 2));
  }
  const bulky = [...most.values()].filter((bytes) => bytes > bulk);
  expect(bulky.length).toBeGreaterThan(8);
  expect(bulky.length).toBeLessThan(mix.connections / 7);
});

test('the size of bulk, and what was shunted by its log', () => {
  expect(['tls', 'bulk=4MB', 'tls,quic,bulk=512kB'].map(bulkOf)).toEqual([undefined, 4_000_000, 512_000]);
  const lines = [
    ['start', 'BULK'],
    ['start', 'TLS'],
    ['end', 'BULK'],
    ['start', 'BULK'],
  ].map(([event, trigger]) => JSON.stringify({ ts: 1, proto: 'tcp', event, shunt_trigger: trigger }));
  expect([...shuntsIn(lines.join('\n'))]).toEqual([
    ['BULK', 2],
    ['TLS', 1],
  ]);
});

test('the live view of sluice run says what was lost', () => {
  const view =
    '3 s  tap 1 Mbit/s · shunted 80 %, 12 lost before the sensor · 5 connections open, 2 in the gate';
  expect(lostIn(`ready\n${view}`)).toBe(12);
  expect(lostIn(view.replace(', 12 lost before the sensor', ''))).toBe(0);
  expect(lostIn('ready')).toBeUndefined();
});

test('over time: shunts by when they began and ended; a page that no text can break', () => {
  const samples = [1, 2, 3].map((n) => ({ ts: 100 + n, seconds: 1, packets: 10 * n, cpu: 0.5 }));
  const events = [
    { ts: 100.5, event: 'start' },
    { ts: 101.5, event: 'start' },
    { ts: 101.7, event: 'start' },
    { ts: 102.5, event: 'end' },
    { ts: 102.6, event: 'noted' },
  ];
  const line = timelineOf(samples, events);
  expect(line).toEqual({
    x: [1, 2, 3],
    packets: [10, 20, 30],
    cpu: [50, 50, 50],
    rate: [1, 2, 0],
    live: [1, 3, 2],
    closed: [0, 0, 1],
  });
  const page = timelinePage('<b>', '</pre><script>', { '</script><script>alert(1)': line });
  expect(page).not.toContain('</script><script>alert');
  expect(page).toContain('&#60;b&#62;');
});

test('gain is how much more there is room for', () => {
  expect(gain(300, 200)).toBeCloseTo(50);
  expect(gain(undefined, 200)).toBeUndefined();
});

test('gains are those within pairs, however fast the machine is at the time', () => {
  const pairs = [1, 10, 2, 5, 3].map((slow, i) => ({
    base: { own: 300 * slow, kernel: 0 },
    other: { own: (200 + i) * slow, kernel: 0 },
    cable: 0,
  }));
  const gains = gainOfPairs(pairs, ({ own }) => own);
  expect(gains?.middle).toBeCloseTo((300 / 202 - 1) * 100);
  expect(gains?.quartiles).toBe('48 to 49');
  expect(gainOfPairs([], ({ own }) => own)).toBeUndefined();
});
