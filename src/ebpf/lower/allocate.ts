import type { Register } from '../instruction.ts';
import { type Block, dominators, type Ir, isConstant, type Node } from '../ir/ir.ts';
import { lastUses, liveOut, usesOfEnd } from './liveness.ts';

/** Where a value is: in a register, or in a slot of the stack, 8 bytes each, counted from 0. */
export type Place = { readonly register: Register } | { readonly slot: number };

export interface Allocation {
  readonly places: ReadonlyMap<Node, Place>;
  /** Slots in use. */
  readonly slots: number;
  /** Registers that hold no value: for what is taken from slots. Two when there are slots. */
  readonly scratch: readonly Register[];
  /** Registers of the pool that hold nothing at the end of a block. */
  free(block: Block): Register | undefined;
}

const COMMUTATIVE: ReadonlySet<string> = new Set(['add', 'mul', 'and', 'or', 'xor']);

/**
 * Gives each value a register of the pool, for all its life, the first ones first; what does not fit goes to the stack.
 * Blocks are taken in order, so that whatever dominates a block has its register by then (values in this form never
 * want more registers than live at once).
 */
export function allocate(ir: Ir, pool: readonly Register[], scratch?: readonly Register[]): Allocation {
  const spilled = new Set<Node>();
  for (;;) {
    const reserved = scratch ?? (spilled.size === 0 ? [] : pool.slice(-2));
    const registers = pool.filter((register) => !reserved.includes(register));
    const attempt = new Attempt(ir, registers, spilled);
    const tooMany = attempt.run();
    if (tooMany === undefined) {
      const { places, outs } = attempt;
      return {
        places,
        slots: attempt.slots,
        scratch: reserved,
        free: (block) => {
          const taken = new Set<Register>();
          for (const node of [...(outs.get(block) ?? []), ...phisBehind(block)]) {
            const place = places.get(node);
            if (place !== undefined && 'register' in place) taken.add(place.register);
          }
          return registers.find((register) => !taken.has(register));
        },
      };
    }
    if (tooMany.op === 'guard' && tooMany.root === undefined) forget(ir, tooMany);
    else spilled.add(tooMany);
  }
}

const phisBehind = ({ end }: Block): Node[] => (end.op === 'goto' ? end.to.phis : []);

/** A guard from the start of the packet need not be kept for the next one: that can start there, too. */
function forget(ir: Ir, guard: Node): void {
  for (const { body } of ir.blocks)
    for (const node of body) if (node.op === 'guard' && node.args[0] === guard) node.args = [];
}

class Attempt {
  readonly places = new Map<Node, Place>();
  /** Slots in use, at most. */
  slots = 0;
  readonly outs: Map<Block, Set<Node>>;
  readonly #ir: Ir;
  readonly #pool: readonly Register[];
  readonly #spilled: ReadonlySet<Node>;
  /** Who is in a register, or a slot, where we are. */
  readonly #busy = new Map<Register, Node>();
  readonly #busySlots = new Map<number, Node>();
  /** Phis that a value goes into, and the register that one of their arguments has. */
  readonly #phisOf = new Map<Node, Node[]>();
  readonly #hints = new Map<Node, Register>();

  constructor(ir: Ir, pool: readonly Register[], spilled: ReadonlySet<Node>) {
    this.#ir = ir;
    this.#pool = pool;
    this.#spilled = spilled;
    this.outs = liveOut(ir);
    for (const { phis } of ir.blocks) {
      for (const phi of phis)
        for (const arg of phi.args) this.#phisOf.set(arg, [...(this.#phisOf.get(arg) ?? []), phi]);
    }
  }

