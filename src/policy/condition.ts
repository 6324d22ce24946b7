import { parseBytes, parseDuration } from '../base/units.ts';
import type { Span } from '../filter/problem.ts';
import { type DomainTable, domainTable, hasDomain, parseDomain } from './domain-set.ts';
import { PolicyError } from './error.ts';
import { type CounterField, type FactAddress, FIELDS, type FieldAbout, type FlowFacts } from './fields.ts';
import { type Comparison, type Expression, parseCondition, suggestion, type Word } from './language.ts';
import { hasAddress, type PrefixTable, PrefixTableBuilder, parsePrefix } from './prefix-set.ts';
import { Questions } from './questions.ts';
import type { SignatureTable } from './suricata/table.ts';
import { All, Any, Asked, AtLeast, Below, Fact, Signed } from './terms.ts';
import type { Condition } from './watch.ts';

/** Sets that conditions may name with @. */
export interface PolicySets {
  readonly prefixes: ReadonlyMap<string, PrefixTable>;
  readonly domains: ReadonlyMap<string, DomainTable>;
  readonly words: ReadonlyMap<string, ReadonlySet<string>>;
  readonly signatures: ReadonlyMap<string, SignatureTable>;
}

export const NO_SETS: PolicySets = {
  prefixes: new Map(),
  domains: new Map(),
  words: new Map(),
  signatures: new Map(),
};

/**
 * `negated`: holds when the text does not. `questions`: those of conditions that are asked about the same connections.
 * @throws PolicyError that points into the text
 */
export function compileCondition(
  text: string,
  sets: PolicySets = NO_SETS,
  negated = false,
  questions = new Questions(),
): Condition {
  return new Compiler(text, sets, questions).compile(parseCondition(text), negated);
}

class Compiler {
  readonly #text: string;
  readonly #sets: PolicySets;
  readonly #questions: Questions;

  constructor(text: string, sets: PolicySets, questions: Questions) {
    this.#text = text;
    this.#sets = sets;
    this.#questions = questions;
  }

  /** `not` goes down to the fields, which know when their opposite can become true. */
  compile(expression: Expression, negated: boolean): Condition {
    switch (expression.kind) {
      case 'not':
        return this.compile(expression.term, !negated);
      case 'all':
      case 'any': {
        const terms = expression.terms.map((term) => this.compile(term, negated));
        return (expression.kind === 'all') === negated ? new Any(terms) : new All(terms);
      }
      case 'field':
        return this.#alone(expression.field, negated);
      case 'compare':
        return this.#compare(expression.field, expression.op, expression.value, negated);
      case 'in':
        return this.#in(expression.field, expression.values, negated);
      default:
        return this.#inSet(expression.field, expression.set, negated);
    }
  }

  #fail(span: Span, message: string, help?: string): never {
    throw new PolicyError(this.#text, span, message, help);
  }

