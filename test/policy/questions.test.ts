import * as fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { domainTable } from '../../src/policy/domain-set.ts';
import type { FlowFacts } from '../../src/policy/fields.ts';
import {
  Answers,
  LATER,
  MAX_QUESTIONS,
  type PolicyEvents,
  PolicySet,
  readSignatures,
  SETTLED,
} from '../../src/policy/index.ts';
import { PrefixTableBuilder, parsePrefix } from '../../src/policy/prefix-set.ts';
import { type PolicySpec, policySchema } from '../../src/policy/spec.ts';
import { SignatureTable } from '../../src/policy/suricata/table.ts';
import { address, facts } from './facts.ts';

const nets = (...list: readonly string[]) => {
  const builder = new PrefixTableBuilder();
  for (const text of list) {
    const { bytes, bits } = parsePrefix(text) ?? { bytes: new Uint8Array(4), bits: 0 };
    builder.add(bytes, bits);
  }
  return builder.build();
};

const rule = (protocol: string, options: string, sid: number) =>
  `alert ${protocol} any any -> any any (${options} bypass; sid:${sid}; rev:1;)\n`;

const { signatures } = await readSignatures(
  rule('tls', 'tls.sni; content:"example.com"; endswith;', 1) +
    rule('http', 'http.host; content:"example"; startswith; content:!"www";', 2) +
    rule('ip', 'pcre:"/^test/W";', 3),
);

const SETS = {
  prefixes: new Map([
    ['nets', nets('192.0.2.0/24')],
    ['more', nets('198.51.100.0/24', '192.0.2.7/32')],
  ]),
  domains: new Map([['names', domainTable(['example.com', 'test.example.net'])]]),
  words: new Map(),
  signatures: new Map([['rules', new SignatureTable(signatures)]]),
};

type Written = Partial<PolicySpec> & { when: string };

const policiesOf = (written: readonly Written[]) =>
  new PolicySet(
    written.map((spec, i) => policySchema.parse({ name: `p${i}`, ...spec })),
    SETS,
  );

const SILENT: PolicyEvents = { noted: () => {}, spared: () => {} };

/** How often a set was asked about the responder's address, and about the server name. */
class Counted {
  address = 0;
  name = 0;
  #asks = 0;

