import { describe, expect, it } from 'vitest';
import { validateCbpf } from '../../src/ebpf/index.ts';
import { compileFilterText, FilterError, type Language } from '../../src/filter/index.ts';
import { type QueryOptions, query, wireName } from './dns-frames.ts';
import { type Frame, matching, runClassic } from './support.ts';

const hit = (text: string, frame: Frame, language: Language = 'dns') =>
  runClassic(compileFilterText(text, language), [frame])[0] !== 0;

const odd = (...bytes: number[]) => query('', { rawName: bytes });

describe('DNS patterns', () => {
  it.each<[string, string[], string[]]>([
    [
      'example.com',
      ['example.com', 'EXAMPLE.com', 'eXaMpLe.CoM'],
      ['www.example.com', 'example.org', 'example', 'example.com.br', 'xample.com', 'com', ''],
    ],
    ['.example.com.', ['example.com'], ['www.example.com']],
    [
      '*.example.com',
      ['www.example.com', `${'a'.repeat(63)}.example.com`],
      ['example.com', 'a.b.example.com', 'www.example.org'],
    ],
    ['www.*.com', ['www.example.com', 'www.a.com'], ['www.com', 'www.a.b.com', 'ftp.a.com']],
    ['*.*.com', ['a.b.com'], ['b.com', 'a.b.c.com']],
    [
      '**.example.com',
      ['example.com', 'www.example.com', 'a.b.c.d.e.f.EXAMPLE.com', `${'x.'.repeat(120)}example.com`],
      ['com', 'notexample.com', 'example.com.net', 'example.net'],
    ],
    ['**.a.*.b', ['a.x.b', 'z.a.x.b', 'a.a.x.b'], ['x.b', 'a.b', 'a.x.y.b']],
    [
      'example.**',
      ['example', 'example.com', 'example.co.uk', 'EXAMPLE.anything.whatsoever'],
      ['www.example.com', 'examples.com', 'exampl'],
    ],
    ['**', ['', 'com', 'a.b.c'], []],
    ['.', [''], ['com']],
    ['fin?.me', ['fint.me', 'finX.me', 'fin-.me'], ['fin.me', 'finXX.me', 'www.fint.me']],
    ['*{4-6}.com', ['abcd.com', 'abcdef.com'], ['abc.com', 'abcdefg.com', 'a.abcd.com']],
    ['*{3-3}.com', ['abc.com'], ['ab.com', 'abcd.com']],
    [
      'a.example b.example,c.example or *.d',
      ['a.example', 'b.example', 'C.example', 'x.d'],
      ['d.example', 'd', 'or'],
    ],
    [
      'very-long-name-in-front.example.com b.cc **.x',
      ['b.cc', 'x', 'very-long-name-in-front.example.com', 'y.x'],
      ['cc', 'very-long-name-in-front.example'],
    ],
    [
      '**.a **.b.c **.d.e.f',
      ['a', 'b.c', 'd.e.f', 'z.a', 'z.b.c', 'z.d.e.f', 'a.d.e.f'],
      ['c', 'f', 'e.f', 'b', 'a.b'],
    ],
    ['or.', ['or'], ['com']],
    ['valid.', ['valid'], ['com']],
    ['bücher.example', ['xn--bcher-kva.example'], ['bucher.example']],
    [
      'host_1-2.example',
      ['host_1-2.example', 'HOST_1-2.example'],
      ['host\u007f1-2.example', 'host_1\r2.example'],
    ],
  ])('%s', (pattern, matches, others) => {
    const program = compileFilterText(pattern, 'dns');
    validateCbpf(program);
    const names = [...matches, ...others];
    const found = runClassic(
      program,
      names.map((name) => query(name)),
    ).map((value) => value !== 0);
    expect(names.filter((_, i) => found[i])).toEqual(matches);
  });

  it('compare bytes of labels, dots and length bytes within them too', () => {
    const dotted = odd(3, 0x61, 0x2e, 0x62, 0);
    expect(hit('a\\.b', dotted)).toBe(true);
    expect(hit('a.b', dotted)).toBe(false);
    expect(hit('\\042', odd(1, 42, 0))).toBe(true);
    expect(hit('\\*', odd(1, 42, 0))).toBe(true);
    // A label that contains what looks like the labels of the suffix.
    const inside = odd(9, 7, ...Buffer.from('example'), 0x78, ...wireName('com'));
    expect(hit('**.example.com', odd(8, ...wireName('example').slice(0, -1), ...wireName('com')))).toBe(
      false,
    );
    expect(hit('**.com', inside)).toBe(true);
  });

  it('never take malformed names for others', () => {
    const pointer = query('', { rawName: [0xc0, 12] });
    const runaway = query('', { rawName: [63, ...Buffer.from('abc')] });
    const reserved = query('', { rawName: [0x41, ...Array.from<number>({ length: 65 }).fill(97), 0] });
    for (const frame of [pointer, runaway, reserved])
      for (const pattern of ['**.com', '*', 'example.com', '*.*', '*{1-63}.**'])
        expect(hit(pattern, frame)).toBe(false);
  });

  it('the longest names', () => {
    const longest = `${'a.'.repeat(126)}a`;
    expect(wireName(longest).length).toBe(255);
    expect(hit(longest, query(longest))).toBe(true);
    expect(hit('**.a.a', query(longest))).toBe(true);
    expect(hit('**.b', query(longest))).toBe(false);
    expect(() => compileFilterText(`b.${longest}`, 'dns')).toThrow(/at most 255 bytes, not 257/);
  });

  it.each<[string, QueryOptions, boolean]>([
    ['IPv6', { version: 6 }, true],
    ['a VLAN', { tags: [0x8100] }, true],
    ['two VLANs', { tags: [0x88a8, 0x8100] }, true],
    ['two VLANs, IPv6', { tags: [0x8100, 0x8100], version: 6 }, true],
    ['an older outer tag', { tags: [0x9100, 0x8100] }, true],
    ['three VLANs', { tags: [0x8100, 0x8100, 0x8100] }, false],
    ['IPv4 options', { extensions: [0, 0, 0] }, true],
    ['IPv6 hop-by-hop options', { version: 6, extensions: [0] }, true],
    ['IPv6 destination options, routing', { version: 6, extensions: [60, 43] }, true],
    ['IPv6 authentication', { version: 6, extensions: [51] }, true],
    ['four IPv6 extension headers', { version: 6, extensions: [0, 60, 43, 60], tags: [0x8100] }, true],
    ['five IPv6 extension headers', { version: 6, extensions: [0, 60, 43, 60, 60] }, false],
    ['an unknown IPv6 header', { version: 6, extensions: [135] }, false],
    ['the first fragment of IPv4', { fragment: 0x2000 }, true],
    ['another fragment of IPv4', { fragment: 0x2003 }, false],
    ['the first fragment of IPv6', { version: 6, extensions: [44], fragment: 1 }, true],
    ['another fragment of IPv6', { version: 6, extensions: [44], fragment: 0x11 }, false],
    ['another port', { port: 54 }, false],
    ['another protocol', { protocol: 6 }, false],
    ['a response', { flags: 0x8180 }, false],
    ['no question', { counts: [0, 0, 0, 0] }, false],
    ['a name cut off', { cut: 10 }, false],
  ])('%s: %j %s', (_, options, expected) => {
    for (const pattern of ['www.example.com', '**.example.com', '*.example.**'])
      expect(hit(pattern, query('www.example.com', options))).toBe(expected);
  });

  it.each<[string, number, number[]]>([
    ['RAW', 12, []],
    ['RAW in files', 101, []],
    ['NULL', 0, [2, 0, 0, 0]],
    ['LOOP', 108, [0, 0, 0, 2]],
    ['PPP', 9, [0x00, 0x21]],
    ['PPP with address and control', 9, [0xff, 0x03, 0x00, 0x21]],
    ['LINUX_SLL', 113, [0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 8, 0]],
    ['LINUX_SLL, a VLAN', 113, [0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 0x81, 0, 0, 5, 8, 0]],
    ['LINUX_SLL2', 276, [8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0]],
  ])('link type %s', (_, linkType, header) => {
    const { bytes } = query('www.example.com');
    const frame = Uint8Array.from([...header, ...bytes.subarray(14)]);
    const program = compileFilterText('*.example.com', 'dns', { linkType });
    expect(runClassic(program, [{ bytes: frame, wire: frame.length, linkType }])).toEqual([262_144]);
  });

  it.each<[string, QueryOptions, 'valid' | 'invalid' | 'neither']>([
    ['a query', {}, 'valid'],
    ['with EDNS and a signature', { counts: [1, 0, 0, 2] }, 'valid'],
    ['recursion available, authentic data, checking disabled', { flags: 0x01b0 }, 'valid'],
    ['IPv6 with extension headers', { version: 6, extensions: [0, 60] }, 'valid'],
    ['the root', { rawName: [0] }, 'valid'],
    ['127 labels', { rawName: wireName(`${'a.'.repeat(126)}a`) }, 'valid'],
    ['a response', { flags: 0x8180 }, 'invalid'],
    ['another operation', { flags: 0x2800 }, 'invalid'],
    ['truncated', { flags: 0x0200 }, 'invalid'],
    ['authoritative', { flags: 0x0400 }, 'invalid'],
    ['a reserved bit', { flags: 0x0040 }, 'invalid'],
    ['an error code', { flags: 0x0005 }, 'invalid'],
    ['no question', { counts: [0, 0, 0, 0] }, 'invalid'],
    ['two questions', { counts: [2, 0, 0, 0] }, 'invalid'],
    ['answers', { counts: [1, 1, 0, 0] }, 'invalid'],
    ['authorities', { counts: [1, 0, 1, 0] }, 'invalid'],
    ['many additional records', { counts: [1, 0, 0, 3] }, 'invalid'],
    ['a compression pointer', { rawName: [0xc0, 12, 0, 0, 0] }, 'invalid'],
    ['a label of 64 bytes', { rawName: [64, ...Array.from<number>({ length: 64 }).fill(97), 0] }, 'invalid'],
    ['a name of 256 bytes', { rawName: wireName(`${'a.'.repeat(125)}aaaa`) }, 'invalid'],
    ['a name that goes on behind the datagram', { rawName: [20, 97, 98] }, 'invalid'],
    ['nothing behind the name', { rawName: [1, 97, 1, 98, 1] }, 'invalid'],
    ['another port', { port: 5353 }, 'neither'],
    ['not the first fragment', { fragment: 0x2003 }, 'neither'],
  ])('validity: %s', (_, options, expected) => {
    const frame = query('www.example.com', options);
    expect([hit('valid', frame), hit('invalid', frame)]).toEqual([
      expected === 'valid',
      expected === 'invalid',
    ]);
    // With names, either is enough.
    expect(hit('invalid other.example', frame)).toBe(expected === 'invalid');
  });

  it('a datagram too short for DNS is invalid', () => {
    const frame = query('a');
    const short = frame.bytes.slice(0, 14 + 20 + 8 + 4);
    short.set([0, 12], 14 + 20 + 4);
    expect(hit('invalid', { ...frame, bytes: short, wire: short.length })).toBe(true);
    expect(hit('**', { ...frame, bytes: short, wire: short.length })).toBe(false);
  });

  it.each<[Language, string, string, string]>([
    ['dns', '', 'a name is missing', ''],
    ['dns', 'foo..com', 'an empty label', ''],
    ['dns', 'a.*b.com', 'stands for a whole label', '*'],
    ['dns', `ok.com ${'a'.repeat(64)}.com`, 'at most 63 bytes, not 64', 'a'.repeat(64)],
    ['dns', '*{0-3}.com', '1 to 63 bytes', '*{0-3}'],
    ['dns', '*{9-3}.com', '1 to 63 bytes', '*{9-3}'],
    ['dns', 'a.**.b', 'only stand at the beginning or the end', '**'],
    ['dns', '**.a.**', 'at one end', '**.a.**'],
    ['dns', 'a\\999.com', 'not an escape', '\\'],
    ['dns', `**.${'a.'.repeat(16)}b`, 'more than fit into scratch memory', `**.${'a.'.repeat(16)}b`],
    ['suffix', '', 'a domain is missing', ''],
    ['suffix', 'a.com **.b.com', 'without **', '**.b.com'],
  ])('errors: %s %j: %s', (language, text, message, at) => {
    let error: unknown;
    try {
      compileFilterText(text, language);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(FilterError);
    if (!(error instanceof FilterError)) return;
    expect(error.message).toContain(message);
    expect(text.slice(error.span.start, error.span.end)).toBe(at);
  });

  it('too many names for a classic program are refused', () => {
    const names = Array.from({ length: 256 }, (_, i) => `${'abcdefgh'.repeat(6)}${i}.example.com`).join(' ');
    expect(() => compileFilterText(names, 'dns')).toThrow(
      expect.objectContaining({ code: 'FILTER_UNSUPPORTED' }),
    );
  });

  it('a suffix is the domain and all below it', () => {
    const names = [
      'example.com',
      'www.example.com',
      'a.b.example.org',
      'example.net',
      'notexample.com',
      'com',
    ];
    const program = compileFilterText('example.com example.org', 'suffix');
    expect(
      matching(
        program,
        names.map((name) => query(name)),
      ),
    ).toEqual([0, 1, 2]);
  });
});
