import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../../src/fleet/canonical.ts';
import { generateKeys, keysById, readSigningKey, readTrustedKeys } from '../../src/fleet/keys.ts';
import { RuleBook } from '../../src/fleet/rule-book.ts';
import {
  MAX_LIFE,
  MAX_SKEW,
  type StatementInput,
  signStatement,
  verifyStatement,
} from '../../src/fleet/statement.ts';

const NOW = 1_800_000_000;
const pair = generateKeys('alice');
const key = readSigningKey(pair.privatePem, 'alice.key');
const keys = keysById(readTrustedKeys(`# desk\n${pair.publicLine}`, 'trust'));
const stranger = readSigningKey(generateKeys('mallory').privatePem, 'mallory.key');

const statement = (over: Partial<StatementInput> = {}): StatementInput => ({
  version: 1,
  id: 'ntp',
  revision: 1,
  author: 'alice',
  issued: NOW,
  expires: NOW + 3600,
  rule: { expr: 'udp src port 123', action: { kind: 'drop' } },
  ...over,
});
const signed = (over: Partial<StatementInput> = {}): string => signStatement(statement(over), key);
const refusal = (text: string, now = NOW): string => {
  const result = verifyStatement(text, keys, now);
  return 'refused' in result ? result.refused : 'good';
};

const held = (book: RuleBook, now = NOW): string[] =>
  book.entries(now).map(({ statement: { id, revision } }) => `${id}@${revision}`);
const word = (book: RuleBook, text: string, now = NOW): string => {
  const outcome = book.offer(text, now);
  return 'refused' in outcome ? outcome.refused : 'known' in outcome ? 'known' : 'accepted';
};

describe('canonical JSON', () => {
  test('one form for equal values, names by UTF-16 code units (RFC 8785)', () => {
    expect(
      canonicalJson({ b: [1, 1.0, 1e21, -0], a: { '\u20ac': 1, '\r': 2, '\u{1f600}': 3, '\ufb33': 4 } }),
    ).toBe('{"a":{"\\r":2,"\u20ac":1,"\u{1f600}":3,"\ufb33":4},"b":[1,1,1e+21,0]}');
    expect(canonicalJson({ x: 1, y: undefined })).toBe('{"x":1}');
  });

  test('what has no form is refused', () => {
    expect(() => canonicalJson('\ud800')).toThrow('surrogate');
    expect(() => canonicalJson(Number.NaN)).toThrow('number');
    expect(() => canonicalJson(JSON.parse(`${'['.repeat(100_000)}${']'.repeat(100_000)}`))).toThrow('deep');
  });
});

describe('a signed rule', () => {
  test('is verified whatever the order of its members', () => {
    expect(refusal(signed())).toBe('good');
    const { signed: body, ...rest } = JSON.parse(signed()) as { signed: object };
    const turned = Object.fromEntries(Object.entries(body).toReversed());
    expect(refusal(JSON.stringify({ ...rest, signed: turned }, null, 1))).toBe('good');
  });

  test('no byte of it can be changed', () => {
    const text = signed({ rule: { expr: 'udp', action: { kind: 'drop' }, scope: { sites: ['fra1'] } } });
    let tried = 0;
    for (let at = 0; at < text.length; at++) {
      const other = text[at] === '1' ? '2' : '1';
      const changed = text.slice(0, at) + other + text.slice(at + 1);
      expect(refusal(changed), `byte ${at}`).not.toBe('good');
      tried++;
    }
    expect(tried).toBeGreaterThan(300);
  });

  test('by a key that is not known, or in the name of one that is', () => {
    const text = signStatement(statement(), stranger);
    expect(refusal(text)).toBe('unknown key');
    expect(refusal(text.replace(stranger.id, key.id))).toBe('forged');
  });

  test('holds from its issue, but for clocks, to its expiry', () => {
    expect(refusal(signed(), NOW + 3599)).toBe('good');
    expect(refusal(signed(), NOW + 3600)).toBe('expired');
    expect(refusal(signed(), NOW - MAX_SKEW)).toBe('good');
    expect(refusal(signed(), NOW - MAX_SKEW - 1)).toBe('from the future');
  });

  test('what nobody should sign is not signed', () => {
    expect(() => signed({ expires: NOW + MAX_LIFE + 1 })).toThrow('366 days');
    expect(() => signed({ expires: NOW })).toThrow('expire');
    expect(() => signed({ id: 'a b' })).toThrow('letters');
    expect(() => signed({ rule: { expr: '', action: { kind: 'drop' } } })).toThrow('rule.expr');
  });

  test('anything else is refused without an error', () => {
    for (const text of ['', '{}', 'null', '[]', '{"signed":1}', '['.repeat(50_000), '\0', '"__proto__"'])
      expect(refusal(text)).toBe('malformed');
    const deep = `{"a":`.repeat(2000) + '1' + '}'.repeat(2000);
    const text = `{"signed":${deep},"key":"${key.id}","signature":"${'A'.repeat(86)}=="}`;
    expect(refusal(text)).toBe('forged');
  });
});

