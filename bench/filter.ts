import { type CompileOptions, compile, encode } from '../src/ebpf/index.ts';
import { type BpfProgram, loadInstructions, ProgramFlag, ProgramType } from '../src/kernel/index.ts';
import { FILTER_CASES, type FilterCase, OTHER, type Size } from './filter-programs.ts';
import { type BenchIo, type Column, difference, interleaved, paired, type Table } from './measure.ts';

const REPEAT = 200_000;

type Row = Record<string, string | number | undefined>;

function loaded(one: FilterCase, options: CompileOptions): BpfProgram {
  return loadInstructions(encode(compile(one.program(), options).instructions), {
    type: ProgramType.xdp,
    name: 'filter',
    flags: options.frags === true ? ProgramFlag.xdpHasFrags : 0,
  });
}

const sizeOf = (program: BpfProgram): Size => {
  const { xlatedBytes, jitedBytes } = program.info();
  return { xlated: xlatedBytes / 8, jited: jitedBytes };
};

const column = (key: string, title: string, digits = 0): Column => ({ key, title, digits });

/** Sums over the filters that all have: cbpfc refuses one. */
function total(rows: readonly Row[]): Row {
  const all = rows.filter((row) => row['clang'] !== undefined);
  const sums: Row = { name: `total of ${all.length}` };
  for (const key of Object.keys(all[0] ?? {}))
    if (key !== 'name' && !key.endsWith('Ns'))
      sums[key] = all.reduce((sum, row) => sum + Number(row[key]), 0);
  return sums;
}

/**
 * Fifteen filters compiled to XDP programs: instructions after translation and bytes of machine code, beside what the
 * kernel, cbpfc, and clang make of them; nanoseconds per packet over a bare pass. Needs CAP_BPF.
 */
export async function benchFilter(
  rounds: number,
  io: BenchIo,
  repeat = REPEAT,
): Promise<{ tables: Table[]; notes: string[] }> {
  using pass = loadInstructions(encode(compile([{ code: 6, jt: 0, jf: 0, k: 0 }]).instructions), {
    type: ProgramType.xdp,
    name: 'pass',
  });
  const ours = FILTER_CASES.map((one) => ({ one, program: loaded(one, {}) }));
  try {
    const rows = ours.map(({ one, program }): Row => {
      using buffers = loaded(one, { frags: true });
      const { xlated, jited } = sizeOf(program);
      return {
        name: one.name,
        classic: one.program().length,
        xlated,
        jited,
        clang: one.clang?.xlated,
        clangJited: one.clang?.jited,
        cbpfc: one.cbpfc?.xlated,
        cbpfcJited: one.cbpfc?.jited,
        kernel: one.kernel.xlated,
        kernelJited: one.kernel.jited,
        frags: sizeOf(buffers).xlated,
      };
    });
    const runs = [
      { program: pass, data: OTHER },
      ...ours.flatMap(({ one, program }) => [
        { program, data: one.packet },
        { program, data: one.other ?? OTHER },
      ]),
    ];
    const times = await interleaved(
      runs,
      rounds,
      io,
      ({ program, data }) => program.testRun({ data, repeat }).durationNs,
    );
    for (const [index, row] of rows.entries()) {
      row['matchNs'] = paired(times[1 + 2 * index], times[0], difference);
      row['otherNs'] = paired(times[2 + 2 * index], times[0], difference);
    }
    return {
      tables: [
        {
          title: 'XDP programs that drop what matches: instructions / bytes of machine code',
          columns: [
            column('name', 'filter'),
            column('classic', 'classic'),
            column('xlated', 'ours'),
            column('jited', 'bytes'),
            column('clang', 'cbpfc→C, clang'),
            column('clangJited', 'bytes'),
            column('cbpfc', 'cbpfc→eBPF'),
            column('cbpfcJited', 'bytes'),
            column('kernel', 'kernel'),
            column('kernelJited', 'bytes'),
            column('frags', 'ours, all buffers'),
            column('matchNs', 'ns, match', 1),
            column('otherNs', 'ns, other', 1),
          ],
          rows: [...rows, total(rows)],
        },
      ],
      notes: [
        'ours: loaded in this run; the others: figures of measured-xdp.md, section 4 (libpcap 1.10.3, clang 14, Linux 6.18).',
        'kernel: its own conversion on a socket, without the frame of an XDP program. ns: over a bare pass.',
      ],
    };
  } finally {
    for (const { program } of ours) program.close();
  }
}
