import type { Block, Comparison, Ir, Node } from './ir.ts';

const SIGNS: Record<Comparison, string> = {
  eq: '==',
  ne: '!=',
  gt: '>',
  ge: '>=',
  lt: '<',
  le: '<=',
  set: '&',
};

const name = (node: Node): string =>
  node.op === 'constant'
    ? node.value < 10
      ? String(node.value)
      : `0x${node.value.toString(16)}`
    : `v${node.id}`;

function right(node: Node): string {
  const args = node.args.map(name);
  switch (node.op) {
    case 'load':
      return `${node.byCall ? 'fetch' : 'load'} u${node.size * 8} [${[...args, node.offset].join(' + ')}]`;
    case 'swap':
      return `swap u${node.size * 8} ${args[0]}`;
    case 'alu':
      return `${node.operation} ${args.join(', ')}`;
    case 'guard': {
      const root = node.root === undefined ? '' : `${name(node.root)} + `;
      const from = node.args[0];
      return `guard [${root}${node.end}]${from === undefined || from === node.root ? '' : ` from ${name(from)}`}`;
    }
    default:
      return [node.op, args.join(', ')].join(' ').trimEnd();
  }
}

function ending({ end }: Block): string {
  switch (end.op) {
    case 'goto':
      return `goto b${end.to.id}`;
    case 'branch':
      return `if ${name(end.args[0])} ${SIGNS[end.comparison]} ${name(end.args[1])} goto b${end.yes.id} else b${end.no.id}`;
    default:
      return `return ${name(end.args[0])}`;
  }
}

/** A filter as text, a line per value. */
export function irText(ir: Ir): string {
  return ir.blocks
    .map((block) => {
      const from = block.preds.map(({ id }) => `b${id}`).join(', ');
      const lines = [...block.phis, ...block.body].map((node) => `  v${node.id} = ${right(node)}\n`).join('');
      return `b${block.id}:${from === '' ? '' : ` from ${from}`}\n${lines}  ${ending(block)}\n`;
    })
    .join('');
}
