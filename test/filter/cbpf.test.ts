import { describe, expect, it } from 'vitest';
import { cbpfText, encodeCbpf } from '../../src/ebpf/index.ts';
import {
  compileFilterText,
  emitC,
  emitDdd,
  emitIptables,
  emitLine,
  FilterError,
  type Language,
} from '../../src/filter/index.ts';
import { seeded, tool, toolTest } from './support.ts';

const parse = (text: string) => compileFilterText(text, 'cbpf');

function thrown(text: string, language: Language = 'cbpf'): FilterError {
  try {
    compileFilterText(text, language);
  } catch (error) {
    if (error instanceof FilterError) return error;
    throw error;
  }
  throw new Error(`${text} is taken`);
}

const long = (n: number) => parse(`${n}\n${'40 0 0 12\n'.repeat(n - 1)}6 0 0 1\n`);

describe('classic BPF as text', () => {
  const program = compileFilterText('tcp port 80 or udp port 53', 'tcpdump');
  const hex = Buffer.from(encodeCbpf(program)).toString('hex');
  const array = program.map(
    ({ code, jt, jf, k }) =>
      `{ 0x${code.toString(16)}, ${jt}, ${jf}, 0x${k.toString(16).padStart(8, '0')} },\n`,
  );

  it.each<[string, string]>([
    ['the decimal form', emitDdd(program)],
    ['the decimal form on one line', emitDdd(program).replace(/\n/g, ' ')],
    ['with carriage returns', emitDdd(program).replace(/\n/g, '\r\n')],
    ['the form of iptables', emitLine(program)],
    ['with a comma at the end', `${emitLine(program)},`],
    ['an array of C', array.join('')],
    ['the last comma left out', array.join('').replace(/,\n$/, '')],
    ['a source file of C', emitC(program, ['tcp {port} /* 80 */ // or = {', 'more'])],
    ['hexadecimal', hex],
    ['hexadecimal in groups and lines', (hex.toUpperCase().match(/.{8}/g) ?? []).join('\n ')],
  ])('%s', (_, text) => expect(parse(text)).toEqual(program));

  toolTest('what tcpdump prints', 'tcpdump', () => {
    for (const expression of [
      'tcp port 80',
      'ip6 and not port 22',
      'tcp[tcpflags] & tcp-syn != 0',
      'ether[12:2] = 0x1234',
    ]) {
      const args = ['-y', 'EN10MB', expression];
      const expected = compileFilterText(expression, 'tcpdump');
      expect(parse(tool('tcpdump', ['-ddd', ...args]))).toEqual(expected);
      expect(parse(tool('tcpdump', ['-dd', ...args]))).toEqual(expected);
      const unoptimised = compileFilterText(expression, 'tcpdump', { optimize: false });
      expect(parse(tool('tcpdump', ['-O', '-ddd', ...args]))).toEqual(unoptimised);
      expect(cbpfText(expected).split('\n').length).toBe(tool('tcpdump', ['-d', ...args]).split('\n').length);
    }
  });

  it.each<[string, string, number, number]>([
    ['', 'a program is missing', 1, 1],
    ['  \n ', 'a program is missing', 2, 2],
    ['abc', 'not the number of instructions', 1, 1],
    ['1\n6 0 0', 'k is missing', 2, 6],
    ['1\n6 0 0 1\n6 0 0 0\n', 'more than the 1 instructions', 3, 1],
    ['3\n6 0 0 1\n6 0 0 0\n', '3 instructions are announced, 2 follow', 1, 1],
    ['1\n6 0 -1 1', 'jf is a number', 2, 5],
    ['1\n6 0 256 1', 'jf is at most 255', 2, 5],
    ['1\n65536 0 0 1', 'the code is at most 65535', 2, 1],
    ['1\n6 0 0 4294967296', 'k is at most 4294967295', 2, 7],
    ['1\n6 0 0 1e3', 'k is a number', 2, 7],
    ['2\n40 0 0 12\n40 0 0 12', 'the last instruction does not return', 3, 1],
    ['2\n21 0 9 12\n6 0 0 0', 'jumps past the last instruction', 2, 1],
    ['2\n255 0 0 0\n6 0 0 0', 'there is no code 0xff', 2, 1],
    ['2\n96 0 0 3\n6 0 0 0', 'M[3] is read before it is written', 2, 1],
    ['2\n52 0 0 0\n6 0 0 0', 'division by zero', 2, 1],
    ['2,40 0 0 12,6 0 0 x', 'k is a number', 1, 19],
    ['{ 6, 0, 0 },', ', is missing', 1, 11],
    ['{ 6, 0, 0, 0 ', 'cut off', 1, 14],
    ['{ 6, 0, 0, 0 }\nfoo', '{ is missing', 2, 1],
    ['{ 6, 0, , 0 }', 'jf is missing', 1, 9],
    ['{ 6, 0, 0, 0, 0 }', '} is missing', 1, 13],
    [`4097\n${'6 0 0 0\n'.repeat(4097)}`, 'at most 4096 instructions', 4098, 1],
    ['0', 'empty', 1, 1],
  ])('%j: %s', (text, message, line, column) => {
    const error = thrown(text);
    expect(error).toMatchObject({ code: 'FILTER_INVALID', exit: 2 });
    expect(error.message).toContain(message);
    const place = text.includes('\n') ? `(line ${line}, column ${column})` : `(column ${column})`;
    expect(error.message).toContain(place);
  });

  it('no text does more than throw a FilterError', () => {
    const random = seeded(11);
    const pieces = [
      '{',
      '}',
      ',',
      ' ',
      '\n',
      '0',
      '6',
      '40',
      '0x',
      '4294967295',
      'ff',
      '/*',
      '*/',
      '//',
      '=',
      ';',
      '\0',
      'é',
      '-',
      '00000006',
    ];
    for (let i = 0; i < 1500; i++) {
      const text = Array.from({ length: random(30) }, () => pieces[random(pieces.length)]).join('');
      for (const language of ['cbpf', 'dns', 'p0f', 'quic', 'suffix'] as const) {
        try {
          compileFilterText(text, language);
        } catch (error) {
          expect(error, `${language} ${JSON.stringify(text)}`).toBeInstanceOf(FilterError);
        }
      }
    }
  });

  it('netfilter takes 64 instructions and no more', () => {
    expect(emitIptables(long(64))).toMatch(/^64,/);
    expect(() => emitIptables(long(65))).toThrow(expect.objectContaining({ code: 'FILTER_UNSUPPORTED' }));
  });
});

