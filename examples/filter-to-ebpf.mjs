// Classic BPF to eBPF, as a library: no privilege, no compiler, no kernel.
//
//   node examples/filter-to-ebpf.mjs                          the filter below
//   tcpdump -ddd 'tcp port 80' | node examples/filter-to-ebpf.mjs -
import { readFileSync } from 'node:fs';
import {
  alu32,
  alu64,
  assemble,
  cbpfText,
  compile,
  compileFragment,
  constant,
  disassemble,
  EXIT,
  encode,
  interpretCbpf,
  label,
  load,
  plain,
  register,
} from 'sluice/ebpf';

// `ip proto 6` as tcpdump -ddd prints it: the number of instructions, then code, jt, jf, k of each.
const IP_PROTO_6 = '6\n40 0 0 12\n21 0 3 2048\n48 0 0 23\n21 0 1 6\n6 0 0 262144\n6 0 0 0';

const text = process.argv[2] === '-' ? readFileSync(0, 'utf8') : IP_PROTO_6;
const program = text
  .trim()
  .split('\n')
  .slice(1)
  .map((line) => {
    const [code, jt, jf, k] = line.split(' ').map(Number);
    return { code, jt, jf, k };
  });
const say = (heading, body) => process.stdout.write(`${heading}\n${body}\n`);

say('Classic BPF:', cbpfText(program));

// What it does, without a kernel: 0 is no match.
const packet = new Uint8Array(60);
packet.set([0x08, 0x00], 12);
packet[23] = 6;
say('On an IPv4 packet with protocol 6 it returns', `${interpretCbpf(program, packet)}\n`);

// A whole XDP program: XDP_DROP (1) for what matches, XDP_PASS (2) for the rest. `encode` gives what bpf(2) loads.
const { instructions, ir } = compile(program, { verdicts: { match: 1, noMatch: 2 } });
say('Between the passes and the registers:', ir);
say(`As an XDP program, ${encode(instructions).length} bytes:`, disassemble(instructions));

// A piece of a program of yours: your registers, your labels. This one counts matches in r9 before it passes all.
const fragment = compileFragment(program, {
  registers: { data: 7, dataEnd: 8, free: [0, 2, 3, 4, 5] },
  match: 'matched',
  noMatch: 'done',
  next: 'match',
  prefix: 'filter.',
});
const yours = assemble([
  plain(load(4, 7, 1, 0)),
  plain(load(4, 8, 1, 4)),
  plain(alu64('mov', 9, constant(0))),
  ...fragment.code,
  label('matched'),
  plain(alu64('add', 9, constant(1))),
  label('done'),
  plain(alu64('mov', 0, register(9))),
  plain(alu32('add', 0, constant(1))),
  plain(EXIT),
]);
say('Embedded in another program:', disassemble(yours));
