import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compileCondition, NO_SETS } from '../../src/policy/condition.ts';
import type { FlowFacts } from '../../src/policy/fields.ts';
import { Letters } from '../../src/policy/suricata/letters.ts';
import { Matcher, type Place } from '../../src/policy/suricata/matcher.ts';
import { readSignatures } from '../../src/policy/suricata/read.ts';
import { readSignature } from '../../src/policy/suricata/signature.ts';
import { SignatureTable } from '../../src/policy/suricata/table.ts';
import { Truth } from '../../src/policy/watch.ts';
import { address, facts } from './facts.ts';

const TALK = 'alert http any any -> any any (content:"netdevconf.org"; http_host; bypass; sid:6666; rev:1;)';
const http = (httpHost: string): Partial<FlowFacts> => ({ services: ['http'], httpHost, respPackets: 1 });
const tls = (serverName: string): Partial<FlowFacts> => ({ services: ['ssl'], serverName, respPackets: 1 });

function rule(options: string, header = 'tls any any -> any any'): string {
  return `pass ${header} (msg:"m"; ${options} bypass; sid:1;)`;
}

async function matches(text: string, known: Partial<FlowFacts>): Promise<boolean> {
  const { signatures, refused } = await readSignatures(text);
  expect(refused).toEqual([]);
  expect(signatures).toHaveLength(1);
  return new SignatureTable(signatures).matches(facts(known));
}

