import { type Item, jumpTo, label, plain } from '../assembler.ts';
import {
  alu32,
  alu64,
  call,
  constant,
  Helper,
  type Instruction,
  jump,
  load,
  neg32,
  type Operand,
  type Register,
  register,
  store,
  toBigEndian,
} from '../instruction.ts';
import { type Alu, type Block, countUses, type Guard, type Ir, type Load, type Node } from '../ir/ir.ts';
import { Ranges } from '../ir/ranges.ts';
import type { Allocation } from './allocate.ts';
import { type Location, type Move, parallelMoves } from './moves.ts';

/** What a filter is lowered into. */
export interface Target {
  readonly data: Register;
  readonly dataEnd: Register;
  readonly ctx: Register | undefined;
  readonly length: Register | undefined;
  readonly value: Register | undefined;
  readonly match: string;
  readonly noMatch: string;
  /** Where a guard of direct access goes. */
  readonly outOfBounds: string;
  readonly prefix: string;
  /** Bytes of stack that are taken, a multiple of 8. */
  readonly stack: number;
  readonly packetOffset: number;
}

const FRAME: Register = 10;
/** Constants that may be added to a pointer are below (BPF_MAX_VAR_OFF). */
const SANE = 2 ** 29;
/** Of struct xdp_md. */
const INGRESS_IFINDEX = 12;

/** Instructions of a block, without its end. */
export class Emitter {
  readonly #ir: Ir;
  readonly #allocation: Allocation;
  readonly #target: Target;
  readonly #ranges = new Ranges(true);
  readonly #uses: ReadonlyMap<Node, number>;
  #code: Item[] = [];

  constructor(ir: Ir, allocation: Allocation, target: Target) {
    this.#ir = ir;
    this.#allocation = allocation;
    this.#target = target;
    this.#uses = countUses(ir);
  }

  /** Bytes of stack in use: slots, one to open circles of moves, one for what calls load. */
  get stack(): number {
    return this.#target.stack + 8 * (this.#allocation.slots + 2);
  }

  body(block: Block): Item[] {
    this.#code = [];
    for (const node of block.body) this.#node(node);
    return this.#code;
  }

  /** The moves of the edge from `block` to the one behind it. */
  moves(block: Block): Item[] {
    if (block.end.op !== 'goto') return [];
    const { to } = block.end;
    const at = to.preds.indexOf(block);
    const moves = to.phis.map((phi): Move => {
      const from = phi.args[at];
      return {
        from: this.#location(from),
        to: this.#location(phi),
        unlinked: (this.#uses.get(from) ?? 0) > 1,
      };
    });
    const free = this.#allocation.free(block);
    const spare: Location = free === undefined ? { stack: -this.stack + 8 } : { register: free };
    const [scratch = free ?? 0] = this.#allocation.scratch;
    return parallelMoves(moves, spare, scratch).map(plain);
  }

  /** A value as an operand where a block ends; `code` gets what brings it into a register. */
  operand(node: Node, code: Item[], scratch: 0 | 1): Operand {
    if (node.op === 'constant') return constant(node.value);
    this.#code = code;
    return register(this.#use(node, scratch));
  }

  #add(...instructions: readonly Instruction[]): void {
    this.#code.push(...instructions.map(plain));
  }

  #slot(slot: number): number {
    return -this.#target.stack - 8 * (slot + 1);
  }

  #location(node: Node): Location {
    if (node.op === 'constant') return { constant: node.value };
    const place = this.#allocation.places.get(node);
    if (place === undefined) return { constant: 0 };
    return 'register' in place ? place : { stack: this.#slot(place.slot) };
  }

