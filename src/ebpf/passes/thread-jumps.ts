import {
  type Block,
  type Branch,
  compare,
  constantNode,
  countUses,
  dominators,
  dropUnreachable,
  endWithReturn,
  type Ir,
  isConstant,
  type Node,
  successors,
} from '../ir/ir.ts';

/** What the ways to an edge say of a value: between, and none of. */
interface Known {
  low: number;
  high: number;
  readonly not: Set<number>;
}

/**
 * Jumps go where they end up: over empty blocks, over tests whose answer is known on the way there, to "no match" where
 * there is nothing else any more. Blocks that only follow one another become one.
 */
export function threadJumps(ir: Ir): void {
  giveUpEarly(ir);
  const idom = dominators(ir);
  const uses = countUses(ir);
  const threader = new Threader(idom, uses);
  for (const block of ir.blocks.toReversed()) threader.thread(block);
  dropUnreachable(ir);
  mergeRows(ir);
}

/** A block that no way leads from to a match returns at once. */
function giveUpEarly(ir: Ir): void {
  const hopeless = new Set<Block>();
  for (const block of ir.blocks.toReversed()) {
    const { end } = block;
    if (end.op === 'return') {
      if (!isConstant(end.args[0], 0)) continue;
      block.body = [];
    } else {
      if (!successors(block).every((to) => hopeless.has(to))) continue;
      block.body = [];
      endWithReturn(block, constantNode(ir, 0));
    }
    hopeless.add(block);
  }
  dropUnreachable(ir);
}

class Threader {
  readonly #idom: ReadonlyMap<Block, Block>;
  readonly #uses: ReadonlyMap<Node, number>;

  constructor(idom: ReadonlyMap<Block, Block>, uses: ReadonlyMap<Node, number>) {
    this.#idom = idom;
    this.#uses = uses;
  }

  /** Lets the ends of `block` go on past empty blocks. What follows it has been threaded already. */
  thread(block: Block): void {
    for (const to of new Set(successors(block))) {
      const target = this.#skip(block, to);
      if (target !== undefined) retarget(block, to, target);
    }
  }

  /** Where an edge goes in truth, when that is somewhere else. */
  #skip(from: Block, to: Block): Block | undefined {
    const { end } = to;
    if (to.body.length > 0 || end.op === 'return' || !this.#phisStay(to)) return undefined;
    const target = end.op === 'goto' ? end.to : this.#decide(from, to, end);
    if (target === undefined) return undefined;
    // Two edges between the same blocks would have to agree on all phis.
    return target.phis.length > 0 && (target.preds.includes(from) || to.phis.length > 0) ? undefined : target;
  }

  /** Whether the phis of a block are only used by its own end. */
  #phisStay(block: Block): boolean {
    const { phis, end } = block;
    return phis.every((phi) => end.op === 'branch' && this.#uses.get(phi) === 1 && end.args.includes(phi));
  }

  #decide(from: Block, to: Block, end: Branch): Block | undefined {
    const at = to.preds.indexOf(from);
    const [tested, compared] = end.args.map((arg) => {
      const phi = to.phis.find((one) => one === arg);
      return phi === undefined ? arg : phi.args[at];
    });
    if (compared.op !== 'constant') return undefined;
    const choose = (holds: boolean): Block => (holds ? end.yes : end.no);
    if (tested.op === 'constant') return choose(compare(end.comparison, tested.value, compared.value));
    const { low, high, not } = this.#known(from, to, tested);
    const { comparison } = end;
    const { value } = compared;
    if (low === high) return choose(compare(comparison, low, value));
    if (comparison === 'set') return undefined;
    if (comparison === 'eq' || comparison === 'ne')
      return value < low || value > high || not.has(value) ? choose(comparison === 'ne') : undefined;
    const [atLow, atHigh] = [compare(comparison, low, value), compare(comparison, high, value)];
    return atLow === atHigh ? choose(atLow) : undefined;
  }

  /** What branches on the way to the edge have said of a value. */
  #known(from: Block, to: Block, tested: Node): Known {
    const known: Known = { low: 0, high: 0xffffffff, not: new Set() };
    learn(known, from, to, tested);
    for (let at: Block | undefined = from; at !== undefined; at = this.#idom.get(at))
      if (at.preds.length === 1) learn(known, at.preds[0], at, tested);
    return known;
  }
}

function learn(known: Known, from: Block, to: Block, tested: Node): void {
  const { end } = from;
  if (end.op !== 'branch' || end.args[0] !== tested || end.args[1].op !== 'constant') return;
  if (end.yes === end.no) return;
  const { value } = end.args[1];
  const holds = end.yes === to;
  const atMost = (high: number): void => {
    known.high = Math.min(known.high, high);
  };
  const atLeast = (low: number): void => {
    known.low = Math.max(known.low, low);
  };
  switch (end.comparison) {
    case 'eq':
    case 'ne':
      if (holds !== (end.comparison === 'eq')) known.not.add(value);
      else {
        atMost(value);
        atLeast(value);
      }
      break;
    case 'gt':
      if (holds) atLeast(value + 1);
      else atMost(value);
      break;
    case 'ge':
      if (holds) atLeast(value);
      else atMost(value - 1);
      break;
    case 'lt':
      if (holds) atMost(value - 1);
      else atLeast(value);
      break;
    case 'le':
      if (holds) atMost(value);
      else atLeast(value + 1);
      break;
    default:
  }
}

/** Moves the edge from `from` to `old` over to `target`, which `old` leads to. */
function retarget(from: Block, old: Block, target: Block): void {
  const at = old.preds.indexOf(from);
  const through = target.preds.indexOf(old);
  old.preds.splice(at, 1);
  for (const phi of old.phis) phi.args.splice(at, 1);
  const { end } = from;
  const again = target.preds.includes(from);
  if (!again) {
    target.preds.push(from);
    for (const phi of target.phis) phi.args.push(phi.args[through]);
  }
  if (end.op === 'goto' || again) from.end = { op: 'goto', to: target };
  else if (end.op === 'branch') {
    const yes = end.yes === old ? target : end.yes;
    const no = end.no === old ? target : end.no;
    from.end = { ...end, yes, no };
  }
}

/** Joins each block with the one behind it, when they have only each other. */
function mergeRows(ir: Ir): void {
  const gone = new Set<Block>();
  for (const block of ir.blocks) {
    if (gone.has(block)) continue;
    for (;;) {
      const { end } = block;
      if (end.op !== 'goto' || end.to.preds.length !== 1 || end.to.phis.length > 0) break;
      const { to } = end;
      block.body.push(...to.body);
      block.end = to.end;
      for (const next of successors(to)) next.preds = next.preds.map((pred) => (pred === to ? block : pred));
      gone.add(to);
    }
  }
  ir.blocks = ir.blocks.filter((block) => !gone.has(block));
}
