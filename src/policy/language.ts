import { nearest } from '../base/suggest.ts';
import type { Span } from '../filter/problem.ts';
import { PolicyError } from './error.ts';

/** The syntax of conditions. What names and values mean is looked at in condition.ts. */

export interface Word extends Span {
  text: string;
  /** Was written in quotes: never a keyword. */
  quoted: boolean;
}

export type Comparison = '==' | '!=' | '<' | '<=' | '>' | '>=';

export type Expression =
  | { kind: 'all' | 'any'; terms: readonly Expression[]; span: Span }
  | { kind: 'not'; term: Expression; span: Span }
  /** A field that stands alone. */
  | { kind: 'field'; field: Word; span: Span }
  | { kind: 'compare'; field: Word; op: Comparison; value: Word; span: Span }
  | { kind: 'in'; field: Word; values: readonly Word[]; span: Span }
  /** A set that was named elsewhere. */
  | { kind: 'inSet'; field: Word; set: Word; span: Span };

export const LIMITS = {
  /** Characters of a condition. */
  text: 65_536,
  /** Parentheses and `not` within each other. */
  depth: 100,
} as const;

type Token = (Word & { kind: 'word' }) | (Span & { kind: 'sign' | 'end'; text: string });

const SIGNS = ['==', '!=', '<=', '>=', '&&', '||', '<', '>', '(', ')', '{', '}', ',', '@', '!', '='];
/** All that names, numbers with units, addresses, prefixes, ranges and domains are made of. */
const WORD = /[\w.:/*+-]/;
const KEYWORDS = new Set(['and', 'or', 'not', 'in']);
const COMPARISONS: ReadonlySet<string> = new Set(['==', '!=', '<', '<=', '>', '>=']);

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const c = text[at];
    if (/\s/.test(c)) {
      at++;
      continue;
    }
    if (c === '#') {
      const end = text.indexOf('\n', at);
      at = end < 0 ? text.length : end;
      continue;
    }
    if (c === '"' || c === "'") {
      const end = text.indexOf(c, at + 1);
      if (end < 0) throw new PolicyError(text, { start: at, end: text.length }, 'the quote does not end');
      tokens.push({ kind: 'word', text: text.slice(at + 1, end), quoted: true, start: at, end: end + 1 });
      at = end + 1;
      continue;
    }
    if (WORD.test(c)) {
      let end = at + 1;
      while (end < text.length && WORD.test(text[end])) end++;
      tokens.push({ kind: 'word', text: text.slice(at, end), quoted: false, start: at, end });
      at = end;
      continue;
    }
    const sign = SIGNS.find((s) => text.startsWith(s, at));
    if (sign === undefined)
      throw new PolicyError(
        text,
        { start: at, end: at + 1 },
        `'${c}' is not part of the language`,
        c === '&' ? 'write and' : c === '|' ? 'write or' : 'quote names and values with such characters',
      );
    tokens.push({ kind: 'sign', text: sign, start: at, end: at + sign.length });
    at += sign.length;
  }
  tokens.push({ kind: 'end', text: '', start: text.length, end: text.length });
  return tokens;
}

class Parser {
  readonly #text: string;
  readonly #tokens: Token[];
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = tokensOf(text);
  }

  whole(): Expression {
    const expression = this.#any();
    const rest = this.#peek();
    if (rest.kind !== 'end')
      this.#fail(rest, `'${rest.text}' does not follow here`, 'join terms by and, or; group them with ( )');
    return expression;
  }

  #peek(): Token {
    return this.#tokens[this.#at];
  }

  #next(): Token {
    const token = this.#tokens[this.#at];
    if (token.kind !== 'end') this.#at++;
    return token;
  }

  #fail(span: Span, message: string, help?: string): never {
    throw new PolicyError(this.#text, span, message, help);
  }

  /** Takes the next token if it is one of these keywords or signs. */
  #take(...texts: readonly string[]): boolean {
    const token = this.#peek();
    if (token.kind === 'end' || (token.kind === 'word' && token.quoted)) return false;
    const text = token.kind === 'word' ? token.text.toLowerCase() : token.text;
    if (!texts.includes(text)) return false;
    this.#at++;
    return true;
  }

  #any(): Expression {
    return this.#joined('any', ['or', '||'], () => this.#joined('all', ['and', '&&'], () => this.#not()));
  }

  #joined(kind: 'all' | 'any', signs: readonly string[], part: () => Expression): Expression {
    const first = part();
    const terms = [first];
    while (this.#take(...signs)) terms.push(part());
    if (terms.length === 1) return first;
    return { kind, terms, span: { start: first.span.start, end: terms[terms.length - 1].span.end } };
  }

  #not(): Expression {
    const { start } = this.#peek();
    if (++this.#depth > LIMITS.depth) this.#fail(this.#peek(), `more than ${LIMITS.depth} levels`);
    let expression: Expression;
    if (this.#take('not', '!')) {
      const term = this.#not();
      expression = { kind: 'not', term, span: { start, end: term.span.end } };
    } else if (this.#take('(')) {
      expression = this.#any();
      if (!this.#take(')')) this.#fail(this.#peek(), "a ')' is missing");
    } else expression = this.#term();
    this.#depth--;
    return expression;
  }

  #term(): Expression {
    const field = this.#word('a field');
    const { start } = field;
    const token = this.#peek();
    if (token.kind === 'sign' && COMPARISONS.has(token.text)) {
      this.#next();
      const value = this.#word('a value');
      const op = token.text as Comparison;
      return { kind: 'compare', field, op, value, span: { start, end: value.end } };
    }
    if (token.kind === 'sign' && token.text === '=')
      this.#fail(token, "'=' is not an operator", 'write ==, <= or >=');
    if (this.#take('not')) {
      if (!this.#take('in')) this.#fail(this.#peek(), "'in' is missing", 'write FIELD not in {A, B}');
      const term = this.#in(field);
      return { kind: 'not', term, span: term.span };
    }
    if (this.#take('in')) return this.#in(field);
    return { kind: 'field', field, span: { start, end: field.end } };
  }

  #in(field: Word): Expression {
    const { start } = field;
    if (this.#take('@')) {
      const set = this.#word('the name of a set');
      return { kind: 'inSet', field, set, span: { start, end: set.end } };
    }
    if (!this.#take('{')) {
      const value = this.#word('a value');
      return { kind: 'in', field, values: [value], span: { start, end: value.end } };
    }
    const values: Word[] = [];
    while (!this.#take('}')) {
      values.push(this.#word('a value'));
      if (this.#take(',')) continue;
      if (!this.#take('}')) this.#fail(this.#peek(), "',' or '}' is missing");
      break;
    }
    const { end } = this.#tokens[this.#at - 1];
    if (values.length === 0) this.#fail({ start, end }, 'nothing is in { }');
    return { kind: 'in', field, values, span: { start, end } };
  }

  #word(what: string): Word {
    const token = this.#peek();
    if (token.kind !== 'word' || (!token.quoted && KEYWORDS.has(token.text.toLowerCase()))) {
      const found = token.kind === 'end' ? 'the end' : `'${token.text}'`;
      this.#fail(token, `${what} is missing before ${found}`);
    }
    this.#at++;
    return token;
  }
}

/** @throws PolicyError that points into the text */
export function parseCondition(text: string): Expression {
  if (text.length > LIMITS.text)
    throw new PolicyError(
      text,
      { start: LIMITS.text, end: LIMITS.text },
      'the condition is too long',
      `it may have ${LIMITS.text} characters; put long lists into sets`,
    );
  if (text.trim() === '') throw new PolicyError(text, { start: 0, end: 0 }, 'the condition is empty');
  return new Parser(text).whole();
}

/** What a mistyped name most likely meant, as help. */
export function suggestion(word: string, known: Iterable<string>): string {
  const near = nearest(word, known);
  return near === undefined ? '' : `did you mean '${near}'? `;
}
