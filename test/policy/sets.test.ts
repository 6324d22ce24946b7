import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ipBytes } from '../../src/packet/address.ts';
import { domainTable, hasDomain, parseDomain } from '../../src/policy/domain-set.ts';
import { isInside, prefixLines } from '../../src/policy/prefix-lines.ts';
import { hasAddress, PrefixTableBuilder, parsePrefix, rangesIn } from '../../src/policy/prefix-set.ts';

function built(texts: readonly string[]) {
  const builder = new PrefixTableBuilder();
  for (const text of texts) {
    const prefix = parsePrefix(text);
    if (prefix === undefined) throw new Error(text);
    builder.add(prefix.bytes, prefix.bits);
  }
  return builder.build();
}

const ranges = (...nets: string[]) => rangesIn(built(nets));

function bits(text: string): string {
  return Array.from(ipBytes(text) ?? [], (byte) => byte.toString(2).padStart(8, '0')).join('');
}

// Few different bytes, so that networks lie within and beside each other.
const byte = fc.constantFrom(0, 1, 2, 127, 128, 254, 255);
const v4 = fc.tuple(byte, byte, byte, byte).map((b) => b.join('.'));
const v6 = fc
  .array(fc.constantFrom('0', '1', '8000', 'ffff', '2001', 'db8'), { minLength: 8, maxLength: 8 })
  .map((w) => w.join(':'));
const net = fc.oneof(
  fc.tuple(v4, fc.integer({ min: 0, max: 32 })).map(([a, n]) => `${a}/${n}`),
  fc.tuple(v6, fc.integer({ min: 0, max: 128 })).map(([a, n]) => `${a}/${n}`),
);