describe('keys', () => {
  test('a file that is not one says where', () => {
    expect(() => readTrustedKeys('ed25519 AAAA alice', 'trust')).toThrow('trust:1');
    expect(() => readTrustedKeys(`${pair.publicLine}rsa x y`, 'trust')).toThrow('trust:2');
    expect(() => readTrustedKeys('# nobody\n', 'trust')).toThrow('0 keys');
    expect(() => readSigningKey('secret words', 'a.key')).toThrow('a.key is no private key');
    expect(() => generateKeys('a b')).toThrow('no name');
  });
});

describe('a book of rules', () => {
  test('the highest revision counts, in any order and however often it comes', () => {
    const lines = [
      signed({ revision: 1 }),
      signed({ revision: 2 }),
      signed({ revision: 3, rule: null }),
      signed({ revision: 4 }),
      signed({ id: 'dns', revision: 7 }),
      signed({ id: 'dns', revision: 8, rule: null }),
    ];
    for (let seed = 1; seed < 200; seed++) {
      let state = seed;
      const random = (): number => (state = (state * 48_271) % 2_147_483_647);
      const book = new RuleBook(keys);
      const shuffled = [...lines, ...lines]
        .map((line) => ({ line, at: random() }))
        .sort((a, b) => a.at - b.at);
      for (const { line } of shuffled) book.offer(line, NOW);
      expect(held(book)).toEqual(['ntp@4']);
    }
  });

  test('what was replaced or withdrawn does not come back', () => {
    const book = new RuleBook(keys);
    expect(word(book, signed({ revision: 5 }))).toBe('accepted');
    expect(word(book, signed({ revision: 5 }))).toBe('known');
    expect(word(book, signed({ revision: 5 }).replace('port 123', 'port 53'))).toBe('forged');
    expect(word(book, JSON.stringify(JSON.parse(signed({ revision: 5 })), null, 2))).toBe('known');
    expect(word(book, signed({ revision: 4 }))).toBe('older');
    expect(word(book, signed({ revision: 5, author: 'bob' }))).toBe('conflict');
    expect(word(book, signed({ revision: 6, rule: null }))).toBe('accepted');
    expect(word(book, signed({ revision: 5 }))).toBe('older');
    expect(held(book)).toEqual([]);
    // Nor after a restart.
    const next = new RuleBook(keys);
    expect(next.load(book.save(NOW), NOW + 10)).toEqual({ heard: NOW });
    expect(word(next, signed({ revision: 5 }))).toBe('older');
  });

  test('an expired rule is gone, and its revision stays known', () => {
    const book = new RuleBook(keys);
    book.offer(signed({ revision: 5, expires: NOW + 10 }), NOW);
    expect(held(book, NOW + 9)).toEqual(['ntp@5']);
    expect(held(book, NOW + 10)).toEqual([]);
    // By a clock that is put right again.
    expect(held(book, NOW + 9)).toEqual(['ntp@5']);
    expect(word(book, signed({ revision: 4 }), NOW + 20)).toBe('older');
  });

  test('what was saved is verified again', () => {
    const book = new RuleBook(keys);
    book.offer(signed({ revision: 5 }), NOW);
    const text = book.save(null);
    const same = new RuleBook(keys);
    expect(same.load(text, NOW)).toEqual({ heard: null });
    expect(held(same)).toEqual(['ntp@5']);
    // With a clock that is far behind, too.
    const early = new RuleBook(keys);
    early.load(text, 1000);
    expect(held(early, 1000)).toEqual(['ntp@5']);
    const changed = new RuleBook(keys);
    changed.load(text.replace('port 123', 'port 53'), NOW);
    expect(held(changed)).toEqual([]);
    const revoked = new RuleBook(new Map());
    revoked.load(text, NOW);
    expect(held(revoked)).toEqual([]);
    expect(new RuleBook(keys).load('{"version":1', NOW)).toBeUndefined();
  });

  test('a key that was left out by mistake counts again once it is back', () => {
    const book = new RuleBook(keys);
    book.offer(signed({ revision: 5 }), NOW);
    book.offer(signed({ id: 'dns', revision: 7, rule: null }), NOW);
    const without = new RuleBook(keysById(readTrustedKeys(generateKeys('carol').publicLine, 'trust')));
    without.load(book.save(NOW), NOW);
    expect(word(without, signed({ revision: 5 }))).toBe('unknown key');
    const again = new RuleBook(keys);
    again.load(without.save(NOW), NOW);
    expect(word(again, signed({ revision: 3 }))).toBe('older');
    expect(word(again, signed({ revision: 4 }))).toBe('conflict');
    expect(word(again, signed({ revision: 5 }))).toBe('accepted');
    expect(word(again, signed({ id: 'dns', revision: 6 }))).toBe('older');
    expect(held(again)).toEqual(['ntp@5']);
  });
});
