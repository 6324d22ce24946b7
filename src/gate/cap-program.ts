import {
  alu32,
  alu64,
  assemble,
  type CbpfProgram,
  call,
  compileFragment,
  constant,
  EXIT,
  encode,
  Helper,
  type Item,
  jump,
  jumpTo,
  label,
  load,
  load64,
  Pseudo,
  plain,
  type Register,
  register,
  store,
  storeConstant,
  wide,
} from '../ebpf/index.ts';
import { SlCapCount } from './cap-layout.gen.ts';
import { STAGES } from './cap-slots.ts';

const CTX: Register = 6;
const LENGTH: Register = 7;
const DATA: Register = 2;
const DATA_END: Register = 3;
const FREE: readonly Register[] = [0, 4, 1, 5, 8, 9];
/** Bytes of stack: the key of a look-up. */
const STACK = 8;
const PASS = 2;

/** Descriptors of the maps that the programs of one action of one hook name. */
export interface CaptureMaps {
  readonly stages: number;
  readonly counts: number;
  /** The slot behind a gate: what its packets go on to. Undefined for other hooks. */
  readonly next: number | undefined;
}

function tailCall(map: number, slot: number): Item[] {
  return [
    plain(alu64('mov', 1, register(CTX))),
    wide(load64(2, map, 0, Pseudo.MAP_FD)),
    plain(alu32('mov', 3, constant(slot))),
    plain(call(Helper.tail_call)),
  ];
}

/** On as without a capture. */
function goOn(action: number, next: number | undefined): Item[] {
  return [
    ...(action === PASS && next !== undefined ? tailCall(next, 0) : []),
    plain(alu32('mov', 0, constant(action))),
    plain(EXIT),
  ];
}

/** What stands in the slot of a hook: goes on to the filter for as long as there is one. */
export function entryProgram(action: number, stages: number, next: number | undefined): Uint8Array {
  return encode(
    assemble([
      plain(alu64('mov', CTX, register(1))),
      ...tailCall(stages, STAGES.filter + action),
      ...goOn(action, next),
    ]),
  );
}

/** Counts the packet as seen; what matches goes on to be captured. Without a filter everything does. */
export function filterProgram(
  filter: CbpfProgram | undefined,
  action: number,
  maps: CaptureMaps,
): Uint8Array {
  const { seen } = SlCapCount.members;
  const head: Item[] = [
    plain(alu64('mov', CTX, register(1))),
    plain(storeConstant(4, 10, -4, action)),
    plain(alu64('mov', 2, register(10))),
    plain(alu64('add', 2, constant(-4))),
    wide(load64(1, maps.counts, 0, Pseudo.MAP_FD)),
    plain(call(Helper.map_lookup_elem)),
    jumpTo(jump('eq', 0, constant(0), 64), 'onward'),
    plain(load(8, 1, 0, seen)),
    plain(alu64('add', 1, constant(1))),
    plain(store(8, 0, seen, 1)),
  ];
  const match = [label('match'), ...tailCall(maps.stages, STAGES.act + action)];
  const tail = [label('onward'), ...goOn(action, maps.next)];
  if (filter === undefined) return encode(assemble([...head, ...match, ...tail]));
  const { code } = compileFragment(filter, {
    registers: { data: DATA, dataEnd: DATA_END, ctx: CTX, length: LENGTH, free: FREE },
    match: 'match',
    noMatch: 'onward',
    next: 'match',
    prefix: 'f',
    stack: STACK,
    frags: true,
  });
  return encode(
    assemble([
      ...head,
      plain(alu64('mov', 1, register(CTX))),
      plain(call(Helper.xdp_get_buff_len)),
      plain(alu32('mov', LENGTH, register(0))),
      plain(load(4, DATA, CTX, 0)),
      plain(load(4, DATA_END, CTX, 4)),
      ...code,
      ...match,
      ...tail,
    ]),
  );
}
