import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FileSource } from '../../src/capture/file.ts';
import { createFlowEngine } from '../../src/flow/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { parsePolicies, planOf } from '../../src/policy/index.ts';
import { policySchema } from '../../src/policy/spec.ts';
import { type Scenario, WhatIf, type WhatIfResult } from '../../src/sensor/what-if.ts';
import { scenariosOf, whatIfPage, whatIfText } from '../../src/sensor/what-if-report.ts';
import { corpusRoot, readCases } from '../flow/support/corpus.ts';
import { packetOf } from '../flow/support/harness.ts';

const MAX_FLOWS = 1 << 14;

function trial(
  tried: readonly string[] | readonly Scenario[],
  feed: (packet: (u8: ReturnType<typeof packetOf>) => void) => void,
  delay = 0,
): WhatIfResult {
  let whatIf: WhatIf | undefined;
  const engine = createFlowEngine(
    { checksums: false, seed: 1, maxFlows: MAX_FLOWS, randomness: true },
    {
      beforePacket: (slot, side, flags, now) => whatIf?.hooks.beforePacket(slot, side, flags, now),
      mayExpire: () => true,
      closed: (slot) => whatIf?.hooks.closed(slot),
    },
  );
  const scenarios = tried.every((one) => typeof one === 'string')
    ? scenariosOf(planOf(parsePolicies(tried)))
    : tried.filter((one) => typeof one !== 'string');
  whatIf = new WhatIf(engine, MAX_FLOWS, scenarios, delay);
  feed((packet) => {
    const slot = engine.process(packet);
    if (slot >= 0 && engine.isOpen(slot)) whatIf.packet(slot, packet.ts);
  });
  engine.finish();
  return whatIf.result();
}

/** A download of `bytes`, packet by packet. */
const download = (bytes: number, port = 40_000, start = 1_700_000_000) =>
  conversation({
    client: { address: '10.0.0.1', port },
    server: { address: '192.0.2.1', port: 8443 },
    mss: 1400,
    turns: [
      { from: 'client', data: 200 },
      { from: 'server', data: bytes },
    ],
    close: 'server-fin',
    start,
    gap: 0.001,
  });

/** What comes behind the packet that makes it 50 kB. */
function behind(frames: readonly { bytes: Uint8Array }[]): { bytes: Uint8Array }[] {
  let sum = 0;
  const at = frames.findIndex(({ bytes: frame }) => {
    sum += frame.length - 14;
    return sum >= 50_000;
  });
  return frames.slice(at + 1);
}

