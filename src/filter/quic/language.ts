import { FilterError, type Span, tokens } from '../problem.ts';

/** Long-header packets by what RFC 9000 (17.2) calls them; `negotiation` has version 0, `long` is any. */
export const QUIC_TYPES = ['long', 'initial', '0rtt', 'handshake', 'retry', 'negotiation'] as const;
export type QuicType = (typeof QUIC_TYPES)[number];

/** What a filter on QUIC looks for in the first packet of a datagram. */
export interface QuicTerm {
  type: QuicType;
  /** undefined: any that is known. */
  version: number | undefined;
  /** UDP port of either side; undefined: any. */
  port: number | undefined;
  span: Span;
}

/** RFC 9000, RFC 9369; drafts are 0xff000000 and their number. */
export const QUIC_V1 = 1;
export const QUIC_V2 = 0x6b3343cf;
export const QUIC_DRAFT = 0xff000000;

const TERMS = 64;
const EXAMPLE = "such as 'quic initial', 'quic long version 2', 'initial port 443 or retry'";

function version(text: string): number | undefined {
  if (text === '1' || text === '2') return text === '1' ? QUIC_V1 : QUIC_V2;
  const draft = /^draft-(\d{1,2})$/.exec(text)?.[1];
  if (draft !== undefined) return QUIC_DRAFT + Number(draft);
  if (/^0x[0-9a-f]{1,8}$/i.test(text)) return Number(text) === 0 ? undefined : Number(text);
  return undefined;
}

/**
 * `sluice filter --lang quic`: terms joined by `or`; each is `quic` or nothing, a type, and at will `version V` (1, 2, draft-29 or
 * 0x…) and `port N`. FILTER_INVALID at the place.
 */
export function parseQuic(text: string): QuicTerm[] {
  const end = { start: text.length, end: text.length };
  const words = tokens(text.toLowerCase(), /[^\s,]+/g);
  const terms: QuicTerm[] = [];
  let at = 0;
  while (at < words.length || terms.length === 0) {
    const first = words[at];
    if (first === undefined) throw new FilterError(text, end, 'what of QUIC is missing', { help: EXAMPLE });
    const term: QuicTerm = { type: 'long', version: undefined, port: undefined, span: { ...first } };
    const seen = new Set<string>();
    const once = (what: string, span: Span) => {
      if (seen.has(what)) throw new FilterError(text, span, `a second ${what}; 'or' begins another term`);
      seen.add(what);
    };
    for (; at < words.length && words[at].text !== 'or'; at++) {
      const word = words[at];
      const type = QUIC_TYPES.find((name) => name === word.text);
      if (word.text === 'quic') once('quic', word);
      else if (word.text === 'and' && seen.size > 0 && words[at + 1] !== undefined) continue;
      else if (type !== undefined) {
        once('type', word);
        term.type = type;
      } else if (word.text === 'version' || word.text === 'port') {
        once(word.text, word);
        const argument = words[++at];
        if (argument === undefined) throw new FilterError(text, end, `the ${word.text} is missing`);
        if (word.text === 'version') {
          term.version = version(argument.text);
          if (term.version === undefined)
            throw new FilterError(text, argument, 'not a version of QUIC', {
              help: '1, 2, draft-29 or 0x6b3343cf',
            });
        } else {
          if (!/^\d{1,5}$/.test(argument.text) || Number(argument.text) > 65_535)
            throw new FilterError(text, argument, 'a port is a number up to 65535');
          term.port = Number(argument.text);
        }
      } else
        throw new FilterError(text, word, `${JSON.stringify(word.text)} is no word of this language`, {
          help: EXAMPLE,
        });
      term.span.end = words[at].end;
    }
    if (seen.size === 0)
      throw new FilterError(text, words[at] ?? end, 'a term is missing', { help: EXAMPLE });
    if (term.type === 'negotiation' && term.version !== undefined)
      throw new FilterError(text, term.span, 'a version negotiation has no version of its own');
    terms.push(term);
    if (terms.length > TERMS)
      throw new FilterError(text, term.span, `at most ${TERMS} terms`, { code: 'FILTER_UNSUPPORTED' });
    if (at < words.length && ++at === words.length)
      throw new FilterError(text, end, 'a term is missing', { help: EXAMPLE });
  }
  return terms;
}
