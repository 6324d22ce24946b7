import { bad, byHand, type Check, type Fix, machineCheck, ok, type Risk } from '../finding.ts';
import { n } from '../view.ts';

function sysctlFix(name: string, value: string, text: string, risk: Risk, riskText: string): Fix {
  return {
    text,
    risk,
    riskText,
    changes: [{ setting: { kind: 'file', path: `/proc/sys/${name.replaceAll('.', '/')}` }, value }],
  };
}

/** What only the lab asks for, to impair its links. */
const OF_THE_LAB = 'tcx';

const features = machineCheck(
  'kernel.features',
  'the kernel has what the gate and the rings need',
  ({ kernel }) => {
    const all = Object.entries(kernel.features).filter(([name]) => name !== OF_THE_LAB);
    if (all.length === 0) return undefined;
    const missing = all.filter(([, state]) => state === 'unsupported').map(([name]) => name);
    const unclear = all.filter(([, state]) => state === 'inconclusive').map(([name]) => name);
    if (missing.length > 0)
      return bad(
        'problem',
        `Linux ${kernel.release} lacks ${missing.join(', ')}`,
        '`sluice run` and `sluice gate up` say what works without',
        byHand('Linux 6.1 or newer, unless a sandbox withholds it', 'reboot', 'another kernel'),
        'KERNEL_FEATURE',
      );
    if (unclear.length > 0)
      return bad(
        'note',
        `Linux ${kernel.release}; not known: ${unclear.join(', ')}`,
        'asking for them was refused, mostly for want of a privilege',
        byHand('run the doctor as root', 'none', 'none'),
      );
    return ok(`Linux ${kernel.release}, all ${all.length} probed`);
  },
);

const RECEIVE_BUFFER = 16 * 2 ** 20;

const rmem = machineCheck('kernel.rmem', 'room in the sockets of mirrors', ({ sysctls }) => {
  const value = sysctls['net.core.rmem_max'];
  if (value === undefined) return undefined;
  if (Number(value) >= RECEIVE_BUFFER) return ok(`${n(Number(value))} bytes`);
  return bad(
    'note',
    `net.core.rmem_max = ${n(Number(value))}`,
    'a mirror over UDP (`sluice run udp://…`) asks for 16 MiB; without CAP_NET_ADMIN it gets this, and loses bursts. Taps are not affected',
    sysctlFix(
      'net.core.rmem_max',
      String(RECEIVE_BUFFER),
      '16 MiB',
      'none',
      'any program may ask for as much',
    ),
  );
});

const BACKLOG = 10_000;

const backlog = machineCheck('kernel.backlog', 'room between CPUs (backlog)', ({ sysctls, nics, sample }) => {
  const value = sysctls['net.core.netdev_max_backlog'];
  const used = nics.some((nic) => nic.kind === 'veth' || nic.rx.some(({ rps }) => rps.length > 0));
  if (value === undefined) return undefined;
  const dropped = sample?.softnet.dropped ?? 0;
  if (!used && dropped === 0) return ok(`${n(Number(value))}; nothing of this goes through it`);
  if (Number(value) >= BACKLOG && dropped === 0) return ok(n(Number(value)));
  return bad(
    dropped > 0 ? 'problem' : 'note',
    `net.core.netdev_max_backlog = ${n(Number(value))}${dropped > 0 ? `, ${n(dropped)} dropped while it was watched` : ''}`,
    'what RPS, veth and tunnels hand from one CPU to another waits in this queue; what does not fit is counted by no card',
    sysctlFix(
      'net.core.netdev_max_backlog',
      String(Math.max(BACKLOG, Number(value) * 2)),
      'a longer queue',
      'none',
      'some memory under load',
    ),
  );
});

const budget = machineCheck('kernel.budget', 'softirqs finish their work', ({ sysctls, sample }) => {
  const value = Number(sysctls['net.core.netdev_budget'] ?? Number.NaN);
  const usecs = Number(sysctls['net.core.netdev_budget_usecs'] ?? Number.NaN);
  if (Number.isNaN(value) || Number.isNaN(usecs) || sample === undefined) return undefined;
  if (sample.softnet.squeezed === 0) return ok(`${value} packets, ${n(usecs)} µs; not squeezed`);
  const double: Fix = {
    text: 'twice as much, and look again',
    risk: 'host',
    riskText: 'programs on these CPUs wait longer for their turn',
    changes: [
      { setting: { kind: 'file', path: '/proc/sys/net/core/netdev_budget' }, value: String(value * 2) },
      { setting: { kind: 'file', path: '/proc/sys/net/core/netdev_budget_usecs' }, value: String(usecs * 2) },
    ],
  };
  return bad(
    'warning',
    `squeezed ${n(sample.softnet.squeezed)} times in ${sample.seconds.toFixed(1)} s, with ${value} packets and ${n(usecs)} µs`,
    'the kernel broke off with packets left in the ring. Nothing is lost by that alone, but the ring has to hold them until the next turn',
    double,
  );
});

const watchdog = machineCheck('kernel.nmi-watchdog', 'no watchdog interrupts', ({ sysctls }) => {
  const value = sysctls['kernel.nmi_watchdog'];
  if (value === undefined) return undefined;
  if (value === '0') return ok('off');
  return bad(
    'note',
    'kernel.nmi_watchdog = 1',
    'it takes a hardware counter for itself and interrupts every core, the isolated ones too',
    sysctlFix(
      'kernel.nmi_watchdog',
      '0',
      'off',
      'host',
      'hard lock-ups of the kernel are no longer reported',
    ),
  );
});

export const KERNEL_CHECKS: readonly Check[] = [features, rmem, backlog, budget, watchdog];
