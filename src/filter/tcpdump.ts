import { SluiceError } from '../base/errors.ts';
import { type CbpfProgram, decodeCbpf } from '../ebpf/index.ts';
import { compileFilter } from '../kernel/index.ts';
import { FilterError, type Span, type Token, tokens } from './problem.ts';

/** Longest expression: what libpcap's parser does with it takes time and memory. */
const MAX_TEXT = 64 * 1024;
/** Words beyond which libpcap takes seconds, and then minutes: its time grows with their square and more. */
const MAX_WORDS = 1200;
/** An expression of so many words is looked at before it is optimised, */
const LONG_WORDS = 150;
/** and is not when it has more instructions than these. */
const MAX_UNOPTIMIZED = 16_384;
/** Beyond, the place of a syntax error is not looked for. */
const MAX_TOKENS = 400;
const SEARCH_MS = 500;

/** Names, numbers with the dots and colons of addresses, and signs. */
const TOKEN = /[\w.:\\-]+|<<|>>|<=|>=|!=|==|&&|\|\||\S/g;
/** What can stand behind a part of an expression that is right so far. */
const ENDINGS = [
  '',
  ' 1',
  ' 1.2.3.4',
  ' tcp',
  ' = 1',
  ' port 1',
  ' 0 = 0',
  '] = 0',
  ' 0] = 0',
  ' 00:00:00:00:00:00',
];
const HELP = 'pcap-filter(7) describes the language';

function attempt(
  expression: string,
  linkType: number,
  snaplen: number,
  optimize: boolean,
): Uint8Array | string {
  try {
    return compileFilter(expression, linkType, snaplen, optimize);
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return error.message.replace(/^the filter expression is not valid: /, '');
  }
}

/** What libpcap says of expressions that begin so; undefined: nothing against it. */
function saidOf(part: string, linkType: number): (string | undefined)[] {
  let depth = 0;
  for (const char of part) depth += char === '(' ? 1 : char === ')' ? -1 : 0;
  const closed = ')'.repeat(Math.max(0, depth));
  return ENDINGS.map((ending) => {
    const result = attempt(`${part}${ending}${closed}`, linkType, 65_535, false);
    return typeof result === 'string' ? result : undefined;
  });
}

/** Whether an expression that begins so can be right: libpcap itself does not say where it stopped. */
function mayBegin(part: string, linkType: number): boolean {
  return saidOf(part, linkType).some((message) => message === undefined || !/syntax error/.test(message));
}

/** The first token with which libpcap says this. */
function firstSaid(
  text: string,
  message: string,
  found: readonly Token[],
  linkType: number,
): Token | undefined {
  const deadline = performance.now() + SEARCH_MS;
  return found.find(
    ({ end }) => performance.now() < deadline && saidOf(text.slice(0, end), linkType).includes(message),
  );
}

/** The first token that no expression can go on with; the end when the expression is only not finished. */
function syntaxErrorAt(text: string, found: readonly Token[], linkType: number): Span {
  const end = { start: text.length, end: text.length };
  const deadline = performance.now() + SEARCH_MS;
  if (found.length > MAX_TOKENS) return end;
  // Each longer part of a beginning that cannot be right cannot be right either.
  let low = 0;
  let high = found.length;
  while (low < high && performance.now() < deadline) {
    const middle = (low + high) >> 1;
    if (mayBegin(text.slice(0, found[middle].end), linkType)) low = middle + 1;
    else high = middle;
  }
  return found[high] ?? end;
}

/** The place of what libpcap's message names, if it does. */
function namedIn(message: string, found: readonly Token[]): Token | undefined {
  const quoted = /['"]([^'"]+)['"]/.exec(message)?.[1] ?? /(\d{3,})/.exec(message)?.[1];
  return (
    found.find(({ text }) => text === quoted) ?? found.find(({ text }) => quoted?.startsWith(text) === true)
  );
}

/** Refuses what libpcap would be busy with for long: nothing could interrupt it. */
function limit(text: string, found: readonly Token[], linkType: number, optimize: boolean): void {
  const refuse = (span: Span, why: string): never => {
    throw new FilterError(text, span, why, {
      code: 'FILTER_UNSUPPORTED',
      help: 'use networks and portrange, split it, or give what tcpdump -ddd makes of it to --lang cbpf',
    });
  };
  const beyond = found[MAX_WORDS];
  if (beyond !== undefined) refuse(beyond, `an expression has at most ${MAX_WORDS} words here`);
  if (!optimize || found.length < LONG_WORDS) return;
  const plain = attempt(text, linkType, 65_535, false);
  const count = typeof plain === 'string' ? 0 : plain.length / 8;
  if (count > MAX_UNOPTIMIZED) {
    const what = `${count} instructions are more than libpcap optimises in seconds`;
    refuse({ start: 0, end: text.length }, what);
  }
}

/**
 * A tcpdump expression by libpcap's compiler, for a link type (DLT), returning `snaplen` for a match. FILTER_INVALID with libpcap's
 * words, at the place as far as libpcap lets it be found.
 */
export function compileTcpdump(
  text: string,
  linkType: number,
  snaplen: number,
  optimize: boolean,
): CbpfProgram {
  if (text.length > MAX_TEXT) {
    throw new FilterError(
      text,
      { start: MAX_TEXT, end: MAX_TEXT },
      `an expression has at most ${MAX_TEXT} characters`,
    );
  }
  const nul = text.indexOf('\0');
  if (nul >= 0)
    throw new FilterError(text, { start: nul, end: nul + 1 }, 'an expression has no NUL characters');
  const found = tokens(text, TOKEN);
  limit(text, found, linkType, optimize);
  const result = attempt(text, linkType, snaplen, optimize);
  if (typeof result !== 'string') return decodeCbpf(result);
  if (/^unknown data link type|link-layer type|^no memory|not supported on/.test(result)) {
    throw new SluiceError('FILTER_UNSUPPORTED', `libpcap: ${result}`, {
      help: '--linktype names the link type of the frames; not every expression is possible on each',
    });
  }
  const place = /syntax error/.test(result)
    ? syntaxErrorAt(text, found, linkType)
    : (namedIn(result, found) ?? firstSaid(text, result, found, linkType));
  const message = result
    .replace(/^can't parse filter expression: /, '')
    .replace(/ in filter expression$/, '');
  throw new FilterError(text, place ?? { start: 0, end: text.length }, `libpcap: ${message}`, { help: HELP });
}
