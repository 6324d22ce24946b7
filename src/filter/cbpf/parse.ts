import { SluiceError } from '../../base/errors.ts';
import {
  CBPF_MAX,
  type CbpfInstruction,
  type CbpfProgram,
  decodeCbpf,
  validateCbpf,
} from '../../ebpf/index.ts';
import { FilterError, type Span, type Token, tokens } from '../problem.ts';

/** Longest text: 4,096 instructions with room for comments. */
const MAX_TEXT = 1 << 20;
/** What `code`, `jt`, `jf` and `k` hold. */
const LIMITS = [0xffff, 0xff, 0xff, 0xffffffff] as const;
const NAMES = ['the code', 'jt', 'jf', 'k'] as const;
const FORMS =
  'what tcpdump -ddd or tcpdump -dd prints, one line N,code jt jf k,… as iptables takes it, or 16 hexadecimal digits for each instruction';

/** An instruction, with its place in the text. */
interface Placed {
  instruction: CbpfInstruction;
  span: Span;
}

const shown = (text: string) => JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);

function number(text: string, token: Token, field: number): number {
  if (!/^(?:\d{1,10}|0x[0-9a-f]{1,8})$/i.test(token.text)) {
    throw new FilterError(text, token, `${NAMES[field]} is a number, not ${shown(token.text)}`, {
      help: FORMS,
    });
  }
  const value = Number(token.text);
  if (value > LIMITS[field])
    throw new FilterError(text, token, `${NAMES[field]} is at most ${LIMITS[field]}`);
  return value;
}

function instruction(text: string, fields: readonly Token[]): Placed {
  const [code, jt, jf, k] = fields.map((token, field) => number(text, token, field));
  return { instruction: { code, jt, jf, k }, span: { start: fields[0].start, end: fields[3].end } };
}

/** Groups of four numbers behind their count, as of tcpdump -ddd; commas count as blanks. */
function fromNumbers(text: string, found: readonly Token[]): Placed[] {
  const [count, ...fields] = found;
  if (!/^\d{1,5}$/.test(count.text))
    throw new FilterError(text, count, `${shown(count.text)} is not the number of instructions`, {
      help: FORMS,
    });
  const placed: Placed[] = [];
  for (let at = 0; at < fields.length; at += 4) {
    const group = fields.slice(at, at + 4);
    if (placed.length === Number(count.text)) {
      throw new FilterError(
        text,
        group[0],
        `more than the ${count.text} instructions that the first number says`,
      );
    }
    if (group.length < 4) {
      for (const [field, token] of group.entries()) number(text, token, field);
      throw new FilterError(
        text,
        { start: text.length, end: text.length },
        `${NAMES[group.length]} is missing`,
      );
    }
    placed.push(instruction(text, group));
  }
  if (placed.length !== Number(count.text)) {
    throw new FilterError(text, count, `${count.text} instructions are announced, ${placed.length} follow`);
  }
  return placed;
}

/** `{ 0x28, 0, 0, 0x0000000c },` and so on, as of tcpdump -dd. */
function fromArray(text: string): Placed[] {
  const placed: Placed[] = [];
  const signs = tokens(text, /[{},]|[^\s{},]+/g);
  const help = { help: FORMS };
  for (let at = 0; at < signs.length; ) {
    const group = signs.slice(at, at + 9);
    for (const [index, sign] of group.entries()) {
      const expected = index === 0 ? '{' : index === 8 ? '}' : index % 2 === 0 ? ',' : undefined;
      const punctuation = /^[{},]$/.test(sign.text);
      if (expected === undefined ? punctuation : sign.text !== expected) {
        const what =
          expected === undefined ? `${NAMES[(index - 1) / 2]} is missing` : `${expected} is missing`;
        throw new FilterError(text, sign, what, help);
      }
    }
    if (group.length < 9)
      throw new FilterError(
        text,
        { start: text.length, end: text.length },
        'the last instruction is cut off',
        help,
      );
    placed.push(instruction(text, [group[1], group[3], group[5], group[7]]));
    at += 9;
    if (at < signs.length && signs[at].text === ',') at++;
  }
  return placed;
}

const blank = (part: string) => part.replace(/[^\n]/g, ' ');

/** The array within a declaration of C (what --emit c writes), everything else as blanks: places stay what they are. */
function arrayOnly(text: string): string {
  const plain = text.replace(/\/\*[^]*?\*\/|\/\/[^\n]*/g, blank);
  const declared = /^[^{}]*=\s*\{/.exec(plain);
  if (declared === null) return plain;
  const end = plain.indexOf(';', declared[0].length);
  const close = plain.lastIndexOf('}', end < 0 ? plain.length : end);
  if (close < declared[0].length) return plain;
  return `${blank(declared[0])}${plain.slice(declared[0].length, close)}`;
}

/** struct sock_filter in hexadecimal, as it lies in the memory of a little-endian machine. */
function fromHex(text: string): Placed[] {
  const found = tokens(text, /(?:[0-9a-f]\s*){16}/gi);
  return found.map((token) => {
    const bytes = Uint8Array.from(Buffer.from(token.text.replace(/\s/g, ''), 'hex'));
    const [decoded] = decodeCbpf(bytes);
    return { instruction: decoded, span: token };
  });
}

function isHex(text: string, found: readonly Token[]): boolean {
  const digits = text.replace(/\s/g, '');
  return /^[0-9a-f]+$/i.test(digits) && digits.length % 16 === 0 && found[0].text.length > 5;
}

/**
 * Classic BPF as text: what `tcpdump -ddd` prints, what `tcpdump -dd` prints, one line as of iptables and bpftools, plain
 * hexadecimal. FILTER_INVALID at the place for what is no valid program.
 */
export function parseCbpf(text: string): CbpfProgram {
  if (text.length > MAX_TEXT)
    throw new FilterError(
      text,
      { start: MAX_TEXT, end: MAX_TEXT },
      'this is too long for a classic BPF program',
    );
  const found = tokens(text, /[^\s,]+/g);
  if (found.length === 0)
    throw new FilterError(text, { start: text.length, end: text.length }, 'a program is missing', {
      help: FORMS,
    });
  let placed: Placed[];
  if (text.includes('{')) placed = fromArray(arrayOnly(text));
  else if (isHex(text, found)) placed = fromHex(text);
  else placed = fromNumbers(text, found);
  const program = placed.map((each) => each.instruction);
  const beyond = placed[CBPF_MAX];
  if (beyond !== undefined)
    throw new FilterError(text, beyond.span, `a program has at most ${CBPF_MAX} instructions`);
  try {
    validateCbpf(program);
  } catch (error) {
    // Shown in the text instead of by number only.
    if (!(error instanceof SluiceError)) throw error;
    const at = /^instruction (\d+) /.exec(error.message)?.[1];
    const span = placed[Number(at)]?.span ?? { start: 0, end: text.length };
    throw new FilterError(text, span, error.message);
  }
  return program;
}
