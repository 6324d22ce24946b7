import { type Branch, constantNode, countUses, type Ir, type Load, type Node } from '../ir/ir.ts';

/**
 * A comparison that looks at some whole bytes of a load only, loads only these: a prefix of 16 bits in an address of
 * 32, say. The guard still wants all bytes of the load.
 */
export function narrowLoads(ir: Ir): void {
  const uses = countUses(ir);
  for (const block of ir.blocks) {
    const { end } = block;
    if (end.op !== 'branch' || end.args[1].op !== 'constant') continue;
    const found = masked(end, uses);
    if (found === undefined) continue;
    const { load, mask } = found;
    const part = partOf(mask, load.size);
    if (part === undefined) continue;
    const [at, size] = part;
    const whole = size === 2 ? 0xffff : 0xff;
    load.offset += at;
    load.size = size;
    const compared = end.args[1].value;
    const shifted = (value: number): Node => constantNode(ir, (value >>> (8 * at)) & whole);
    if (found.and === undefined) {
      block.end = { ...end, args: [load, shifted(compared)] };
    } else if (mask >>> (8 * at) === whole) {
      block.end = { ...end, args: [load, shifted(compared)] };
    } else {
      found.and.args = [load, shifted(mask)];
      block.end = { ...end, args: [found.and, shifted(compared)] };
    }
  }
}

interface Masked {
  readonly load: Load;
  readonly mask: number;
  /** Where the mask comes from, if not from the comparison itself. */
  readonly and?: Node;
}

/** The load that a comparison looks at through a mask, if nobody else does. */
function masked(
  { comparison, args: [tested, compared] }: Branch,
  uses: ReadonlyMap<Node, number>,
): Masked | undefined {
  if (compared.op !== 'constant') return undefined;
  const alone = (node: Node): node is Load => node.op === 'load' && !node.byCall && uses.get(node) === 1;
  if (comparison === 'set') return alone(tested) ? { load: tested, mask: compared.value } : undefined;
  if (comparison !== 'eq' && comparison !== 'ne') return undefined;
  if (tested.op !== 'alu' || tested.operation !== 'and' || uses.get(tested) !== 1) return undefined;
  const [load, mask] = tested.args;
  if (mask.op !== 'constant' || (compared.value & ~mask.value) !== 0) return undefined;
  return alone(load) ? { load, mask: mask.value, and: tested } : undefined;
}

/** Offset and size of the part that has all bits of the mask. */
function partOf(mask: number, size: number): [number, 1 | 2] | undefined {
  if (mask === 0) return undefined;
  const first = (31 - Math.clz32(mask & -mask)) >>> 3;
  const last = (31 - Math.clz32(mask)) >>> 3;
  if (first === last) return size > 1 ? [first, 1] : undefined;
  return last - first === 1 && size > 2 ? [first, 2] : undefined;
}
