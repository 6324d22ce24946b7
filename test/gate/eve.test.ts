import { expect, test } from 'vitest';
import { EVE_LIMITS, type EveEvent, parseEve } from '../../src/gate/eve-event.ts';
import { EveFlows } from '../../src/gate/eve-flows.ts';
import { LineCutter } from '../../src/gate/eve-input.ts';
import { loadPolicies, PolicySet, setsOf } from '../../src/policy/index.ts';
import { eveAlert, eveFlow, eveHttp, eveTls } from './eve-records.ts';

function parsed(record: object): EveEvent {
  const event = parseEve(JSON.stringify(record));
  if (typeof event === 'string') throw new Error(`refused as ${event}`);
  return event;
}

test('a TLS record tells the connection, its VLANs, and what was agreed on', () => {
  expect(parsed({ ...eveTls, vlan: [5, 9] })).toMatchObject({
    type: 'tls',
    proto: 'tcp',
    orig: { addr: '10.0.0.1', port: 40_000 },
    resp: { addr: '10.0.0.2', port: 443 },
    vlan: 5,
    innerVlan: 9,
    serverName: 'www.example.org',
    tlsVersion: 'TLSv13',
    ja3: 'e7d705a3286e19ea42f587b344ee6865',
    over: false,
  });
});

test('an alert on a packet of the server is about the client as well', () => {
  const alert = parsed(eveAlert);
  expect(alert.orig).toEqual({ addr: '10.0.0.1', port: 40_000 });
  expect(alert.counts).toEqual({ origPkts: 12, respPkts: 900, origBytes: 1900, respBytes: 1_300_000 });
  expect(alert.age).toBeCloseTo(2.5, 3);
});

test('a flow record is the last of its connection, with all counts', () => {
  expect(parsed(eveFlow)).toMatchObject({
    over: true,
    bypassed: true,
    appProto: 'tls',
    counts: { origPkts: 551, respPkts: 550 },
  });
});

test('what is none of these, or has no ports, is passed over; what Suricata would not write is counted', () => {
  for (const [line, why] of [
    ['{"event_type":"stats","stats":{}}', 'other'],
    [JSON.stringify({ ...eveTls, proto: 'ICMP', src_port: undefined }), 'other'],
    [JSON.stringify({ ...eveTls, proto: 'IPv6-ICMP' }), 'other'],
    ['', 'bad'],
    ['{', 'bad'],
    ['[]', 'bad'],
    ['null', 'bad'],
    ['"tls"', 'bad'],
    [JSON.stringify({ ...eveTls, event_type: 7 }), 'bad'],
    [JSON.stringify({ ...eveTls, src_ip: '10.0.0' }), 'bad'],
    [JSON.stringify({ ...eveTls, src_ip: 'fe80::1%eth0' }), 'bad'],
    [JSON.stringify({ ...eveTls, dest_port: 65_536 }), 'bad'],
    [JSON.stringify({ ...eveTls, dest_port: '443' }), 'bad'],
    [JSON.stringify({ ...eveTls, vlan: [4096] }), 'bad'],
    [JSON.stringify({ ...eveTls, vlan: 5 }), 'bad'],
    [`${'['.repeat(100_000)}${']'.repeat(100_000)}`, 'bad'],
    [`{"event_type":"tls","x":${'{"x":'.repeat(40)}1${'}'.repeat(40)}}`, 'bad'],
    [JSON.stringify({ ...eveTls, __proto__: { event_type: 'tls' } }).replace('tls', 'x'), 'other'],
  ] as const)
    expect(parseEve(line), line.slice(0, 80)).toBe(why);
});

test('parts that are of another kind than they should be are unknown, not errors', () => {
  for (const value of [null, 7, 'text', [], {}, true, -1, 1e300, 'x'.repeat(5000)]) {
    const event = parsed({
      ...eveTls,
      tls: value,
      flow: value,
      http: value,
      app_proto: value,
      timestamp: value,
    });
    expect(event.serverName).toBeUndefined();
    const inside = parsed({
      ...eveTls,
      tls: { sni: value, version: value, ja3: value, server_alpns: value },
    });
    expect(inside.proto).toBe('tcp');
    parsed({ ...eveFlow, flow: { pkts_toserver: value, bytes_toclient: value, start: value, state: value } });
  }
});

test('any bytes are read without an error', () => {
  let seed = 12_345;
  const random = (below: number): number => (seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff) % below;
  const texts = [eveTls, eveAlert, eveFlow, eveHttp].map((record) => JSON.stringify(record));
  for (let round = 0; round < 3000; round++) {
    const bytes = Buffer.from(texts[round % texts.length]);
    for (let i = 0; i < 1 + random(4); i++) bytes[random(bytes.length)] = random(256);
    const event = parseEve(bytes.toString('utf8'));
    if (typeof event !== 'string') new EveFlows().learn(event);
  }
});

test('lines come out of pieces of any size; one that is too long is left out and the next is whole', () => {
  const lines: string[] = [];
  let long = 0;
  const cutter = new LineCutter({ line: (text) => lines.push(text), tooLong: () => long++ });
  const whole = Buffer.from(`first\nsecond ä\n\n${'x'.repeat(EVE_LIMITS.line + 1)}\nlast\n`);
  for (let at = 0; at < whole.length; at += 7) cutter.push(whole.subarray(at, at + 7));
  expect(lines).toEqual(['first', 'second ä', 'last']);
  expect(long).toBe(1);
  cutter.push(Buffer.from('no end'));
  cutter.flush();
  expect(lines.at(-1)).toBe('no end');
});

async function decide(policy: string, ...records: object[]): Promise<number[]> {
  const plan = await loadPolicies([policy], []);
  const policies = new PolicySet(plan.specs, setsOf(plan));
  const flows = new EveFlows();
  return records.map((record) => {
    const flow = flows.learn(parsed(record));
    return policies.decide(flow, flow.hash, 0, flow.told, { noted: () => {}, spared: () => {} });
  });
}

test('policies see what the records of a connection say together', async () => {
  const LATER = -1;
  expect(await decide('tls', eveHttp, eveTls)).toEqual([LATER, 0]);
  expect(await decide('bulk=1MB', eveTls, eveAlert)).toEqual([LATER, 0]);
  expect(await decide('streaming=example.org', eveTls)).toEqual([0]);
  expect(await decide('streaming=example.net', eveTls)).toEqual([LATER]);
});

test('of more connections than are known at a time the least recent is forgotten', () => {
  const flows = new EveFlows();
  const event = parsed(eveTls);
  for (let i = 0; i < 70_000; i++)
    flows.learn({ ...event, orig: { addr: `10.1.${i >> 16}.1`, port: i & 0xffff } });
  // Seen lately.
  flows.learn({ ...event, orig: { addr: '10.1.1.1', port: 4463 } });
  expect(flows.size).toBe(65_536);
});
