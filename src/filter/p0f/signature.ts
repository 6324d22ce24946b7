import { FilterError, type Span, type Token } from '../problem.ts';

/** TCP options by what p0f calls them; `sack` and those that p0f does not know (`?n`) have a length of their own. */
export const TcpOption = { eol: 0, nop: 1, mss: 2, ws: 3, sok: 4, sack: 5, ts: 8 } as const;

/** Quirks of the headers and the options, as p0f's README names them. */
export const QUIRKS = [
  'df',
  'id+',
  'id-',
  'ecn',
  '0+',
  'flow',
  'seq-',
  'ack+',
  'ack-',
  'uptr+',
  'urgf+',
  'pushf+',
  'ts1-',
  'ts2+',
  'opt+',
  'exws',
  'bad',
] as const;
export type Quirk = (typeof QUIRKS)[number];

export type Window =
  | { kind: 'any' }
  | { kind: 'value'; value: number }
  /** A multiple of the number. */
  | { kind: 'modulo'; value: number }
  /** So many times the maximum segment size, or the MTU. */
  | { kind: 'mss' | 'mtu'; value: number };

/** A signature of p0f 3: ver:ittl:olen:mss:wsize,scale:olayout:quirks:pclass. */
export interface P0fSignature {
  /** What it looks at: the first packet of a connection, or the answer to it. */
  packet: 'syn' | 'syn+ack';
  /** undefined: either. */
  version: 4 | 6 | undefined;
  ttl: number;
  /** Any TTL up to `ttl`; else one that 35 hops at most explain. */
  anyTtl: boolean;
  ipOptions: number;
  mss: number | undefined;
  window: Window;
  scale: number | undefined;
  /** Kinds of TCP options in their order. */
  options: number[];
  /** Bytes behind an end of options. */
  padding: number;
  quirks: ReadonlySet<Quirk>;
  /** Bytes behind the TCP header: none, some, or either. */
  payload: 'none' | 'some' | 'any';
  span: Span;
}

/** MAX_TCP_OPT of p0f. */
export const MAX_OPTIONS = 24;

const FIELDS = ['ver', 'ittl', 'olen', 'mss', 'wsize,scale', 'olayout', 'quirks', 'pclass'] as const;
const ONLY_4: readonly Quirk[] = ['df', 'id+', 'id-', '0+'];
const ONLY_6: readonly Quirk[] = ['flow'];

/** Cuts a text at a sign; each piece with its place. */
function cut(token: Token, sign: string): Token[] {
  let at = token.start;
  return token.text.split(sign).map((text) => {
    const piece = { text, start: at, end: at + text.length };
    at = piece.end + 1;
    return piece;
  });
}

class SignatureParser {
  readonly #source: string;

  constructor(source: string) {
    this.#source = source;
  }

