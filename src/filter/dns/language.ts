import { FilterError, tokens } from '../problem.ts';
import { type NamePattern, parseName } from './pattern.ts';

/** What a filter on DNS queries looks for: what matches any of these. */
export interface DnsFilter {
  names: NamePattern[];
  /** Queries that are sane. */
  valid: boolean;
  /** Datagrams to the port of DNS that are no sane query. */
  invalid: boolean;
}

const NAMES = 256;
const SEPARATED = /(?:\\[^]|[^\s,\\])+/g;

/** `sluice filter --lang dns`: names with wildcards, and the words `valid` and `invalid`. FILTER_INVALID at the place. */
export function parseDns(text: string): DnsFilter {
  const filter: DnsFilter = { names: [], valid: false, invalid: false };
  const found = tokens(text, SEPARATED);
  for (const token of found) {
    if (token.text === 'or') continue;
    if (token.text === 'valid') filter.valid = true;
    else if (token.text === 'invalid') filter.invalid = true;
    else filter.names.push(parseName(token, text));
  }
  if (filter.names.length === 0 && !filter.valid && !filter.invalid) {
    throw new FilterError(text, { start: text.length, end: text.length }, 'a name is missing', {
      help: "such as 'example.com *.example.com', or the words valid and invalid",
    });
  }
  limit(text, filter.names);
  return filter;
}

/** `sluice filter --lang suffix`: domains, each with all names below it. FILTER_INVALID at the place. */
export function parseSuffix(text: string): DnsFilter {
  const found = tokens(text, SEPARATED).filter((token) => token.text !== 'or');
  const names = found.map((token) => {
    const name = parseName(token, text);
    if (name.openStart || name.openEnd) {
      throw new FilterError(text, token, 'a domain stands for itself and all names below it, without **', {
        help: '--lang dns knows ** and names that are matched exactly',
      });
    }
    return { ...name, openStart: true };
  });
  if (names.length === 0) {
    throw new FilterError(text, { start: text.length, end: text.length }, 'a domain is missing', {
      help: "such as 'example.com example.org'",
    });
  }
  limit(text, names);
  return { names, valid: false, invalid: false };
}

function limit(text: string, names: readonly NamePattern[]): void {
  const beyond = names[NAMES];
  if (beyond !== undefined)
    throw new FilterError(text, beyond.span, `a filter has at most ${NAMES} names`, {
      code: 'FILTER_UNSUPPORTED',
    });
}