describe('what if', () => {
  test('from the packet that crosses the threshold on all is dropped, save what ends the connection', () => {
    const frames = download(100_000);
    const sizes = frames.map(({ bytes: frame }) => frame.length - 14);
    const feed = (sink: (packet: ReturnType<typeof packetOf>) => void) => {
      for (const { bytes: frame, ts } of frames) sink(packetOf(frame, ts));
    };
    const result = trial(['bulk=50kB'], feed);
    const [all] = result.scenarios;
    // The other way: the packet by which one side has 50 kB, then what follows without SYN, FIN and RST up to the first FIN.
    const sums = new Map<number, number>();
    let at = 0;
    for (; at < frames.length; at++) {
      const from = frames[at].bytes[26];
      sums.set(from, (sums.get(from) ?? 0) + sizes[at]);
      if (at + 1 >= 10 && (sums.get(from) ?? 0) >= 50_000) break;
    }
    let packets = 0;
    let bytes = 0;
    for (let i = at + 1; i < frames.length && (frames[i].bytes[47] & 7) === 0; i++) {
      packets++;
      bytes += sizes[i];
    }
    expect(packets).toBeGreaterThan(20);
    expect(all).toMatchObject({ connections: 1, packets, bytes });
    expect(result.packets).toBe(frames.length);
    expect(result.bytes).toBe(sizes.reduce((a, b) => a + b, 0));
    expect(all.dropped.reduce((a, b) => a + b, 0)).toBe(bytes);
    expect(all.policies[0]).toMatchObject({ name: 'bulk', connections: 1, packets, bytes });
    expect(all.content).toEqual({ '(none)': { connections: 1, packets, bytes } });
    // Later by the delay, in which a millisecond is a packet.
    expect(trial(['bulk=50kB'], feed, 0.01).scenarios[0].packets).toBe(packets - 9);
    // Beside it the other sizes, none of which it reaches.
    expect(result.scenarios.map(({ name }) => name)).toEqual([
      'all',
      'bulk=512kB',
      'bulk=1MB',
      'bulk=4MB',
      'bulk=16MB',
    ]);
    expect(result.scenarios.slice(1).every(({ connections }) => connections === 0)).toBe(true);
  });

  test('a pair takes all between its addresses while its time lasts, and its own policy decides on each connection once', () => {
    const first = download(100_000);
    const second = download(3000, 40_001, 1_700_000_001);
    const late = download(100_000, 40_002, 1_700_000_060);
    const when = 'resp.port == 8443 and bytes >= 50kB';
    const pair = policySchema.parse({
      name: 'peers',
      when,
      action: 'pair',
      for: '10s',
      budget: { perSecond: 1 },
    });
    const result = trial([{ name: 'all', plan: planOf([pair]) }], (sink) => {
      for (const { bytes: frame, ts } of [...first, ...second, ...late]) sink(packetOf(frame, ts));
    });
    const dropped = [...behind(first), ...second, ...behind(late)];
    const expected = {
      connections: 3,
      packets: dropped.length,
      bytes: dropped.reduce((all, { bytes: frame }) => all + frame.length - 14, 0),
    };
    expect(result.scenarios[0]).toMatchObject(expected);
    expect(result.scenarios[0].policies[0]).toMatchObject({ ...expected, spared: { budget: 0 } });
  });

  test('the time line stays bounded: a year of packets', () => {
    const [one] = download(10);
    const result = trial(['tls'], (sink) => {
      for (let day = 0; day < 365; day++) sink(packetOf(one.bytes, one.ts + day * 86_400));
    });
    expect(result.total.length).toBeLessThanOrEqual(4096);
    expect(result.total.reduce((a, b) => a + b, 0)).toBe(result.bytes);
    expect(result.stepSeconds * 4096).toBeGreaterThan(364 * 86_400);
  });

  test('text and page: what is in them is what was found, and nothing of it is markup', () => {
    const result = trial(['tls', 'bulk=50kB'], (sink) => {
      for (const { bytes: frame, ts } of download(100_000)) sink(packetOf(frame, ts));
    });
    const rate = { low: 150, high: 500 };
    const text = whatIfText(result, rate);
    expect(text).toMatch(/^policies +connections/);
    expect(text).toMatch(/^tls +0 /m);
    expect(text).toMatch(/no parser sees/);
    const page = whatIfPage(result, rate, '<script>alert(1)</script>');
    expect(page).not.toContain('<script>alert');
    expect(page).not.toMatch(/(src|href)="/);
    expect(page).toContain('uPlot');
  });
});

const root = corpusRoot();
const absent = root === undefined ? ' (absent: set SLUICE_CORPUS to its folder)' : '';

const CARRIERS = [
  'smtp',
  'imap',
  'ftp',
  'xmpp',
  'mysql',
  'postgresql',
  'http',
  'rdp',
  'socks',
  'irc',
  'pop3',
  'ldap',
  'tds',
  'nntp',
  'sieve',
];

/** Services of the connections of the whole corpus that each of the policies would shunt. */
function corpusServices(policies: readonly string[]): Map<string, Set<string>> {
  const scenarios = policies.map((name) => ({ name, plan: planOf(parsePolicies([name])) }));
  const found = new Map(policies.map((policy) => [policy, new Set<string>()]));
  for (const { name, format } of readCases(root as string)) {
    const source = FileSource.open(join(root as string, name, `trace.${format}`));
    const result = trial(scenarios, (sink) => {
      while (source.drain(sink, 100_000));
    });
    source.close();
    for (const scenario of result.scenarios)
      for (const services of Object.keys(scenario.content)) found.get(scenario.name)?.add(services);
  }
  return found;
}

const has = (services: string, name: string) =>
  services.split(',').includes(name === 'ldap' ? 'ldap_tcp' : name);

test.skipIf(root === undefined)(
  `presets over the corpus: each takes its kind, and each carrier of TLS can be kept${absent}`,
  () => {
    const found = corpusServices(['tls', 'quic', 'ssh', ...CARRIERS.map((carrier) => `tls=-${carrier}`)]);
    const taken = (policy: string) => [...(found.get(policy) ?? [])];
    const carriers = CARRIERS.filter((carrier) => taken('tls').some((services) => has(services, carrier)));
    expect(carriers.length).toBeGreaterThanOrEqual(4);
    expect(taken('tls').filter((services) => has(services, 'quic'))).toEqual([]);
    for (const carrier of carriers) {
      const kept = taken(`tls=-${carrier}`);
      expect(kept.filter((services) => has(services, carrier))).toEqual([]);
      expect(kept).toEqual(taken('tls').filter((services) => !has(services, carrier)));
    }
    for (const service of ['quic', 'ssh']) {
      expect(taken(service).length).toBeGreaterThan(0);
      for (const services of taken(service)) expect(services).toContain(service);
    }
  },
);
