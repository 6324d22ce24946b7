import { Cbpf, type CbpfProgram } from '../../ebpf/index.ts';
import { type Alternative, alternatives, type Pin } from '../analysis/alternatives.ts';
import { answer, question, START, type State, step } from '../analysis/state.ts';
import { evaluate, type Term } from '../analysis/term.ts';

/** Bytes of a header and the bits of them that count. */
export interface Masked {
  readonly value: Uint8Array;
  readonly mask: Uint8Array;
}

/** One kind of packet as a NIC tells them apart: by header fields alone. Undefined: any. */
export interface HeaderMatch {
  readonly etherType: number;
  readonly proto: number | undefined;
  /** 4 bytes, or 16; the mask is a prefix. */
  readonly source: Masked | undefined;
  readonly target: Masked | undefined;
  readonly sport: number | undefined;
  readonly dport: number | undefined;
}

/** Rules of the NIC that one rule may take. */
export const MOST_WAYS = 16;
/** Instructions looked at for one way. */
const STEPS = 4096;

const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const FRAGMENT_OFFSET = 0x1fff;

interface Layout {
  readonly address: number;
  readonly source: number;
  readonly target: number;
  readonly proto: string;
  readonly sport: string;
  readonly dport: string;
}

/** Where the fields are, as terms of untagged frames. IPv6: of packets without extension headers. */
const LAYOUTS: ReadonlyMap<number, Layout> = new Map([
  [
    IPV4,
    {
      address: 4,
      source: 26,
      target: 30,
      proto: 'b[23]',
      sport: 'h[((b[14]&#15)*#4)+14]',
      dport: 'h[((b[14]&#15)*#4)+16]',
    },
  ],
  [IPV6, { address: 16, source: 22, target: 38, proto: 'b[20]', sport: 'h[54]', dport: 'h[56]' }],
]);

/**
 * The packets that an expression matches, as header fields: all of them, and no others of those that are compared; a
 * text that says why not, when it is not equalities of fields alone.
 */
export function headerMatches(program: CbpfProgram): HeaderMatch[] | string {
  const ways = alternatives(program, { alternatives: MOST_WAYS, steps: STEPS * MOST_WAYS });
  if (ways === undefined) return `it has more than ${MOST_WAYS} ways to match`;
  const matches: HeaderMatch[] = [];
  for (const way of ways) {
    const match = headerMatch(way);
    if (typeof match === 'string') return match;
    const rest = leftOver(program, way, match.sport !== undefined || match.dport !== undefined);
    if (rest !== undefined) return rest;
    matches.push(match);
  }
  return matches.length === 0 ? 'it matches nothing' : matches;
}

function headerMatch(way: Alternative): HeaderMatch | string {
  const etherType = way.get('h[12]')?.value;
  if (etherType === undefined) return 'it does not say which EtherType';
  const layout = LAYOUTS.get(etherType);
  let [proto, sport, dport]: (number | undefined)[] = [];
  const source: Pin[] = [];
  const target: Pin[] = [];
  for (const [key, pin] of way) {
    if (key === 'h[12]') continue;
    const field = layout === undefined ? undefined : addressOf(pin.term, layout);
    if (key === layout?.proto) proto = pin.value;
    else if (key === layout?.sport) sport = pin.value;
    else if (key === layout?.dport) dport = pin.value;
    else if (field === 'source') source.push(pin);
    else if (field === 'target') target.push(pin);
    else
      return `with EtherType 0x${etherType.toString(16).padStart(4, '0')} it looks at ${key}, which is no address, protocol or port`;
  }
  if (proto === undefined && (sport ?? dport) !== undefined) return 'it has a port and no protocol';
  const addresses = [source, target].map((pins, i) =>
    layout === undefined ? undefined : masked(pins, i === 0 ? layout.source : layout.target, layout.address),
  );
  if (addresses.includes('none')) return 'it compares an address with bits that are not a prefix';
  const [from, to] = addresses as (Masked | undefined)[];
  return { etherType, proto, source: from, target: to, sport, dport };
}

type Load = Extract<Term, { kind: 'load' }>;

/** A word of the packet, and the bits of it that are looked at. */
function wordOf(term: Term): { field: Load; mask: number } | undefined {
  if (term.kind === 'load') return { field: term, mask: 0xffff_ffff };
  if (term.kind !== 'alu' || term.op !== '&' || term.right.kind !== 'const') return undefined;
  return term.left.kind === 'load' ? { field: term.left, mask: term.right.value } : undefined;
}

function addressOf(term: Term, { source, target, address }: Layout): 'source' | 'target' | undefined {
  const field = wordOf(term)?.field;
  if (field === undefined || field.base !== undefined || field.size !== 4) return undefined;
  const within = (first: number): boolean =>
    field.offset >= first && field.offset < first + address && (field.offset - first) % 4 === 0;
  if (within(source)) return 'source';
  return within(target) ? 'target' : undefined;
}

function masked(pins: readonly Pin[], first: number, bytes: number): Masked | 'none' | undefined {
  if (pins.length === 0) return undefined;
  const value = new Uint8Array(bytes);
  const mask = new Uint8Array(bytes);
  const values = new DataView(value.buffer);
  const masks = new DataView(mask.buffer);
  for (const pin of pins) {
    const word = wordOf(pin.term);
    if (word === undefined) return 'none';
    const at = word.field.offset - first;
    const both = (masks.getUint32(at) & word.mask) >>> 0;
    // No packet has it.
    if (((values.getUint32(at) ^ pin.value) & both) !== 0 || (pin.value & ~word.mask) !== 0) return 'none';
    values.setUint32(at, values.getUint32(at) | pin.value);
    masks.setUint32(at, masks.getUint32(at) | word.mask);
  }
  const bits = [...mask].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return /^1+0*$/.test(bits) ? { value, mask } : 'none';
}

interface Open {
  at: number;
  state: State;
}

/**
 * What an expression asks of packets besides the equalities of one of its ways; undefined: nothing. That it wants no
 * later fragment is none where ports are compared: those have no ports.
 */
function leftOver(program: CbpfProgram, way: Alternative, ports: boolean): string | undefined {
  const known = (key: string): number | undefined => way.get(key)?.value;
  const open: Open[] = [{ at: 0, state: START }];
  let steps = 0;
  for (let here = open.pop(); here !== undefined; here = open.pop()) {
    for (;;) {
      if (++steps > STEPS) return 'it is too long';
      const instruction = program[here.at];
      const { code, jt, jf, k } = instruction;
      if ((code & 0x07) === Cbpf.RET) {
        if (code === Cbpf.RET && k !== 0) break;
        return 'it is more than equalities of header fields';
      }
      if ((code & 0x07) !== Cbpf.JMP) {
        here.state = step(instruction, here.state);
        here.at++;
      } else if ((code & 0xf0) === Cbpf.JA) here.at += 1 + k;
      else {
        const asked = question(instruction, here.state);
        const left = asked.left && evaluate(asked.left, known);
        const right = asked.right && evaluate(asked.right, known);
        if (left !== undefined && right !== undefined)
          here.at += 1 + (answer(asked.operation, left, right) ? jt : jf);
        else if (
          ports &&
          asked.operation === 'bits' &&
          asked.left?.key === 'h[20]' &&
          right === FRAGMENT_OFFSET
        )
          here.at += 1 + jf;
        else {
          open.push({ at: here.at + 1 + jf, state: here.state });
          here.at += 1 + jt;
        }
      }
    }
  }
  return undefined;
}
