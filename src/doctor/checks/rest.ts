import { bad, byHand, type Check, machineCheck, ok } from '../finding.ts';
import { n } from '../view.ts';

const channels = machineCheck(
  'memory.channels',
  'all memory channels are used alike',
  ({ memory, kernel }) => {
    if (memory.modules === undefined || memory.modules.length === 0 || kernel.virtual) return undefined;
    const sizes = new Map<string, number>();
    for (const { channel, size } of memory.modules) sizes.set(channel, (sizes.get(channel) ?? 0) + size);
    const used = [...sizes.values()].filter((size) => size > 0);
    const text = `${used.length} of ${sizes.size} channels have modules`;
    if (used.length === sizes.size && new Set(used).size <= 1)
      return ok(`${text}, ${n(used[0] / 1024)} GB each`);
    return bad(
      'warning',
      used.length < sizes.size
        ? `${text}; without: ${[...sizes].flatMap(([name, size]) => (size === 0 ? [name] : [])).join(', ')}`
        : `${text}, but not the same amount each`,
      'every packet is written to memory and read from it at least once: bandwidth is what an empty channel takes away',
      byHand('one module for each channel of each processor, all alike', 'host', 'the machine is opened'),
    );
  },
);

/** Rings of some workers, tables, and what the kernel needs beside them. */
const FREE_KB = 2 * 2 ** 20;

const free = machineCheck('memory.free', 'room for rings and tables', ({ memory }) => {
  if (memory.totalKb === 0) return undefined;
  const text = `${n(memory.availableKb / 1024)} of ${n(memory.totalKb / 1024)} MiB are free`;
  if (memory.availableKb >= FREE_KB) return ok(text);
  return bad(
    'warning',
    text,
    'rings and tables are locked in memory: 64 MiB of ring for each worker, and 500 bytes for each connection',
    byHand(
      'more memory, or --ring-bytes, --max-flows and --max-shunts4 smaller',
      'none',
      'shorter stalls lose packets',
    ),
  );
});

export const MEMORY_CHECKS: readonly Check[] = [channels, free];

const FAST_CLOCKS = new Set(['tsc', 'kvm-clock', 'hyperv_clocksource_tsc_page', 'arch_sys_counter']);

const source = machineCheck('clock.source', 'a clock that is read without a call', ({ clock }) => {
  if (clock.source === undefined) return undefined;
  if (FAST_CLOCKS.has(clock.source)) return ok(clock.source);
  return bad(
    'problem',
    clock.source,
    'every packet gets a time: this clock takes about a microsecond to read, tsc 20 ns',
    clock.available.includes('tsc')
      ? {
          text: 'tsc',
          risk: 'host',
          riskText: 'the kernel had left it, mostly as it did not run steadily: dmesg says why',
          changes: [
            {
              setting: {
                kind: 'file',
                path: '/sys/devices/system/clocksource/clocksource0/current_clocksource',
              },
              value: 'tsc',
            },
          ],
        }
      : byHand(
          'tsc=reliable, if the processors keep time together',
          'reboot',
          'wrong times where they do not',
        ),
  );
});

const synchronized = machineCheck('clock.synchronized', 'the clock is kept right', ({ clock }) => {
  if (clock.synchronized === undefined) return undefined;
  if (clock.synchronized) return ok('by NTP or PTP');
  return bad(
    'warning',
    'the kernel says that nobody keeps it right',
    'times in logs of several sensors cannot be compared, and steps of the clock appear in durations of other tools',
    byHand('chrony, systemd-timesyncd or ptp4l with phc2sys', 'none', 'none'),
  );
});

export const CLOCK_CHECKS: readonly Check[] = [source, synchronized];

const hash = machineCheck('fanout.hash', "the kernel's fanout keeps connections together", ({ fanout }) => {
  const { proof } = fanout;
  if ('failed' in proof)
    return bad(
      'note',
      `could not be tried: ${proof.failed}`,
      'sensors that share an interface by hash rely on it',
      byHand('run the doctor as root', 'none', 'none'),
    );
  const text = `${proof.connections} connections through a group of 4, both directions`;
  if (proof.split === 0 && proof.used > 1) return ok(`${text}: none split`);
  return bad(
    'problem',
    proof.split > 0 ? `${text}: ${proof.split} split` : `${text}: all came to one member`,
    'kernels between 4.2 and 4.7 hash the directions of a connection apart: no worker of a sensor sees both',
    byHand(
      '`sluice run --fanout ebpf` and `sluice fanout pin` have a hash of their own; or a newer kernel',
      'none',
      'none',
    ),
  );
});

/** Without its number. */
const program = (process: string): string => process.replace(/ \(\d+\)$/, '');

const collision = machineCheck('fanout.collision', 'no two sensors share a fanout id', ({ fanout }) => {
  if (fanout.groups === undefined) return undefined;
  const mixed = fanout.groups.filter(({ processes }) => new Set(processes.map(program)).size > 1);
  if (mixed.length === 0)
    return ok(
      fanout.groups.length === 0
        ? 'there are no groups'
        : fanout.groups.map(({ id, processes }) => `${id}: ${processes.join(', ') || 'unknown'}`).join('; '),
    );
  return bad(
    'problem',
    mixed.map(({ id, processes }) => `id ${id} is used by ${processes.join(' and ')}`).join('; '),
    'the kernel shares the packets among them: each sees a part of the connections, and nothing counts as lost',
    byHand(
      'another af_packet_fanout_id (Zeek) or cluster-id (Suricata) for one of them; Sluice takes a free one',
      'host',
      'the sensor is started anew',
    ),
  );
});

export const FANOUT_CHECKS: readonly Check[] = [hash, collision];
