import { SluiceError } from '../../base/errors.ts';
import type { CbpfProgram } from '../../ebpf/index.ts';

/** What `tcpdump -ddd` prints. */
export function emitDdd(program: CbpfProgram): string {
  const lines = program.map(({ code, jt, jf, k }) => `${code} ${jt} ${jf} ${k}\n`);
  return `${program.length}\n${lines.join('')}`;
}

/** One line: the number of instructions and the instructions, as `iptables -m bpf --bytecode` and `tc … bpf bytecode` take it. */
export function emitLine(program: CbpfProgram): string {
  return [program.length, ...program.map(({ code, jt, jf, k }) => `${code} ${jt} ${jf} ${k}`)].join(',');
}

/** Text that may stand in a comment of C. */
const comment = (text: string) =>
  text
    .replace(/\*\//g, '* /')
    .replace(/[\p{Cc}\p{Cf}]+/gu, ' ')
    .trim();

const hex = (value: number) => `0x${value.toString(16).padStart(8, '0')}`;

/** A source file of C with the program as struct sock_fprog. */
export function emitC(program: CbpfProgram, about: readonly string[]): string {
  const rows = program.map(
    ({ code, jt, jf, k }) => `\t{ 0x${code.toString(16).padStart(2, '0')}, ${jt}, ${jf}, ${hex(k)} },\n`,
  );
  return `/*
${about.map((line) => ` * ${comment(line)}\n`).join('')} */
#include <linux/filter.h>

static struct sock_filter filter_code[] = {
${rows.join('')}};

const struct sock_fprog filter = {
\t.len = ${program.length},
\t.filter = filter_code,
};
`;
}

/** XT_BPF_MAX_NUM_INSTR: what the bpf match of netfilter holds. */
const NETFILTER_MAX = 64;

/** The argument of `iptables -m bpf --bytecode`. FILTER_UNSUPPORTED for more than 64 instructions. */
export function emitIptables(program: CbpfProgram): string {
  if (program.length > NETFILTER_MAX) {
    throw new SluiceError(
      'FILTER_UNSUPPORTED',
      `netfilter's bpf match takes at most ${NETFILTER_MAX} instructions; this filter has ${program.length}`,
      { help: '--emit tc has room for 4,096; or split the filter, or load it in XDP with `sluice rule`' },
    );
  }
  return emitLine(program);
}
