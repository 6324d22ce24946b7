import { bad, byHand, type Check, type Fix, machineCheck, ok } from '../finding.ts';

const write = (path: string, value: string, text: string, riskText: string): Fix => ({
  text,
  risk: riskText === 'none' ? 'none' : 'host',
  riskText,
  changes: [{ setting: { kind: 'file', path }, value }],
});

const jit = machineCheck('bpf.jit', 'programs are compiled', ({ sysctls }) => {
  const value = sysctls['net.core.bpf_jit_enable'];
  if (value === undefined) return undefined;
  if (value === '1') return ok('on');
  return bad(
    'problem',
    `net.core.bpf_jit_enable = ${value}`,
    value === '2'
      ? 'it writes every program to the log of the kernel'
      : 'an interpreted gate takes ten times as long for each packet',
    write('/proc/sys/net/core/bpf_jit_enable', '1', 'compile', 'none'),
  );
});

const harden = machineCheck('bpf.harden', 'programs of root are not blinded', ({ sysctls }) => {
  const value = sysctls['net.core.bpf_jit_harden'];
  if (value === undefined) return undefined;
  if (value !== '2') return ok(value === '1' ? 'for unprivileged users alone' : 'off');
  return bad(
    'warning',
    'net.core.bpf_jit_harden = 2',
    'constants are hidden in programs of root too: the gate gets longer and slower, and large rule sets may not load',
    write(
      '/proc/sys/net/core/bpf_jit_harden',
      '1',
      'for unprivileged users alone',
      'one hurdle less for an attacker who is root already',
    ),
  );
});

const stats = machineCheck('bpf.stats', 'run times are not measured all the time', ({ sysctls }) => {
  const value = sysctls['kernel.bpf_stats_enabled'];
  if (value === undefined) return undefined;
  if (value === '0') return ok('off');
  return bad(
    'note',
    'kernel.bpf_stats_enabled = 1',
    'two looks at the clock for each run of each program: about 40 ns for each packet at the gate',
    write('/proc/sys/kernel/bpf_stats_enabled', '0', 'off', 'none'),
  );
});

const capabilities = machineCheck('bpf.capabilities', 'privileges of this process', ({ bpf }) => {
  const names = {
    bpf: 'CAP_BPF',
    netAdmin: 'CAP_NET_ADMIN',
    netRaw: 'CAP_NET_RAW',
    perfmon: 'CAP_PERFMON',
  } as const;
  const missing = (Object.keys(names) as (keyof typeof names)[]).filter((name) => !bpf.capabilities[name]);
  if (missing.length === 0) return ok(Object.values(names).join(', '));
  return bad(
    'problem',
    `without ${missing.map((name) => names[name]).join(', ')}`,
    'the gate and captures need them; files (`sluice read`) and mirrors over UDP do not. What the doctor could not ask for is left out',
    byHand('as root, or with AmbientCapabilities= of systemd', 'none', 'none'),
    'PRIVILEGE',
  );
});

const filesystem = machineCheck('bpf.filesystem', 'a place for pins', ({ bpf }) =>
  bpf.mounted
    ? ok('/sys/fs/bpf')
    : bad(
        'note',
        '/sys/fs/bpf is not a bpf file system',
        '`sluice` mounts it when it runs as root; other sensors that open pins need it before',
        byHand('mount -t bpf bpf /sys/fs/bpf', 'none', 'none'),
      ),
);

export const BPF_CHECKS: readonly Check[] = [jit, harden, stats, capabilities, filesystem];
