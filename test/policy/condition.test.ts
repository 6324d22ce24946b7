import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compileCondition } from '../../src/policy/condition.ts';
import { domainTable } from '../../src/policy/domain-set.ts';
import { PolicyError } from '../../src/policy/error.ts';
import type { FlowFacts } from '../../src/policy/fields.ts';
import { PrefixTableBuilder, parsePrefix } from '../../src/policy/prefix-set.ts';
import { Truth } from '../../src/policy/watch.ts';
import { address, facts } from './facts.ts';

const { holds, later, never } = Truth;

function table(...texts: string[]) {
  const builder = new PrefixTableBuilder();
  for (const text of texts) {
    const prefix = parsePrefix(text);
    if (prefix !== undefined) builder.add(prefix.bytes, prefix.bits);
  }
  return builder.build();
}

const SETS = {
  prefixes: new Map([['mine', table('10.0.0.0/8', '2001:db8::/32')]]),
  domains: new Map([['films', domainTable(['example.net'])]]),
  words: new Map([['bad', new Set(['abc'])]]),
  signatures: new Map(),
};

describe('conditions', () => {
  test.each<[string, Partial<FlowFacts>, Truth]>([
    ['proto == tcp', {}, holds],
    ['proto != tcp', {}, never],
    ['not proto == udp', {}, holds],
    ['port == 443', {}, holds],
    ['port in {22, 400-500}', {}, holds],
    ['orig.port in 400-500', {}, never],
    ['resp.port > 443', {}, never],
    ['resp.port >= 443 and orig.port > 1024', {}, holds],
    ['port != 443', {}, never],
    ['addr in 192.0.2.0/24', {}, holds],
    ['orig.addr in 192.0.2.0/24', {}, never],
    ['orig.addr == 10.0.0.1', {}, holds],
    ['resp.addr in {2001:db8::/32, ::1}', { resp: address('2001:db8::5') }, holds],
    ['addr in @mine', {}, holds],
    ['resp.addr in @mine', {}, never],
    ['vlan == 7', { vlan: 7 }, holds],
    ['vlan == 7', {}, never],
    ['vni in 1-100', { vni: 42 }, holds],
    ['service', {}, later],
    ['service', { services: ['http'] }, holds],
    ['not service', {}, holds],
    ['service == ssl', { services: ['smtp', 'ssl'] }, holds],
    ['service in {imap, smtp}', { services: ['smtp', 'ssl'] }, holds],
    ['service == ssl', { learning: false }, never],
    ['service not in {smtp}', { services: ['smtp', 'ssl'] }, later],
    ['tls.established', {}, later],
    ['tls.established', { tlsEstablished: true }, holds],
    ['tls.established and not service == socks', { tlsEstablished: true, services: ['socks', 'ssl'] }, later],
    ['tls.version == TLSv13', { tlsVersion: 'TLSv13' }, holds],
    ['tls.sni in example.com', { serverName: 'www.Example.COM.' }, holds],
    ['tls.sni in example.com', { serverName: 'notexample.com' }, later],
    ['tls.sni == example.com', { serverName: 'www.example.com' }, later],
    ['tls.sni == example.com', { serverName: 'EXAMPLE.com' }, holds],
    ['tls.sni in @films', { serverName: 'a.b.example.net' }, holds],
    ['tls.ja3 in @bad', { ja3: 'abc' }, holds],
    ['dns.name in example.com', {}, never],
    ['orig.country == DE', { country: (side) => (side === 'orig' ? 'DE' : undefined) }, holds],
    ['resp.asn == 15169', { asn: () => 15_169 }, holds],
    ['bytes >= 60', {}, holds],
    ['bytes > 60', {}, later],
    ['bytes < 60', {}, never],
    ['bytes <= 60', {}, holds],
    ['either.bytes >= 1kB', { respBytes: 1000 }, holds],
    ['both.bytes >= 1kB', { respBytes: 1000 }, later],
    ['not bytes >= 60', {}, never],
    ['established.packets >= 3', {}, later],
    ['established.packets >= 3', { establishedPackets: 3 }, holds],
    ['duration >= 30s', { duration: 31 }, holds],
    ['rate >= 8kb/s', { duration: 2, respBytes: 4000 }, holds],
    ['rate >= 8kb/s', { duration: 0.5, respBytes: 4000 }, later],
    ['rate < 8kb/s', { duration: 2, respBytes: 4000 }, later],
    ['(tls.established or ssh.encrypted) and bytes >= 1MB', { sshEncrypted: true, respBytes: 1e6 }, holds],
    ['not (proto == tcp or proto == udp)', {}, never],
    ['not (proto == tcp and service == ssl)', {}, holds],
    ['service == ssl or proto == tcp # a note', { services: [] }, holds],
    ['proto == udp # a note\n or proto == tcp', {}, holds],
    // `and` binds more tightly, whatever the order.
    ['proto == tcp or proto == udp and port == 1', {}, holds],
    ['port == 1 and proto == udp or proto == tcp', {}, holds],
    ['(proto == tcp or proto == udp) and port == 1', {}, never],
    ['proto == udp || proto == tcp && !(port == 1)', {}, holds],
    ['NOT proto == udp AND port IN {443}', {}, holds],
    ['not not proto == tcp', {}, holds],
    ['port in {80, 443,}', {}, holds],
    ["service == 'ssl'", { services: ['ssl'] }, holds],
    ['tls.alpn in {"h2", "http/1.1"}', { alpn: 'http/1.1' }, holds],
    ['tls.sni in {*.example.com, .example.net}', { serverName: 'a.example.net' }, holds],
    ['tls.sni not in @films', { serverName: 'example.org' }, holds],
    [
      'tls.ja4 != t13d1516h2_8daaf6152771_02713d6af862',
      { ja4: 't13d1516h2_8daaf6152771_02713d6af863' },
      holds,
    ],
    // What there is none of is neither below nor above.
    ['vlan < 100', {}, never],
    ['vlan <= 100', { vlan: 100 }, holds],
    ['not vlan < 100', {}, holds],
    ['vni < 7', {}, never],
    ['resp.asn < 64512', {}, never],
    ['orig.asn == 0', {}, never],
    ['proto in {50, 51, 132}', { protocol: 132 }, never],
    ['proto in {esp, 89}', { protocol: 89 }, holds],
    ['addr not in {10.0.0.0/8, 192.0.2.0/24}', {}, never],
    ['inner_vlan in 10-20', { innerVlan: 20 }, holds],
    ['orig.packets < 3', { origPackets: 3 }, never],
    ['bytes >= 1MiB', { respBytes: 2 ** 20 - 61 }, later],
    ['bytes >= 1MiB', { respBytes: 2 ** 20 - 60 }, holds],
    ['rate >= 1kB/s', { duration: 2, respBytes: 2000 }, holds],
    ['duration < 1m', { duration: 59 }, holds],
  ])('%s', (text, known, truth) => {
    expect(compileCondition(text, SETS).look(facts(known))).toBe(truth);
  });

  test.each<[string, number, RegExp, RegExp?]>([
    ['', 1, /empty/],
    ['tls.establishd', 1, /no field/, /tls\.established/],
    ['tls.established and', 20, /missing before the end/],
    ['bytes == 1MB', 10, /grows/, />=/],
    ['bytes >= lots', 10, /lots/],
    ['rate >= 5', 9, /not a rate/, /100Mb\/s/],
    ['proto > tcp', 9, /no order/],
    ['tls.established == true', 1, /true or false/],
    ['bytes', 1, /compared/, />= 1MB/],
    ['addr in 10.0.0.0/40', 9, /no address or prefix/],
    ['tls.sni in "a b"', 12, /no domain/],
    ['port in {80, }x', 15, /does not follow/],
    ['port in {}', 1, /nothing is in/],
    ['port in {80', 12, /missing/],
    ['port = 80', 6, /'='/, /==/],
    ['(proto == tcp', 14, /'\)'/],
    ['port in @ports', 1, /not looked up/],
    ['addr in @minne', 10, /no set of prefixes/, /mine/],
    ['proto == tcp ; port == 1', 14, /not part of the language/],
    ['service == "ssl', 12, /quote/],
    ['port in 90-80', 9, /no number or range/],
    [`${'('.repeat(200)}service`, 101, /levels/],
    ['and service', 1, /a field is missing before 'and'/],
    ['== 80', 1, /a field is missing before '=='/],
    ['{80}', 1, /a field is missing/],
    ['not', 4, /missing before the end/],
    ['port in', 8, /a value is missing before the end/],
    ['port in and', 9, /a value is missing before 'and'/],
    ['port ==', 8, /a value is missing/],
    ['port == == 80', 9, /a value is missing before '=='/],
    ['addr in @', 10, /name of a set is missing/],
    ['port in {80 443}', 13, /',' or '}'/],
    ['port not 80', 10, /'in' is missing/, /not in/],
    ['proto == tcp)', 13, /'\)' does not follow/],
    ['proto == tcp proto == udp', 14, /does not follow here/, /and, or/],
    ['bytes >= 1 MB', 12, /'MB' does not follow/],
    ['bytes => 5', 7, /'='/, />=/],
    ['proto == tcp & port == 1', 14, /not part/, /and/],
    ['proto == tcp | port == 1', 14, /not part/, /or/],
    ['"service" == ssl', 1, /without quotes/, /write service/],
    ['SERVICE == ssl', 1, /no field/, /'service'/],
    ['port > x', 8, /whole number/],
    ['packets >= 1.5', 12, /whole number/],
    ['port == -1', 9, /number or range/],
    ['port in {1-2-3}', 10, /number or range/],
    ['duration >= soon', 13, /duration/, /30s/],
    ['duration == 5s', 13, /grows/],
    ['bytes >= 1XB', 10, /bytes/, /1MB/],
    ['rate >= 100Mb/m', 9, /not a rate/],
    ['bytes in {1MB}', 1, /several values/, />= 1MB/],
    ['tls.established in {yes}', 1, /several values/, /not tls\.established/],
    ['tls.established in @bad', 1, /not looked up/],
    ['signature', 1, /compared/, /@SET/],
    ['signature in @talk', 15, /no set of signatures/],
    ['service in @bad', 1, /not looked up/],
    ['tls.sni in @film', 13, /no set of domains/, /films/],
    ['tls.ja3 in @films', 13, /no set of words/],
    ['addr == example.com', 9, /no address/],
    ['addr in {10.0.0.0/8, 10.0.0.256}', 22, /10\.0\.0\.256/],
    ['addr > 10.0.0.1', 8, /no order/],
    ['tls.sni == a..b', 12, /no domain/],
    ['tls.sni in ""', 12, /no domain/],
    ['service == ""', 12, /empty/],
    ['proto == tpc', 10, /nothing that proto can be/, /tcp/],
    ['tls.version == 1.3', 16, /can be/, /TLSv13/],
    ['tls.ja3 in {ABC}', 13, /can be/, /32 digits/],
    ['tls.ja4 == abc', 12, /can be/, /t13d/],
    ['proto == 300', 10, /can be/],
    ['port == 99999', 9, /'99999' is more/, /65535/],
    ['port in {443, 60000-70000}', 15, /more/],
    ['vlan > 5000', 8, /more/, /4095/],
    ['service in {http, tls}', 19, /no service is called 'tls'/, /write ssl/],
    ['orig.country in {DE, Germany}', 22, /'Germany'/],
    ['x'.repeat(70_000), 65_537, /too long/, /sets/],
    // On another line: the place is told by both.
    ['proto == tcp\n  and bytes >= many', 29, /line 2, column 16/],
  ])('refuses %s', (text, column, message, help) => {
    let error: unknown;
    try {
      compileCondition(text, SETS);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(PolicyError);
    const problem = error as PolicyError;
    expect(problem.message).toMatch(message);
    expect(problem.span.start + 1).toBe(column);
    if (help !== undefined) expect(problem.help).toMatch(help);
    expect(problem.code).toBe('POLICY_INVALID');
    // A place of the text, shown with a mark below.
    expect(problem.span.end).toBeGreaterThanOrEqual(problem.span.start);
    expect(problem.span.end).toBeLessThanOrEqual(text.length);
    expect(problem.message).toMatch(/\((?:line \d+, )?column \d+\)$/);
    if (text.length < 100) expect(String(problem.cause)).toContain('^');
  });

  test('no text makes the parser fail otherwise than by a PolicyError', () => {
    const piece = fc.constantFrom(
      '(',
      ')',
      '{',
      '}',
      'and',
      'or',
      'not',
      'in',
      '@',
      'bytes',
      'service',
      '>=',
      '==',
      '1MB',
      ',',
      '"',
      '#',
      '10.0.0.0/8',
      '!',
      'tls.sni',
      'rate',
      'é',
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, fc.string({ maxLength: 4 })), { maxLength: 20 }), (pieces) => {
        try {
          compileCondition(pieces.join(' '), SETS);
        } catch (error) {
          expect(error).toBeInstanceOf(PolicyError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

/** The life of a connection, packet by packet. */
interface Step {
  orig: boolean;
  bytes: number;
  seconds: number;
  learn: 'nothing' | 'http' | 'ssl' | 'established' | 'done';
}

const step = fc.record<Step>({
  orig: fc.boolean(),
  bytes: fc.integer({ min: 40, max: 1500 }),
  seconds: fc.double({ min: 0, max: 2, noNaN: true }),
  learn: fc.oneof(
    { weight: 12, arbitrary: fc.constant('nothing' as const) },
    { weight: 1, arbitrary: fc.constantFrom('http', 'ssl', 'established', 'done') },
  ),
});

const leaf = fc.oneof(
  fc.constantFrom(
    'service == ssl',
    'service == http',
    'not service',
    'tls.established',
    'proto == tcp',
    'proto == udp',
  ),
  fc
    .tuple(
      fc.constantFrom('bytes', 'orig.bytes', 'resp.bytes', 'either.bytes', 'both.bytes'),
      fc.constantFrom('<', '<=', '>', '>='),
      fc.integer({ min: 1, max: 20_000 }),
    )
    .map((t) => t.join(' ')),
  fc
    .tuple(
      fc.constantFrom('packets', 'orig.packets', 'resp.packets', 'established.packets'),
      fc.constantFrom('<', '>='),
      fc.integer({ min: 1, max: 30 }),
    )
    .map((t) => t.join(' ')),
  fc
    .tuple(fc.constantFrom('<', '>='), fc.integer({ min: 1, max: 30 }))
    .map(([op, n]) => `duration ${op} ${n}s`),
  fc
    .tuple(fc.constantFrom('<', '>='), fc.integer({ min: 1, max: 20 }))
    .map(([op, n]) => `rate ${op} ${n}kb/s`),
);
const { condition } = fc.letrec<{ condition: string }>((tie) => ({
  condition: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.tuple(tie('condition'), fc.constantFrom('and', 'or'), tie('condition')).map((t) => `(${t.join(' ')})`),
    tie('condition').map((text) => `not (${text})`),
  ),
}));

test('a condition that is looked at only when its watch says becomes true at the same packet as one that is always looked at', () => {
  fc.assert(
    fc.property(condition, fc.array(step, { minLength: 1, maxLength: 60 }), (text, steps) => {
      const always = compileCondition(text);
      const rarely = compileCondition(text);
      const known: { -readonly [K in keyof FlowFacts]: FlowFacts[K] } = {
        ...facts(),
        origPackets: 0,
        origBytes: 0,
      };
      let look = true;
      let truth: Truth = later;
      steps.forEach(({ orig, bytes, seconds, learn }, i) => {
        if (i > 0) known.duration += seconds;
        if (known.establishedPackets >= 0) known.establishedPackets++;
        if (orig) {
          known.origPackets++;
          known.origBytes += bytes;
        } else {
          known.respPackets++;
          known.respBytes += bytes;
        }
        const news = learn !== 'nothing' && known.learning;
        if (news) {
          if (learn === 'established') {
            known.tlsEstablished = true;
            known.establishedPackets = 0;
          } else if (learn === 'done') known.learning = false;
          else if (!known.services.includes(learn)) known.services = [...known.services, learn];
        }
        const { watch } = rarely;
        look ||=
          truth === later &&
          ((news && watch.news) ||
            known.origPackets + known.respPackets >= watch.packets ||
            known.origBytes + known.respBytes >= watch.bytes ||
            known.duration >= watch.seconds);
        if (look) truth = rarely.look(known);
        look = false;
        const now = always.look(known);
        // Once it has held, or never can, nobody looks again.
        if (truth === later) expect(now).not.toBe(holds);
        if (truth === never) expect(now).toBe(never);
        return truth;
      });
    }),
    { numRuns: 3000 },
  );
});