describe('signatures with bypass', () => {
  test.each<[string, Partial<FlowFacts>, boolean]>([
    [TALK, http('www.netdevconf.org'), true],
    [TALK, http('example.org'), false],
    [TALK, tls('www.netdevconf.org'), false],
    [rule('tls.sni; content:"example.com";'), tls('www.example.com'), true],
    [rule('tls.sni; content:"example.com";'), tls('www.EXAMPLE.com'), false],
    [rule('tls.sni; content:"example.com"; nocase;'), tls('www.EXAMPLE.com'), true],
    [rule('tls.sni; content:"example.com"; startswith;'), tls('www.example.com'), false],
    [rule('tls.sni; content:"example.com"; startswith; endswith;'), tls('example.com'), true],
    [rule('tls.sni; content:"example.com"; bsize:11;'), tls('example.com.evil'), false],
    [rule('tls.sni; content:"example.com"; endswith;'), tls('notexample.com'), true],
    [rule('tls.sni; dotprefix; content:".example.com"; endswith;'), tls('notexample.com'), false],
    [rule('tls.sni; dotprefix; content:".example.com"; endswith;'), tls('example.com'), true],
    [rule('tls.sni; dotprefix; content:".example.com"; endswith;'), tls('a.example.com'), true],
    [rule('tls.sni; content:"b"; offset:1; depth:2;'), tls('aab'), true],
    [rule('tls.sni; content:"b"; offset:1; depth:2;'), tls('baaab'), false],
    [rule('tls.sni; content:"|65 78|ample";'), tls('example.com'), true],
    [rule('tls.sni; content:"one"; content:"two";'), tls('one.example'), false],
    [rule('tls.sni; content:"one"; content:"two";'), tls('two.one'), true],
    [rule('tls.sni; content:"one"; content:!"two";'), tls('two.one'), false],
    [rule('tls.sni; content:"one"; content:!"two";'), tls('three.one'), true],
    [rule('tls.sni; pcre:"/^cdn[0-9]+\\./i";'), tls('CDN12.example'), true],
    [rule('tls.sni; pcre:"/^cdn[0-9]+\\./i";'), tls('xcdn12.example'), false],
    [rule('pcre:"/\\.example$/W";', 'http any any -> any any'), http('a.example'), true],
    [rule('http.host; content:"Example";', 'http any any -> any any'), http('a.example'), true],
    [rule('tls_sni; content:"example";'), tls('a.example'), true],
    [rule('flow:established,to_server;', 'tcp any any -> any 443'), { respPackets: 1 }, true],
    [rule('flow:established,to_server;', 'tcp any any -> any 443'), {}, false],
    [rule('flow:established,to_client;', 'tcp any 443 -> any any'), { respPackets: 1 }, true],
    [rule('', 'tcp any any -> any 443'), { respPort: 80 }, false],
    [rule('', 'tcp any any <> any 443'), { origPort: 443, respPort: 9 }, true],
    [rule('', 'tcp any any -> any [80,8000:8100]'), { respPort: 8050 }, true],
    [rule('flow:to_server;', 'tcp any any -> any !443'), { respPort: 443 }, false],
    // A packet of the server goes to another port.
    [rule('', 'tcp any any -> any !443'), { respPort: 443 }, true],
    [
      rule('', 'tcp $HOME_NET any -> $EXTERNAL_NET any'),
      { orig: address('10.1.1.1'), resp: address('192.0.2.9') },
      true,
    ],
    [
      rule('', 'tcp $HOME_NET any -> $EXTERNAL_NET any'),
      { orig: address('10.1.1.1'), resp: address('10.0.0.9') },
      false,
    ],
    [rule('', 'tcp [!10.0.0.0/8, !192.0.2.0/24] any -> any any'), { orig: address('198.51.100.1') }, true],
    [rule('', 'udp any any -> any any'), {}, false],
    [rule('app-layer-protocol:ssh;', 'tcp any any -> any any'), { services: ['ssh'] }, true],
    [rule('app-layer-protocol:!tls;', 'tcp any any -> any any'), { services: ['ssl'] }, false],
    [rule('', 'ip any any -> 2001:db8::/32 any'), { resp: address('2001:db8::1') }, true],
  ])('%s', async (text, known, expected) => {
    expect(await matches(text, known)).toBe(expected);
  });

  test.each<[string, RegExp]>([
    [rule('content:"GET";'), /content of the stream/],
    [rule('flowbits:isset,x;'), /keyword 'flowbits'/],
    [rule('tls.sni; content:"a"; within:5;'), /keyword 'within'/],
    [rule('', 'nfs any any -> any any'), /protocol 'nfs'/],
    [rule('tls.sni; pcre:"/(a)\\1/";'), /linear time/],
    [rule('tls.sni; pcre:"/a/R";'), /flag R/],
    [rule('pcre:"/a/";'), /over the stream/],
    [rule('', 'tcp $NOWHERE any -> any any'), /\$NOWHERE is not set/],
    [rule('', 'tcp [10.0.0.0/8,!10.1.0.0/16] any -> any any'), /exceptions/],
    [rule('tls.sni; content:!"a";'), /must not be there/],
    [rule('flow:no_stream;'), /flow:no_stream/],
    [rule('nocase;'), /without a content/],
    [rule('tls.sni; content:"|4|";'), /not written right/],
  ])('%s is refused with its reason', (text, reason) => {
    const read = readSignature(text, {});
    expect(read.signature).toBeUndefined();
    expect(read).toMatchObject({ sid: 1, msg: 'm', bypass: true });
    expect(read.reason).toMatch(reason);
  });

  test('a file: comments, joined lines, rules without bypass, lines that are none', async () => {
    const file = await readSignatures(
      `# ${TALK}\n\n${TALK}\nalert tcp any any -> any any \\\n  (flow:established; bypass; \\\n  sid:2;)\nalert tcp any any -> any any (sid:3;)\nnonsense\n${rule('dsize:5;')}`,
    );
    expect(file.rules).toBe(4);
    expect(file.signatures.map(({ sid }) => sid)).toEqual([6666, 2]);
    expect(file.refused).toEqual([{ line: 9, sid: 1, msg: 'm', reason: "keyword 'dsize'" }]);
    expect(file.damaged).toEqual([{ line: 8, reason: 'it is not a rule' }]);
  });

  test('no text makes the reader throw', () => {
    const piece = fc.constantFrom(
      'alert',
      'tls',
      'any',
      '->',
      '(',
      ')',
      'content:"',
      '|',
      '"',
      ';',
      'bypass;',
      'sid:1;',
      '$X',
      '[',
      '!',
      'pcre:"/',
      '/i"',
      'tls.sni;',
      '\\',
      'offset:',
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, fc.string({ maxLength: 3 })), { maxLength: 30 }), (pieces) => {
        const head = fc.sample(fc.constantFrom('alert tls any any -> any any (bypass; ', ''), 1)[0];
        readSignature(`${head}${pieces.join(' ')})`, {});
      }),
      { numRuns: 3000 },
    );
  });

  test('as a condition: looked at again when a name or a service is learned, or the other side is heard', async () => {
    const { signatures } = await readSignatures(TALK);
    const sets = { ...NO_SETS, signatures: new Map([['talk', new SignatureTable(signatures)]]) };
    const condition = compileCondition('signature in @talk', sets);
    expect(condition.look(facts())).toBe(Truth.later);
    expect(condition.watch).toMatchObject({ news: true, packets: 2 });
    expect(condition.look(facts(http('netdevconf.org')))).toBe(Truth.holds);
    expect(condition.look(facts({ ...http('x.org'), learning: false }))).toBe(Truth.never);
    expect(() => compileCondition('signature in @talks', sets)).toThrow(/no set of signatures/);
    expect(() => compileCondition('signature == 1', sets)).toThrow(/not one of several/);
  });
});