describe('prefixes', () => {
  test('an address is in a table when one of its networks holds it', () => {
    fc.assert(
      fc.property(
        fc.array(net, { maxLength: 30 }),
        fc.array(fc.oneof(v4, v6), { maxLength: 20 }),
        (nets, addresses) => {
          const table = built(nets);
          for (const address of addresses) {
            const u8 = ipBytes(address) as Uint8Array;
            const expected = nets.some((text) => {
              const [host, length] = text.split('/');
              const [a, b] = [bits(host), bits(address)];
              return a.length === b.length && a.startsWith(b.slice(0, Number(length)));
            });
            expect(hasAddress(table, u8, 0, u8.length as 4 | 16)).toBe(expected);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('so it is where there is no room for an index of all', () => {
    const edges = Uint32Array.from({ length: 4001 }, (_, i) =>
      i < 2000 ? i * 3 : 0x4000_0000 + i * 0x1_0003,
    );
    for (const most of [1, 300, 1e6]) {
      const lines = prefixLines({ edges, words: 1 }, most);
      expect(lines.length / 16).toBeLessThanOrEqual(most);
      for (const edge of [...edges.filter((_, i) => i % 11 === 0), 0, 0x2000_0000, 0xffff_ffff])
        for (const address of [edge - 1, edge, edge + 1].filter((n) => n >= 0 && n < 2 ** 32))
          expect(isInside(lines, { edges, words: 1 }, Uint32Array.of(address))).toBe(
            edges.filter((each) => each <= address).length % 2 === 1,
          );
    }
  });

  test('so are those of thousands, however close together the networks are', () => {
    // Under one /48 in steps that leave gaps, and spread over everything.
    const nets = Array.from({ length: 3000 }, (_, i) => [
      `2001:db8:1::${(i * 3).toString(16)}:0/112`,
      `${(0x2400 + (i % 37) * 11).toString(16)}:${((i * 7919) % 65_536).toString(16)}::/${29 + (i % 20)}`,
      `10.${i % 200}.${i % 251}.0/${20 + (i % 13)}`,
    ]).flat();
    const table = built(nets);
    const parts = nets.map((text) => {
      const [host, length] = text.split('/');
      return bits(host).slice(0, Number(length));
    });
    const asked = nets
      .filter((_, i) => i % 40 === 0)
      .map((text) => text.split('/')[0].replace(/:0$/, ':5').replace(/0$/, '9'));
    const more = ['2001:db8:1::1:0', '2001:db8:1::ffff:1', '::', 'ffff::1', '2400::', '11.0.0.1', '0.0.0.0'];
    for (const address of [...asked, ...more]) {
      const u8 = ipBytes(address) as Uint8Array;
      const own = bits(address);
      const expected = parts.some((part) => own.startsWith(part));
      expect(hasAddress(table, u8, 0, u8.length as 4 | 16), address).toBe(expected);
    }
  });

  test('ranges that meet are one, also at the end of everything', () => {
    expect(ranges('10.0.0.0/9', '10.128.0.0/9', '10.1.0.0/16', '12.0.0.0/8')).toEqual({ ipv4: 2, ipv6: 0 });
    expect(ranges('0.0.0.0/0', '1.0.0.0/8', '::/0', '8000::/1')).toEqual({ ipv4: 1, ipv6: 1 });
    expect(ranges('128.0.0.0/1', 'ffff::/16', '2001:db8::/33', '2001:db8:8000::/33')).toEqual({
      ipv4: 1,
      ipv6: 2,
    });
    expect(ranges('2001:db8::1/128', '2001:db8::2/128', '2001:db8::4/128')).toEqual({ ipv4: 0, ipv6: 2 });
    expect(ranges()).toEqual({ ipv4: 0, ipv6: 0 });
  });

  test('only what is a prefix is taken', () => {
    for (const text of ['10.0.0.0/33', '10.0.0/8', '2001:db8::/129', 'x', '10.0.0.1/-1', ''])
      expect(parsePrefix(text)).toBeUndefined();
    expect(parsePrefix('10.1.2.3')?.bits).toBe(32);
    expect(parsePrefix('::1')?.bits).toBe(128);
  });
});

describe('domains', () => {
  const label = fc.constantFrom('a', 'b', 'example', 'com', 'net', 'x-1');
  const name = fc.array(label, { minLength: 1, maxLength: 8 }).map((labels) => labels.join('.'));

  test('a name is in a table when it is one of its domains or below one', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(name, { maxLength: 20 }),
        fc.array(name, { maxLength: 10 }),
        (domains, names) => {
          const table = domainTable(domains);
          for (const text of names) {
            const expected = domains.some((d) => text === d || text.endsWith(`.${d}`));
            expect(hasDomain(table, text.toUpperCase())).toBe(expected);
            expect(hasDomain(table, `${text}.`)).toBe(expected);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('of thousands each is found, and none that differs in a letter', () => {
    const domains = Array.from({ length: 5000 }, (_, i) => `${'x'.repeat(i % 40)}${i}.example`);
    const table = domainTable(domains);
    for (const domain of domains) {
      expect(hasDomain(table, `www.${domain}`)).toBe(true);
      expect(hasDomain(table, `${domain}s`)).toBe(false);
      expect(hasDomain(table, `y${domain}`)).toBe(false);
    }
  });

  test('any bytes may be looked up', () => {
    const table = domainTable(['example.com']);
    fc.assert(fc.property(fc.string({ maxLength: 300 }), (text) => hasDomain(table, text) || true));
    expect(hasDomain(table, `${'a.'.repeat(100_000)}example.com`)).toBe(true);
    expect(hasDomain(table, '')).toBe(false);
    expect(hasDomain(table, '.')).toBe(false);
  });

  test('domains are brought into one form', () => {
    expect(parseDomain('*.Example.COM.')).toBe('example.com');
    expect(parseDomain('bücher.example')).toBe('xn--bcher-kva.example');
    for (const text of ['', '.', 'a..b', 'a b', `${'a'.repeat(64)}.com`])
      expect(parseDomain(text)).toBeUndefined();
  });
});