  /** The register that a value is in, or is brought into. */
  #use(node: Node, scratch: 0 | 1): Register {
    const location = this.#location(node);
    if ('register' in location) return location.register;
    const to = this.#allocation.scratch[scratch];
    if ('stack' in location) this.#add(load(8, to, FRAME, location.stack));
    return to;
  }

  /** The register that a value is made in; `#done` brings it to where it belongs. */
  #make(node: Node): Register {
    const location = this.#location(node);
    return 'register' in location ? location.register : (this.#allocation.scratch[0] ?? 0);
  }

  #done(node: Node, made: Register): void {
    const location = this.#location(node);
    if ('stack' in location) this.#add(store(8, FRAME, location.stack, made));
  }

  /** Brings a value into a register that is about to be changed. */
  #copy(to: Register, from: Node, bits: 32 | 64 = 32): void {
    const location = this.#location(from);
    const mov = bits === 32 ? alu32 : alu64;
    if ('stack' in location) this.#add(load(8, to, FRAME, location.stack));
    else if ('constant' in location) this.#add(mov('mov', to, constant(location.constant)));
    else if (location.register !== to) this.#add(mov('mov', to, register(location.register)));
  }

  #node(node: Node): void {
    const { length, data, dataEnd, ctx, noMatch } = this.#target;
    if (node.op === 'nonzero') {
      this.#code.push(jumpTo(jump('eq', this.#use(node.args[0], 0), constant(0)), noMatch));
      return;
    }
    const to = this.#make(node);
    switch (node.op) {
      case 'alu':
        this.#alu(node, to);
        break;
      case 'swap':
        this.#copy(to, node.args[0]);
        this.#add(toBigEndian(to, node.size === 2 ? 16 : 32));
        break;
      case 'materialized':
        this.#copy(to, node.args[0]);
        break;
      case 'load':
        if (node.byCall) this.#fetch(node, to);
        else this.#load(node, to);
        break;
      case 'guard':
        this.#guard(node, to);
        break;
      case 'length':
        if (length === undefined)
          this.#add(alu64('mov', to, register(dataEnd)), alu64('sub', to, register(data)));
        else this.#add(alu32('mov', to, register(length)));
        break;
      case 'interface':
        this.#add(load(4, to, ctx ?? 1, INGRESS_IFINDEX));
        break;
      default:
    }
    this.#done(node, to);
  }

  #alu(node: Alu, to: Register): void {
    const { operation } = node;
    let [a, b] = node.args;
    if (operation === 'sub' && a.op === 'constant' && a.value === 0) {
      this.#copy(to, b);
      this.#add(neg32(to));
      return;
    }
    const shared = this.#location(b);
    // Only where the order of the two does not matter are they given the same register.
    if ('register' in shared && shared.register === to) [a, b] = [b, a];
    if ((operation === 'add' || operation === 'sub') && b.op === 'constant') {
      this.#addConstant(to, a, operation === 'add' ? b.value : -b.value);
      return;
    }
    const operand = b.op === 'constant' ? constant(b.value) : register(this.#use(b, 1));
    this.#copy(to, a);
    this.#add(alu32(operation, to, operand));
    if (
      (operation === 'lsh' || operation === 'rsh') &&
      'register' in operand &&
      this.#ranges.of(b).max > 31
    ) {
      // The machine shifts by the lowest five bits of it; a classic program has nothing left after 32.
      const short = `${this.#target.prefix}v${node.id}`;
      this.#code.push(jumpTo(jump('lt', operand.register, constant(32)), short));
      this.#add(alu32('mov', to, constant(0)));
      this.#code.push(label(short));
    }
  }

  /**
   * The verifier links a sum of a copy and a constant with the original (sync_linked_regs), and then knows less of both,
   * or finds the constant too large for a pointer (check_reg_sane_offset). So no copy is added to, and what is added in
   * place is freed of a link when the constant is large.
   */
  #addConstant(to: Register, a: Node, value: number): void {
    const location = this.#location(a);
    if ('register' in location && location.register === to) {
      this.#add(alu32('add', to, constant(value)));
      if (Math.abs(value | 0) >= SANE) this.#add(alu32('and', to, constant(-1)));
    } else {
      const from = a.op === 'constant' ? constant(a.value) : register(this.#use(a, 1));
      this.#add(alu32('mov', to, constant(value)), alu32('add', to, from));
    }
  }

  #load({ args: [guard], offset, size }: Load, to: Register): void {
    const { data } = this.#target;
    if (guard?.op !== 'guard') this.#add(load(size, to, data, offset));
    else this.#add(load(size, to, this.#use(guard, 1), offset - guard.end));
  }

  #guard(node: Guard, to: Register): void {
    const { data, dataEnd, outOfBounds } = this.#target;
    const [from] = node.args;
    if (from?.op === 'guard') {
      this.#copy(to, from, 64);
      this.#add(alu64('add', to, constant(node.end - from.end)));
    } else if (from === undefined) {
      this.#add(alu64('mov', to, register(data)), alu64('add', to, constant(node.end)));
    } else {
      this.#copy(to, from, 64);
      const most = this.#ir.reach - node.end;
      // The verifier wants to know how far an address can be at most (find_good_pkt_pointers).
      if (this.#ranges.of(from).max > most)
        this.#code.push(jumpTo(jump('gt', to, constant(most), 64), outOfBounds));
      this.#add(alu64('add', to, register(data)), alu64('add', to, constant(node.end)));
    }
    this.#code.push(jumpTo(jump('gt', to, register(dataEnd), 64), outOfBounds));
  }

  /** By bpf_xdp_load_bytes, which reads all buffers of a frame. */
  #fetch({ args: [root], offset, size }: Load, to: Register): void {
    const { ctx = 1, noMatch, packetOffset } = this.#target;
    const buffer = -this.stack;
    if (root === undefined) this.#add(alu32('mov', 2, constant(offset + packetOffset)));
    else {
      this.#copy(2, root, 64);
      const most = this.#ir.reach - offset - size;
      if (this.#ranges.of(root).max > most)
        this.#code.push(jumpTo(jump('gt', 2, constant(most), 64), noMatch));
      this.#add(alu64('add', 2, constant(offset + packetOffset)));
    }
    this.#add(
      alu64('mov', 1, register(ctx)),
      alu64('mov', 3, register(FRAME)),
      alu64('add', 3, constant(buffer)),
      alu32('mov', 4, constant(size)),
      call(Helper.xdp_load_bytes),
    );
    this.#code.push(jumpTo(jump('ne', 0, constant(0), 64), noMatch));
    this.#add(load(size, to, FRAME, buffer));
  }
}