test('the matcher finds what a search for each text finds, where it has to stand', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'C'), minLength: 1, maxLength: 14 });
  const place = fc.constantFrom<Place>('anywhere', 'tail', 'whole');
  const letters = new Letters();
  fc.assert(
    fc.property(
      fc.array(fc.tuple(text, place, fc.boolean()), { maxLength: 12 }),
      fc.string({ unit: fc.constantFrom('A', 'b', 'c'), maxLength: 30 }),
      fc.nat(30),
      fc.nat(3),
      (texts, name, cut, alike) => {
        // Something of the name itself too.
        const all = cut < name.length ? [...texts, ...wholes(name.slice(cut))] : texts;
        const found: string[] = [];
        expect(letters.take(name)).toBe(true);
        const matcher = new Matcher(
          all.map(([t, where, exact], id) => ({ given: [id, 0, 0, 0], text: t, place: where, exact })),
          alike,
        );
        const enough = matcher.find(letters, (given, end) => {
          found.push(`${matcher.lines[given]} ${end}`);
          return false;
        });
        expect(enough).toBe(false);
        let first = 0;
        expect(matcher.find(letters, () => ++first > 0)).toBe(found.length > 0);
        expect(first).toBe(Math.min(1, found.length));
        const dotted = `.${name.toLowerCase()}`;
        const expected = all.flatMap(([t, where, exact], id) =>
          Array.from({ length: dotted.length + 1 }, (_, end) => end).flatMap((end) => {
            const stands = exact
              ? `.${name}`.slice(0, end).endsWith(t)
              : dotted.slice(0, end).endsWith(t.toLowerCase());
            const begin = end - t.length;
            const right =
              where === 'anywhere' ||
              (end === dotted.length && (where === 'tail' || begin === 0 || begin === 1));
            return stands && right ? [`${id} ${end}`] : [];
          }),
        );
        expect(found.toSorted()).toEqual(expected.toSorted());
      },
    ),
    { numRuns: 2000 },
  );
});

const wholes = (text: string): [string, Place, boolean][] => [
  [text, 'whole', true],
  [`.${text}`, 'whole', false],
  [text, 'tail', true],
  [text, 'anywhere', false],
];

test('of thousands that end alike each is found, and is the only one that is', () => {
  const letters = new Letters();
  const texts = Array.from({ length: 3000 }, (_, i) => `d${(i * 7919).toString(36)}.cdn.lab.example`);
  const matcher = new Matcher(
    texts.map((text, id) => ({ given: [id, 0, 0, 0], text, place: 'tail', exact: false })),
  );
  for (const [id, text] of texts.entries()) {
    const found: number[] = [];
    for (const name of [`www.${text}`, `${text}.org`, text.slice(1)]) {
      letters.take(name);
      matcher.find(letters, (given) => {
        found.push(matcher.lines[given]);
        return false;
      });
    }
    expect(found.includes(id), text).toBe(true);
    expect(found.filter((other) => !`www.${text}`.endsWith(texts[other]))).toEqual([]);
  }
});

test('what is not ASCII, and what is too long to be a name, is taken as it is', () => {
  const letters = new Letters();
  expect(letters.take('x'.repeat(256))).toBe(false);
  const matcher = new Matcher([
    { given: [7, 0, 0, 0], text: 'É\u0161.example', place: 'tail', exact: false },
  ]);
  const found: number[] = [];
  for (const name of ['É\u0161.EXAMPLE', 'é\u0161.example', '\u01c9\u0161.example']) {
    expect(letters.take(name)).toBe(true);
    matcher.find(letters, (given) => {
      found.push(matcher.lines[given]);
      return false;
    });
  }
  expect(found).toEqual([7]);
});
