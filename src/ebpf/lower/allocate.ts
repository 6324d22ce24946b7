import type { Register } from '../instruction.ts';
import { type Block, countUses, dominators, type Ir, isConstant, type Node } from '../ir/ir.ts';
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
  const forgotten = new Set<Node>();
  for (;;) {
    const reserved = scratch ?? (spilled.size === 0 ? [] : pool.slice(-2));
    const registers = pool.filter((register) => !reserved.includes(register));
    const attempt = new Attempt(ir, registers, spilled);
    const tooMany = attempt.run();
    if (tooMany.size === 0) {
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
    for (const node of tooMany)
      if (node.op === 'guard' && node.root === undefined && !forgotten.has(node)) {
        forgotten.add(node);
        forget(ir, node);
      } else spilled.add(node);
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
  readonly #victims = new Set<Node>();
  readonly #uses: ReadonlyMap<Node, number>;
  /** Blocks at whose end a value is alive. */
  readonly #alive = new Map<Node, number>();

  constructor(ir: Ir, pool: readonly Register[], spilled: ReadonlySet<Node>) {
    this.#ir = ir;
    this.#pool = pool;
    this.#spilled = spilled;
    this.outs = liveOut(ir);
    this.#uses = countUses(ir);
    for (const out of this.outs.values())
      for (const node of out) this.#alive.set(node, (this.#alive.get(node) ?? 0) + 1);
    for (const { phis } of ir.blocks) {
      for (const phi of phis)
        for (const arg of phi.args) this.#phisOf.set(arg, [...(this.#phisOf.get(arg) ?? []), phi]);
    }
  }

  /** The values that should make room, when there are too many. */
  run(): ReadonlySet<Node> {
    const idom = dominators(this.#ir);
    for (const block of this.#ir.blocks) {
      this.#busy.clear();
      this.#busySlots.clear();
      for (const node of this.#liveIn(block, idom)) this.#occupy(node);
      for (const phi of block.phis) this.#place(phi, []);
      const out = this.outs.get(block) ?? new Set<Node>();
      const used = new Set([...out, ...usesOfEnd(block), ...block.body.flatMap(({ args }) => args)]);
      for (const phi of block.phis) if (!used.has(phi)) this.#release(phi);
      const last = lastUses(block, out);
      for (const [index, node] of block.body.entries()) {
        this.#step(node, last[index]);
        if (!used.has(node)) this.#release(node);
      }
    }
    return this.#victims;
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
  #step(node: Node, last: readonly Node[]): void {
    if (node.op === 'nonzero') {
      for (const arg of last) this.#release(arg);
      return;
    }
    const [a, b] = node.args;
    // dst = a OP b is dst = a; dst OP= b: b has to outlive the first half, unless the two can change places.
    const keeps = node.op === 'alu' && !COMMUTATIVE.has(node.operation) ? b : undefined;
    const early = last.filter((arg) => arg !== keeps);
    for (const arg of early) this.#release(arg);
    const near = [a, b].filter((arg) => arg !== undefined && early.includes(arg));
    this.#place(node, near);
    for (const arg of last) if (arg === keeps) this.#release(arg);
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

  #place(node: Node, near: readonly Node[]): void {
    if (this.#spilled.has(node)) {
      this.#toSlot(node);
      return;
    }
    const phis = this.#phisOf.get(node) ?? [];
    const wanted = [
      this.#hints.get(node),
      ...phis.map((phi) => this.#hints.get(phi)),
      ...(node.op === 'phi' ? node.args : near).map((arg) => this.#registerOf(arg)),
      ...this.#pool,
    ];
    let register = wanted.find(
      (one) => one !== undefined && this.#pool.includes(one) && !this.#busy.has(one),
    );
    if (register === undefined) {
      const victim = this.#victim(node);
      this.#victims.add(victim);
      if (victim === node) return;
      // It goes on without the victim, to find all that there are: the next attempt knows them from the start.
      register = this.#registerOf(victim);
      if (register === undefined) return;
      this.places.delete(victim);
    }
    this.places.set(node, { register });
    this.#busy.set(register, node);
    for (const phi of phis) if (!this.#hints.has(phi)) this.#hints.set(phi, register);
  }

  /** Of all that want a register here, the one that is cheapest to keep elsewhere: alive longest for its uses. */
  #victim(node: Node): Node {
    const candidates = [node, ...this.#busy.values()];
    const ofStart = candidates.find((one) => one.op === 'guard' && one.root === undefined && one !== node);
    if (ofStart !== undefined) return ofStart;
    const cost = (one: Node): number => (this.#uses.get(one) ?? 0) / (1 + (this.#alive.get(one) ?? 0));
    return candidates.reduce((best, one) => (cost(one) < cost(best) ? one : best));
  }
}