  fail(span: Span, message: string, help?: string): never {
    throw new FilterError(this.#source, span, message, help === undefined ? {} : { help });
  }

  number(token: Token, min: number, max: number, what: string): number {
    if (!/^\d{1,5}$/.test(token.text))
      this.fail(token, `${what} is a number, not ${JSON.stringify(token.text)}`);
    const value = Number(token.text);
    if (value < min || value > max) this.fail(token, `${what} is from ${min} to ${max}`);
    return value;
  }

  ttl(token: Token): { ttl: number; anyTtl: boolean } {
    const parts = /^(\d{1,3})(?:(-)|\+(\d{1,3}))?$/.exec(token.text);
    if (parts === null) {
      this.fail(
        token,
        'the initial TTL is a number, one with - behind, or what was seen + the distance',
        '64, 64- or 54+10',
      );
    }
    const [, base, minus, distance = '0'] = parts;
    const ttl = Number(base) + Number(distance);
    if (Number(base) < 1 || ttl > 255) this.fail(token, 'the initial TTL is from 1 to 255');
    return { ttl, anyTtl: minus !== undefined };
  }

  window(token: Token): Window {
    const rest = (skip: number): Token => ({
      ...token,
      text: token.text.slice(skip),
      start: token.start + skip,
    });
    if (token.text === '*') return { kind: 'any' };
    if (token.text.startsWith('%'))
      return { kind: 'modulo', value: this.number(rest(1), 2, 65_535, 'the divisor of the window') };
    if (token.text.startsWith('mss*'))
      return { kind: 'mss', value: this.number(rest(4), 1, 1000, 'the multiple of the MSS') };
    if (token.text.startsWith('mtu*'))
      return { kind: 'mtu', value: this.number(rest(4), 1, 1000, 'the multiple of the MTU') };
    return { kind: 'value', value: this.number(token, 0, 65_535, 'the window') };
  }

  options(token: Token): { options: number[]; padding: number } {
    const options: number[] = [];
    let padding = 0;
    if (token.text === '') return { options, padding };
    const parts = cut(token, ',');
    for (const [index, part] of parts.entries()) {
      if (index >= MAX_OPTIONS) this.fail(part, `p0f looks at ${MAX_OPTIONS} TCP options at most`);
      if (part.text.startsWith('eol+')) {
        if (index < parts.length - 1) this.fail(part, 'eol ends the options: nothing follows it');
        const pad = { ...part, text: part.text.slice(4), start: part.start + 4 };
        padding = this.number(pad, 0, 255, 'the padding behind eol');
        options.push(TcpOption.eol);
      } else if (part.text.startsWith('?')) {
        const kind = { ...part, text: part.text.slice(1), start: part.start + 1 };
        options.push(this.number(kind, 0, 255, 'the number of the option'));
      } else if (part.text !== 'eol' && Object.hasOwn(TcpOption, part.text)) {
        options.push(TcpOption[part.text as keyof typeof TcpOption]);
      } else {
        this.fail(
          part,
          `${JSON.stringify(part.text)} is no TCP option of p0f`,
          'eol+n, nop, mss, ws, sok, sack, ts, ?n',
        );
      }
    }
    return { options, padding };
  }

  quirks(token: Token, version: P0fSignature['version']): Set<Quirk> {
    const quirks = new Set<Quirk>();
    if (token.text === '') return quirks;
    for (const part of cut(token, ',')) {
      const quirk = QUIRKS.find((name) => name === part.text);
      if (quirk === undefined)
        this.fail(part, `${JSON.stringify(part.text)} is no quirk of p0f`, QUIRKS.join(', '));
      if ((version === 6 && ONLY_4.includes(quirk)) || (version === 4 && ONLY_6.includes(quirk))) {
        this.fail(part, `${quirk} does not exist in IPv${version}`);
      }
      quirks.add(quirk);
    }
    return quirks;
  }

  parse(token: Token, packet: P0fSignature['packet']): P0fSignature {
    const fields = cut(token, ':');
    if (fields.length !== FIELDS.length) {
      const last = fields[Math.min(fields.length, FIELDS.length + 1) - 1];
      const message = `a signature has ${FIELDS.length} fields, not ${fields.length}`;
      this.fail(
        fields.length < FIELDS.length ? { start: last.end, end: last.end } : last,
        message,
        FIELDS.join(':'),
      );
    }
    const [ver, ittl, olen, mss, wsize, olayout, quirks, pclass] = fields;
    if (!['4', '6', '*'].includes(ver.text)) this.fail(ver, 'the IP version is 4, 6 or *');
    const version = ver.text === '*' ? undefined : ver.text === '4' ? 4 : 6;
    const [window, scale, more] = cut(wsize, ',');
    if (scale === undefined || more !== undefined)
      this.fail(wsize, 'the window and its scale stand with a comma between them', 'mss*20,7');
    const payload = { 0: 'none', '+': 'some', '*': 'any' }[pclass.text];
    if (payload === undefined) this.fail(pclass, 'the payload class is 0, + or *');
    return {
      packet,
      version,
      ...this.ttl(ittl),
      ipOptions: this.number(olen, 0, 255, 'the length of the IP options'),
      mss: mss.text === '*' ? undefined : this.number(mss, 0, 65_535, 'the MSS'),
      window: this.window(window),
      scale: scale.text === '*' ? undefined : this.number(scale, 0, 255, 'the window scale'),
      ...this.options(olayout),
      quirks: this.quirks(quirks, version),
      payload: payload as P0fSignature['payload'],
      span: { start: token.start, end: token.end },
    };
  }
}

const SECTIONS: Record<string, P0fSignature['packet'] | undefined> = {
  '[tcp:request]': 'syn',
  '[tcp:response]': 'syn+ack',
};
/** Lines of p0f.fp that say whose signature it is, not what it looks like. */
const DESCRIPTION = /^(?:label|sys|classes|ua_os)\s*=/;

/**
 * Signatures, of SYN unless `syn+ack` stands before; several in one text. Also lines of p0f.fp: `[tcp:response]`, `sig = …`,
 * comments and labels. FILTER_INVALID at the place.
 */
export function parseP0f(text: string): P0fSignature[] {
  const parser = new SignatureParser(text);
  const found: P0fSignature[] = [];
  let packet: P0fSignature['packet'] = 'syn';
  let at = 0;
  for (const line of text.split('\n')) {
    const start = at;
    at += line.length + 1;
    const trimmed = line.trim();
    if (trimmed.startsWith(';') || DESCRIPTION.test(trimmed)) continue;
    for (const match of line.matchAll(/sig\s*=|\S+/g)) {
      const token = {
        text: match[0],
        start: start + match.index,
        end: start + match.index + match[0].length,
      };
      if (token.text === 'or' || token.text.startsWith('sig')) continue;
      const section = SECTIONS[token.text];
      if (section !== undefined) packet = section;
      else if (token.text === 'syn' || token.text === 'syn+ack') packet = token.text;
      else found.push(parser.parse(token, packet));
    }
  }
  if (found.length === 0) {
    parser.fail(
      { start: text.length, end: text.length },
      'a signature is missing',
      "such as '*:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0'; syn+ack in front makes it one of answers",
    );
  }
  return found;
}
