import { expect, it, test } from 'vitest';
import { gain } from '../../bench/shunt.ts';
import { timelineOf, timelinePage } from '../../bench/shunt-timeline.ts';
import { lostIn } from '../../bench/shunt-tools.ts';
import { mixOf, shiftAddresses, tlsMix } from '../../bench/tls-mix.ts';
import { createFlowEngine, FlowFlag } from '../../src/flow/index.ts';
import { Packet } from '../../src/packet/packet.ts';

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
    shiftAddresses(mix, turn, 0, mix.packets);
    for (let i = 0; i < mix.packets; i++) {
      packet.u8 = mix.frames;
      packet.offset = mix.offsets[i];
      packet.caplen = mix.offsets[i + 1] - mix.offsets[i];
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