  /** The value that should make room, when there are too many. */
  run(): Node | undefined {
    const idom = dominators(this.#ir);
    for (const block of this.#ir.blocks) {
      this.#busy.clear();
      this.#busySlots.clear();
      for (const node of this.#liveIn(block, idom)) this.#occupy(node);
      for (const phi of block.phis) {
        const tooMany = this.#place(phi, []);
        if (tooMany !== undefined) return tooMany;
      }
      const out = this.outs.get(block) ?? new Set<Node>();
      const used = new Set([...out, ...usesOfEnd(block), ...block.body.flatMap(({ args }) => args)]);
      for (const phi of block.phis) if (!used.has(phi)) this.#release(phi);
      const last = lastUses(block, out);
      for (const [index, node] of block.body.entries()) {
        const tooMany = this.#step(node, last[index]);
        if (tooMany !== undefined) return tooMany;
        if (!used.has(node)) this.#release(node);
      }
    }
    return undefined;
  }

  /** What is alive where a block begins: used in it or behind it, and not made in it. */
  #liveIn(block: Block, idom: ReadonlyMap<Block, Block>): Set<Node> {
    const live = new Set(this.outs.get(block));
    for (const node of usesOfEnd(block)) live.add(node);
    for (const node of block.body.toReversed()) {
      live.delete(node);
      for (const arg of node.args) if (!isConstant(arg)) live.add(arg);
    }
    for (const phi of block.phis) live.delete(phi);
    return idom.has(block) ? live : new Set();
  }

  /** Frees what ends here and may share the register of the result, places the result, frees the rest. */
  #step(node: Node, last: readonly Node[]): Node | undefined {
    if (node.op === 'nonzero') {
      for (const arg of last) this.#release(arg);
      return undefined;
    }
    const [a, b] = node.args;
    // dst = a OP b is dst = a; dst OP= b: b has to outlive the first half, unless the two can change places.
    const keeps = node.op === 'alu' && !COMMUTATIVE.has(node.operation) ? b : undefined;
    const early = last.filter((arg) => arg !== keeps);
    for (const arg of early) this.#release(arg);
    const near = [a, b].filter((arg) => arg !== undefined && early.includes(arg));
    const tooMany = this.#place(node, near);
    for (const arg of last) if (arg === keeps) this.#release(arg);
    return tooMany;
  }

  #registerOf(node: Node): Register | undefined {
    const place = this.places.get(node);
    return place !== undefined && 'register' in place ? place.register : undefined;
  }

  #occupy(node: Node): void {
    const place = this.places.get(node);
    if (place === undefined) return;
    if ('register' in place) this.#busy.set(place.register, node);
    else this.#busySlots.set(place.slot, node);
  }

  #release(node: Node): void {
    const place = this.places.get(node);
    if (place === undefined) return;
    if ('slot' in place) {
      if (this.#busySlots.get(place.slot) === node) this.#busySlots.delete(place.slot);
    } else if (this.#busy.get(place.register) === node) this.#busy.delete(place.register);
  }

  #toSlot(node: Node): void {
    let slot = 0;
    while (this.#busySlots.has(slot)) slot++;
    this.places.set(node, { slot });
    this.#busySlots.set(slot, node);
    this.slots = Math.max(this.slots, slot + 1);
  }

  #place(node: Node, near: readonly Node[]): Node | undefined {
    if (this.#spilled.has(node)) {
      this.#toSlot(node);
      return undefined;
    }
    const phis = this.#phisOf.get(node) ?? [];
    const wanted = [
      this.#hints.get(node),
      ...phis.map((phi) => this.#hints.get(phi)),
      ...(node.op === 'phi' ? node.args : near).map((arg) => this.#registerOf(arg)),
      ...this.#pool,
    ];
    const register = wanted.find(
      (one) => one !== undefined && this.#pool.includes(one) && !this.#busy.has(one),
    );
    if (register === undefined) return this.#victim(node);
    this.places.set(node, { register });
    this.#busy.set(register, node);
    for (const phi of phis) if (!this.#hints.has(phi)) this.#hints.set(phi, register);
    return undefined;
  }

  /** Of all that want a register here, the one that is cheapest to keep elsewhere: alive longest for its uses. */
  #victim(node: Node): Node {
    const candidates = [node, ...this.#busy.values()];
    const ofStart = candidates.find((one) => one.op === 'guard' && one.root === undefined && one !== node);
    if (ofStart !== undefined) return ofStart;
    const cost = (one: Node): number => {
      let uses = 1;
      let blocks = 1;
      for (const block of this.#ir.blocks) {
        if (this.outs.get(block)?.has(one) === true) blocks++;
        for (const { args } of block.body) if (args.includes(one)) uses++;
      }
      return uses / blocks;
    };
    return candidates.toSorted((x, y) => cost(x) - cost(y))[0];
  }
}