  #about(field: Word): FieldAbout {
    const about = FIELDS.get(field.text);
    if (field.quoted) this.#fail(field, 'a field stands without quotes', `write ${field.text}`);
    if (about === undefined) {
      const hint = suggestion(field.text, FIELDS.keys());
      this.#fail(field, `there is no field '${field.text}'`, `${hint}\`sluice policy fields\` lists them`);
    }
    return about;
  }

  #alone(field: Word, negated: boolean): Condition {
    const about = this.#about(field);
    if (about.kind === 'flag') return new Fact(about.change === 'learned', about.of, negated);
    if (about.kind === 'texts') return new Fact(true, (f) => about.of(f).length > 0, negated);
    if (about.kind === 'text' || about.kind === 'domain')
      return new Fact(about.change === 'learned', (f) => about.of(f) !== undefined, negated);
    return this.#fail(field, `'${field.text}' is compared with something`, example(field.text, about));
  }

  #compare(field: Word, op: Comparison, value: Word, negated: boolean): Condition {
    const about = this.#about(field);
    if (about.kind === 'counter') return this.#counter(field, about, op, value, negated);
    if (about.kind === 'flag')
      this.#fail(field, `'${field.text}' is true or false`, `write ${field.text}, or not ${field.text}`);
    if (op !== '==' && op !== '!=') {
      if (about.kind !== 'number') this.#fail(value, `'${field.text}' has no order`, 'use ==, != or in');
      const test = ordered(op, this.#whole(value, about.most));
      return new Fact(false, (f) => about.of.some((of) => test(of(f))), negated);
    }
    return this.#in(field, [value], negated !== (op === '!='), about.kind === 'domain');
  }

  #counter(field: Word, about: CounterField, op: Comparison, value: Word, negated: boolean): Condition {
    if (op === '==' || op === '!=')
      this.#fail(
        value,
        `'${field.text}' grows: it is compared with <, <=, > or >=`,
        example(field.text, about),
      );
    const limit = this.#amount(value, about);
    // What is not integral has no next value: above and at least are the same to within a packet.
    const least = about.unit === 'bytes' || about.unit === 'packets' ? limit + 1 : limit;
    const atLeast = op === '>=' || op === '<';
    const reach = atLeast ? limit : least;
    const below = (op === '<' || op === '<=') !== negated;
    return below ? new Below(about, reach) : new AtLeast(about, reach);
  }

  #amount(value: Word, about: CounterField): number {
    try {
      if (about.unit === 'bytes') return parseBytes(value.text);
      if (about.unit === 'seconds') return parseDuration(value.text);
    } catch (error) {
      this.#fail(value, (error as Error).message, example('', about));
    }
    if (about.unit === 'rate') return this.#rate(value);
    return this.#whole(value);
  }

  /** Bytes per second from bits or bytes per second. */
  #rate(value: Word): number {
    const match = /^(\d{1,12}(?:\.\d{1,6})?)([kMGT]?)(b|B)(?:\/s|ps)$/.exec(value.text);
    if (match === null) this.#fail(value, `'${value.text}' is not a rate`, 'write it like 100Mb/s or 12MB/s');
    const scale = { '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12 }[match[2] as 'k'];
    return (Number(match[1]) * scale) / (match[3] === 'b' ? 8 : 1);
  }

  #whole(value: Word, most = Number.MAX_SAFE_INTEGER): number {
    if (!/^\d{1,15}$/.test(value.text)) this.#fail(value, `'${value.text}' is not a whole number`);
    if (Number(value.text) > most)
      this.#fail(value, `'${value.text}' is more than it can be`, `${most} at most`);
    return Number(value.text);
  }

  #in(field: Word, values: readonly Word[], negated: boolean, exact = false): Condition {
    const about = this.#about(field);
    const learned = about.change === 'learned';
    switch (about.kind) {
      case 'flag':
      case 'counter':
      case 'signature':
        return this.#fail(field, `'${field.text}' is not one of several values`, example(field.text, about));
      case 'number': {
        const ranges = values.map((value) => this.#range(value, about.most));
        const within = (n: number) => ranges.some(([from, to]) => n >= from && n <= to);
        return new Fact(false, (f) => about.of.some((of) => within(of(f))), negated);
      }
      case 'address': {
        const builder = new PrefixTableBuilder();
        for (const value of values) {
          const prefix = parsePrefix(value.text);
          if (prefix === undefined)
            this.#fail(
              value,
              `'${value.text}' is no address or prefix`,
              'write it like 192.0.2.0/24 or 2001:db8::/32',
            );
          builder.add(prefix.bytes, prefix.bits);
        }
        return new Fact(false, addressTest(about.of, builder.build()), negated);
      }
      case 'domain': {
        const names = values.map((value) => this.#domain(value));
        if (exact) return new Fact(learned, (f) => about.of(f)?.toLowerCase() === names[0], negated);
        const table = domainTable([...new Set(names)]);
        return new Fact(learned, domainTest(about.of, table), negated);
      }
      case 'text': {
        const { form } = about;
        const wrong = form && values.find(({ text }) => !form.test.test(text));
        if (wrong !== undefined)
          this.#fail(
            wrong,
            `'${wrong.text}' is nothing that ${field.text} can be`,
            `write it like ${form?.like}`,
          );
        return new Fact(learned, textTest(about.of, this.#texts(values)), negated);
      }
      default: {
        const texts = this.#texts(values);
        const other = values.find(({ text }) => about.rather.has(text));
        if (other !== undefined)
          this.#fail(
            other,
            `no ${field.text} is called '${other.text}'`,
            `write ${about.rather.get(other.text)}`,
          );
        return new Fact(learned, (f) => about.of(f).some((name) => texts.has(name)), negated);
      }
    }
  }

  #texts(values: readonly Word[]): ReadonlySet<string> {
    for (const value of values) if (value.text === '') this.#fail(value, 'a value is empty');
    return new Set(values.map(({ text }) => text));
  }

  #domain(value: Word): string {
    const name = parseDomain(value.text);
    if (name === undefined) this.#fail(value, `'${value.text}' is no domain`, 'write it like example.com');
    return name;
  }

  #range(value: Word, most: number): readonly [number, number] {
    const match = /^(\d{1,10})(?:-(\d{1,10}))?$/.exec(value.text);
    const from = Number(match?.[1]);
    const to = match?.[2] === undefined ? from : Number(match[2]);
    if (match === null || to < from)
      this.#fail(value, `'${value.text}' is no number or range`, 'write it like 443 or 8000-8099');
    if (to > most) this.#fail(value, `'${value.text}' is more than it can be`, `${most} at most`);
    return [from, to];
  }

  #inSet(field: Word, set: Word, negated: boolean): Condition {
    const about = this.#about(field);
    const learned = about.change === 'learned';
    const of = <T>(kind: string, sets: ReadonlyMap<string, T>): T => {
      const found = sets.get(set.text);
      if (found !== undefined) return found;
      const known = [...sets.keys()];
      const hint = suggestion(set.text, known);
      return this.#fail(
        set,
        `there is no set of ${kind} '${set.text}'`,
        `${hint}sets are declared under sets: in the policy file`,
      );
    };
    if (about.kind === 'address') {
      const test = addressTest(about.of, of('prefixes', this.#sets.prefixes));
      return new Asked(false, this.#questions.of(field.text, set.text, test), negated);
    }
    if (about.kind === 'domain') {
      const table = of('domains', this.#sets.domains);
      const test = (f: FlowFacts) => {
        const name = about.of(f);
        return name === undefined ? undefined : hasDomain(table, name);
      };
      return new Asked(learned, this.#questions.of(field.text, set.text, test), negated);
    }
    if (about.kind === 'signature') {
      const names = (buffer: string) => this.#questions.remember(`${field.text} ${buffer}`, set.text);
      const table = of('signatures', this.#sets.signatures);
      return new Signed(table, names('tls.sni'), names('http.host'), negated);
    }
    if (about.kind === 'text')
      return new Fact(learned, textTest(about.of, of('words', this.#sets.words)), negated);
    return this.#fail(field, `'${field.text}' is not looked up in sets`, example(field.text, about));
  }
}

const addressTest =
  (of: readonly ((f: FlowFacts) => FactAddress)[], table: PrefixTable) =>
  (f: FlowFacts): boolean =>
    of.some((address) => {
      const { u8, at, bytes } = address(f);
      return hasAddress(table, u8, at, bytes);
    });

const domainTest =
  (of: (f: FlowFacts) => string | undefined, table: DomainTable) =>
  (f: FlowFacts): boolean => {
    const name = of(f);
    return name !== undefined && hasDomain(table, name);
  };

const textTest =
  (of: (f: FlowFacts) => string | undefined, texts: ReadonlySet<string>) =>
  (f: FlowFacts): boolean => {
    const text = of(f);
    return text !== undefined && texts.has(text);
  };

/** What there is none of (negative) is neither more nor less. */
function ordered(op: Comparison, limit: number): (n: number) => boolean {
  if (op === '<') return (n) => n >= 0 && n < limit;
  if (op === '<=') return (n) => n >= 0 && n <= limit;
  if (op === '>') return (n) => n > limit;
  return (n) => n >= limit;
}

function example(field: string, about: FieldAbout): string {
  if (about.kind === 'flag') return `write ${field}, or not ${field}`;
  if (about.kind === 'signature') return `write ${field} in @SET, a set of Suricata's rules`;
  if (about.kind === 'address') return `write ${field} in 10.0.0.0/8, or ${field} in @SET`;
  if (about.kind !== 'counter') return `write ${field} == VALUE or ${field} in {VALUE, VALUE}`;
  const value = { bytes: '1MB', packets: '100', seconds: '30s', rate: '100Mb/s' }[about.unit];
  return `write ${field || 'it'} >= ${value}`;
}