  of(known: Partial<FlowFacts>): FlowFacts {
    const { resp, serverName, ...others } = facts(known);
    return Object.defineProperties({ ...others } as FlowFacts, {
      resp: { get: () => this.#note('address', resp) },
      serverName: { get: () => (serverName === undefined ? undefined : this.#note('name', serverName)) },
    });
  }

  #note<T>(what: 'address' | 'name', value: T): T {
    this[what]++;
    return value;
  }

  /** Since it was last asked. */
  get waits(): number {
    const now = this.address + this.name;
    const before = this.#asks;
    this.#asks = now;
    return now - before;
  }
}

/** The looks at a TLS connection: handshake of TCP, of TLS up to the name, and whole. */
const HEARD = { origPackets: 2, respPackets: 1 };
const NAMED = { ...HEARD, origPackets: 3, serverName: 'www.example.com' };
const ESTABLISHED = { ...NAMED, services: ['ssl'], tlsEstablished: true };

/** Policies, and one connection that they decide on. */
function deciding(...written: readonly Written[]) {
  const policies = policiesOf(written);
  const answers = new Answers();
  const count = new Counted();
  const told: string[] = [];
  const events = { noted: () => {}, spared: (index: number, why: string) => told.push(`${why} ${index}`) };
  const seen = new Set<number>();
  return {
    count,
    told,
    decide: (known: Partial<FlowFacts>) => policies.decide(count.of(known), 0, 0, seen, events, answers),
  };
}

describe('questions to sets', () => {
  test('each is put once for a connection, whoever asks and however often', () => {
    const { count, decide } = deciding(
      { when: 'tls.established and resp.addr in @nets and tls.sni in @names and bytes >= 1kB' },
      { when: 'tls.established and resp.addr in @nets and service == http' },
    );
    expect(decide(HEARD)).toBe(LATER);
    expect(decide(NAMED)).toBe(LATER);
    expect(decide(ESTABLISHED)).toBe(LATER);
    expect(decide({ ...ESTABLISHED, origBytes: 1000 })).toBe(0);
    expect(count).toMatchObject({ address: 1, name: 1 });
  });

  test('a veto over addresses is asked ahead, so that no look waits for two sets', () => {
    const { count, told, decide } = deciding(
      { when: 'tls.established and tls.sni in @names' },
      { when: 'resp.addr in @nets', action: 'never' },
    );
    const waits: number[] = [];
    for (const known of [HEARD, NAMED]) {
      expect(decide(known)).toBe(LATER);
      waits.push(count.waits);
    }
    expect(decide(ESTABLISHED)).toBe(SETTLED);
    expect([...waits, count.waits]).toEqual([1, 1, 0]);
    expect(told).toEqual(['never 1']);
  });

  test('it is not before the other side was heard, and not where only counters are waited for', () => {
    const veto = { when: 'resp.addr in @nets', action: 'never' } as const;
    const half = deciding({ when: 'tls.established' }, veto);
    expect(half.decide({ origPackets: 1, respPackets: 0 })).toBe(LATER);
    expect(half.count.waits).toBe(0);
    const bulk = deciding({ when: 'bytes >= 1MB' }, veto);
    expect(bulk.decide(HEARD)).toBe(LATER);
    expect(bulk.count.waits).toBe(0);
    expect(bulk.decide({ ...HEARD, respBytes: 1_000_000 })).toBe(SETTLED);
    expect(bulk.count.waits).toBe(1);
  });

  test('a look that has waited for a name leaves the address to the next one', () => {
    const { count, decide } = deciding(
      { when: 'tls.established and tls.sni in @names' },
      { when: 'resp.addr in @nets', action: 'hold' },
      { when: 'resp.addr in @more', action: 'never' },
    );
    // QUIC: the name comes with the first packet.
    const steps = [{ ...NAMED, respPackets: 0 }, NAMED, NAMED, ESTABLISHED];
    const waits = steps.map((known) => {
      decide(known);
      return count.waits;
    });
    expect(waits).toEqual([1, 1, 1, 0]);
  });

  test('a name that is in no set settles the connection, one that is not known yet does not', () => {
    const { decide } = deciding({ when: 'tls.established and tls.sni in @names' });
    expect(decide(HEARD)).toBe(LATER);
    expect(decide({ ...NAMED, serverName: 'example.org' })).toBe(SETTLED);
  });

  test('names in which no pattern of a signature stands are not gone over again, others are', () => {
    const gone = vi.spyOn(SignatureTable.prototype, 'matches');
    const looks = (serverName: string) => {
      gone.mockClear();
      const { decide } = deciding({ when: 'signature in @rules' });
      for (const services of [['smtp'], ['smtp', 'dns']])
        expect(decide({ ...NAMED, serverName, services })).toBe(LATER);
      return gone.mock.calls.length;
    };
    expect(looks('example.org')).toBe(1);
    // Not TLS to the header of the signature: that may come.
    expect(looks('test.example.com')).toBe(2);
    gone.mockRestore();
  });

  test('what is asked beyond the room for answers is right as well', () => {
    const many = Array.from({ length: MAX_QUESTIONS + 5 }, (_, i) => `n${i}`);
    const prefixes = new Map(
      many.map((name, i) => [name, nets(i % 2 === 0 ? '192.0.2.0/24' : '203.0.113.0/24')]),
    );
    const written = many.map((name) =>
      policySchema.parse({ name, when: `resp.addr in @${name} and service` }),
    );
    const policies = new PolicySet(written, { ...SETS, prefixes });
    const answers = new Answers();
    const told = new Set<number>();
    expect(policies.decide(facts(), 0, 0, told, SILENT, answers)).toBe(LATER);
    // Each even one would act; all but the last of them have been told.
    const last = MAX_QUESTIONS + 3;
    for (let i = 0; i < many.length; i++) if (i !== last) told.add(i);
    expect(policies.decide(facts({ services: ['ssl'] }), 0, 0, told, SILENT, answers)).toBe(last);
  });
});

const WHENS = [
  'resp.addr in @nets',
  'not addr in @more',
  'tls.sni in @names',
  'tls.sni not in @names',
  'dns.name in @names or tls.established',
  'tls.established and tls.sni in @names and not resp.addr in @more',
  'signature in @rules',
  'not signature in @rules and bytes >= 500',
  '(resp.addr in @nets or tls.sni in @names) and bytes >= 1kB',
  'service == ssl and (addr in @more or not tls.sni in @names)',
];

test('decisions with answers that are kept are those without', () => {
  const policy = fc.record({
    when: fc.constantFrom(...WHENS),
    action: fc.constantFrom('shunt', 'shunt', 'never', 'hold', 'log'),
    priority: fc.integer({ min: 0, max: 3 }),
  });
  const connection = fc.record({
    resp: fc.constantFrom('192.0.2.7', '192.0.2.9', '198.51.100.1', '203.0.113.1').map(address),
    dnsName: fc.constantFrom(undefined, 'example.com', 'example.org'),
  });
  const name = fc.constantFrom('www.example.com', 'example.org', undefined);
  const site = fc.constantFrom(
    'example.com',
    'www.example.com',
    'test.example.net',
    'example.org',
    undefined,
  );
  const steps = fc.array(fc.record({ bytes: fc.nat(600), learn: fc.nat(7), orig: fc.boolean() }), {
    maxLength: 20,
  });
  fc.assert(
    fc.property(
      fc.array(policy, { minLength: 1, maxLength: 5 }),
      connection,
      fc.tuple(name, site),
      steps,
      (written, known, [sni, host], all) => {
        const policies = policiesOf(written);
        const answers = new Answers();
        const told: [Set<number>, Set<number>] = [new Set(), new Set()];
        const f: { -readonly [K in keyof FlowFacts]: FlowFacts[K] } = facts({
          ...known,
          origPackets: 0,
          origBytes: 0,
        });
        for (const { bytes, learn, orig } of all) {
          f[orig ? 'origPackets' : 'respPackets']++;
          f[orig ? 'origBytes' : 'respBytes'] += bytes;
          if (learn === 1) f.serverName = sni;
          if (learn === 2) f.services = ['ssl'];
          if (learn === 3) f.tlsEstablished = true;
          if (learn === 4) f.httpHost = host;
          if (learn === 5) f.services = [...f.services, 'http'];
          const kept = policies.decide(f, 0, 0, told[0], SILENT, answers);
          const { packets, bytes: least, seconds, news } = policies.watch;
          const watched = { packets, bytes: least, seconds, news };
          expect(policies.decide(f, 0, 0, told[1], SILENT)).toBe(kept);
          expect(told[0]).toEqual(told[1]);
          if (kept === LATER) expect(policies.watch).toMatchObject(watched);
        }
      },
    ),
    { numRuns: 1000 },
  );
});
