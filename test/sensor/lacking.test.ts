import { join } from 'node:path';
import { expect } from 'vitest';
import { interfaceInfo, xdpAttachment } from '../../src/kernel/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { kernelTest, ownNetns, sh, vethPair } from '../support/kernel.ts';
import { documentOf, type ErrorDocument, Feed, LogDir, mixed, Run } from './run.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const SOURCE = join(import.meta.dirname, '..', 'support', 'lacking.c');

/** bpf(2) and membarrier(2), by the numbers of x86-64 and arm64; commands of bpf(2). */
const CALLS = process.arch === 'arm64' ? { bpf: 280, membarrier: 283 } : { bpf: 321, membarrier: 324 };
const PROG_LOAD = 5;
const MAP_LOOKUP_BATCH = 24;
const EINVAL = 22;
const ENOSYS = 38;

ownNetns();

/** A system call, its first argument, what a kernel without the feature answers; what the error names. */
const KERNELS: Record<string, { call: number; argument: number | '-'; errno: number; names: string[] }> = {
  'without bpf(2)': {
    call: CALLS.bpf,
    argument: '-',
    errno: ENOSYS,
    names: [
      'XDP programs for frames in several buffers (Linux 5.18)',
      'BPF programs of type syscall (Linux 5.14)',
    ],
  },
  'without the program types': {
    call: CALLS.bpf,
    argument: PROG_LOAD,
    errno: EINVAL,
    names: ['BPF programs of type syscall (Linux 5.14)', 'the coarse clock in BPF programs (Linux 5.11)'],
  },
  'without batched reads': {
    call: CALLS.bpf,
    argument: MAP_LOOKUP_BATCH,
    errno: EINVAL,
    names: ['batched reads of BPF maps (Linux 5.6)'],
  },
  'without membarrier(2)': {
    call: CALLS.membarrier,
    argument: '-',
    errno: ENOSYS,
    names: ['membarrier(2) (Linux 4.16)'],
  },
};

for (const [kernel, { call, argument, errno, names }] of Object.entries(KERNELS)) {
  kernelTest(`on a kernel ${kernel} a run says so, and what works`, [...XDP], async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      const lacking = join(logs.path, 'lacking');
      sh('cc', '-O1', '-o', lacking, SOURCE);
      const prefix = [lacking, ...[call, argument, errno].map(String)];
      const args = ['run', '-i', a, '--json', '--log-dir', join(logs.path, 'made')];
      const refused = await new Run(args, prefix).ended;
      expect(refused).toMatchObject({ code: 3, signal: null });
      const { error } = JSON.parse(refused.stdout) as ErrorDocument;
      expect(error.code).toBe('KERNEL_FEATURE');
      for (const name of names) expect(error.message).toContain(name);
      if (names.length === 1) expect(error.message).toBe(`the running kernel lacks ${names[0]}`);
      expect(error.help).toContain('`sluice run --no-gate` works without');
      expect(error.help).toContain('`sluice read FILE` needs nothing of it');
      expect(refused.stderr).toContain(`error[KERNEL_FEATURE]: ${error.message}`);
      expect(refused.stderr).not.toMatch(/^ready$/m);
      expect(xdpAttachment(interfaceInfo(a).index)).toBeUndefined();

      // It does work.
      const frames = mixed([conversation({ turns: [{ from: 'server', data: 1_500_000 }] })]);
      await using run = await new Run([...args, '--no-gate'], prefix).ready();
      await new Feed(b, frames).done;
      expect(documentOf(await run.stop())).toMatchObject({
        connections: 1,
        ring: { packets: frames.length },
      });
    } finally {
      remove();
    }
  });
}