describe('errors of tcpdump expressions point into the text', () => {
  it.each<[string, string, string]>([
    ['tcp prot 80', 'syntax error', 'prot'],
    ['tcp and', 'syntax error', ''],
    ['tcp and (port 80 or', 'syntax error', ''],
    ['tcp and ) port 80', 'syntax error', ')'],
    ['host 10.0.0.1 and and udp', 'syntax error', 'and'],
    ['ether[0:3] = 1', 'data size must be 1, 2, or 4', '0:3'],
    ['port 99999', 'illegal port number', '99999'],
    ['tcp port nosuchport', "unknown port 'nosuchport'", 'nosuchport'],
    ['net 1.2.3.4/8', 'non-network bits', '1.2.3.4'],
    ['tcp\0', 'no NUL characters', '\0'],
    [`tcp ${'and tcp '.repeat(9000)}`, 'at most 65536 characters', ''],
    [`tcp ${'and tcp '.repeat(1000)}`, 'at most 1200 words', 'tcp'],
  ])('%j: %s', (text, message, at) => {
    const error = thrown(text, 'tcpdump');
    expect(error.message).toContain(message);
    expect(text.slice(error.span.start, error.span.end)).toBe(at);
  });

  it('what libpcap would be busy with for minutes is refused', () => {
    const ports = Array.from({ length: 280 }, (_, i) => `port ${i}`).join(' or ');
    expect(() => compileFilterText(ports, 'tcpdump')).toThrow(
      expect.objectContaining({
        code: 'FILTER_UNSUPPORTED',
        message: expect.stringContaining('instructions are more than'),
      }),
    );
    const hosts = Array.from({ length: 100 }, (_, i) => `host 10.0.0.${i}`).join(' or ');
    expect(compileFilterText(hosts, 'tcpdump').length).toBeLessThan(400);
  });

  it('the second of two equal words is the wrong one', () => {
    expect(thrown('host 10.0.0.1 and and udp', 'tcpdump').span.start).toBe(18);
  });

  it('the place is shown, also in long lines', () => {
    expect(thrown('tcp prot 80', 'tcpdump').cause).toBe('tcp prot 80\n    ^^^^');
    const long = thrown(`${'tcp or '.repeat(40)}foo( bar`, 'tcpdump');
    const [line, carets] = String(long.cause).split('\n');
    expect(line.startsWith('…')).toBe(true);
    expect(line.slice(carets.indexOf('^'))).toMatch(/^(foo)?\(/);
    expect(line.length).toBeLessThan(80);
  });

  it('another link type', () => {
    expect(() => compileFilterText('wlan type mgt', 'tcpdump')).toThrow(
      expect.objectContaining({ code: 'FILTER_UNSUPPORTED' }),
    );
    expect(compileFilterText('wlan type mgt', 'tcpdump', { linkType: 105 }).length).toBeGreaterThan(2);
    expect(compileFilterText('ip', 'tcpdump', { linkType: 101 })).toEqual(
      compileFilterText('ip', 'tcpdump', { linkType: 12 }),
    );
    expect(() => compileFilterText('example.com', 'dns', { linkType: 105 })).toThrow(
      expect.objectContaining({ code: 'FILTER_UNSUPPORTED' }),
    );
  });
});
