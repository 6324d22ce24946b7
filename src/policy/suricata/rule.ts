/** The text of a signature taken apart (Suricata's "Rules Format"); what it means is looked at in signature.ts. */

export interface RuleOption {
  name: string;
  /** As written, without the quotes of the whole; undefined for an option without one. */
  value: string | undefined;
}

export interface RuleText {
  action: string;
  protocol: string;
  source: string;
  sourcePort: string;
  direction: '->' | '<>';
  target: string;
  targetPort: string;
  options: readonly RuleOption[];
}

/** Characters of one rule. */
const MAX_RULE = 65_536;
const HEADER = /^\s*(\w+)\s+([\w.-]+)\s+/;

/** Comments and empty lines have no rule; a backslash at the end of a line joins it with the next. */
export function* ruleLines(text: string): Generator<{ line: number; text: string }> {
  let number = 0;
  let first = 0;
  let held = '';
  for (const line of text.split('\n')) {
    number++;
    if (held === '') first = number;
    const trimmed = line.trim();
    if (trimmed.endsWith('\\')) {
      held += trimmed.slice(0, -1);
      continue;
    }
    const whole = held + trimmed;
    held = '';
    if (whole !== '' && !whole.startsWith('#')) yield { line: first, text: whole };
  }
}

/** A rule, or what is wrong with it. Never throws. */
export function parseRule(text: string): RuleText | string {
  if (text.length > MAX_RULE) return 'it is too long';
  const head = HEADER.exec(text);
  const open = text.indexOf('(');
  if (head === null || open < 0 || !text.trimEnd().endsWith(')')) return 'it is not a rule';
  const fields = words(text.slice(head[0].length, open));
  if (fields.length !== 5) return 'its header does not have addresses and ports on both sides';
  const [source, sourcePort, direction, target, targetPort] = fields;
  if (direction !== '->' && direction !== '<>') return `'${direction}' is no direction`;
  const options = optionsOf(text.slice(open + 1, text.lastIndexOf(')')));
  if (typeof options === 'string') return options;
  return {
    action: head[1],
    protocol: head[2].toLowerCase(),
    source,
    sourcePort,
    direction,
    target,
    targetPort,
    options,
  };
}

/** Words between blanks; a list in brackets is one, blanks in it or not. */
function words(text: string): string[] {
  const found: string[] = [];
  let depth = 0;
  let word = '';
  for (const c of text) {
    if (c === '[') depth++;
    if (c === ']') depth--;
    if (!/\s/.test(c)) word += c;
    else if (depth === 0 && word !== '') {
      found.push(word);
      word = '';
    }
  }
  if (word !== '') found.push(word);
  return found;
}

/** `name; name: value; …`: a semicolon in a value is escaped, or within quotes. */
function optionsOf(text: string): RuleOption[] | string {
  const options: RuleOption[] = [];
  let begin = 0;
  let quoted = false;
  for (let i = 0; i <= text.length; i++) {
    const c = text[i];
    if (c === '\\') {
      i++;
      continue;
    }
    if (c === '"') quoted = !quoted;
    if (c === undefined ? text.slice(begin).trim() === '' : c !== ';' || quoted) {
      if (c === undefined) break;
      continue;
    }
    if (c === undefined) return 'its last option does not end';
    const item = text.slice(begin, i);
    begin = i + 1;
    const colon = item.indexOf(':');
    const name = (colon < 0 ? item : item.slice(0, colon)).trim().toLowerCase();
    if (!/^[\w.-]+$/.test(name)) return `'${item.trim().slice(0, 40)}' is no option`;
    options.push({ name, value: colon < 0 ? undefined : item.slice(colon + 1).trim() });
  }
  return options;
}
