import { setTimeout as wait } from 'node:timers/promises';
import { nicCounters } from '../../gate/losses/nic-counters.ts';
import { driverCounters, driverInfo, interfaceCounters, Pmu, softnet } from '../../kernel/index.ts';
import type { NicRates, Sample } from '../machine.ts';
import type { Files } from './files.ts';

/** Times of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; in ticks. */
interface CpuTicks {
  id: number;
  busy: number;
  softirq: number;
  idle: number;
}

export function cpuTicks(stat: string): CpuTicks[] {
  return stat.split('\n').flatMap((line) => {
    const match = /^cpu(\d+) (.*)$/.exec(line);
    if (match === null) return [];
    const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = match[2]
      .split(' ')
      .map(Number);
    return [
      {
        id: Number(match[1]),
        busy: user + nice + system + irq + softirq + steal,
        softirq,
        idle: idle + iowait,
      },
    ];
  });
}

/** Ticks of user and system time that a process has used: fields 14 and 15 of /proc/PID/stat, behind its name. */
export function processTicks(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) || 0) + (Number(fields[12]) || 0);
}

const TICKS_PER_SECOND = 100;

interface Reading {
  at: number;
  nics: Map<string, NicRates>;
  cpus: CpuTicks[];
  softnet: Sample['softnet'];
  sensors: Map<number, number>;
}

/** Since the interface is there. */
function totalsOf(name: string): NicRates {
  const link = interfaceCounters(name);
  const told = nicCounters(driverInfo(name)?.driver ?? '', driverCounters(name) ?? {}, link);
  return {
    packets: link.rxPackets,
    bytes: link.rxBytes,
    lost: Object.fromEntries(
      told.flatMap(({ name: of, value, loss }) => (loss === undefined ? [] : [[of, value]])),
    ),
  };
}

/** What has been added; a counter that begins anew has lost nothing. */
export function ratesBetween(before: NicRates, now: NicRates): NicRates {
  const grown = Object.entries(now.lost).map(
    ([name, value]) => [name, value - (before.lost[name] ?? 0)] as const,
  );
  return {
    packets: now.packets - before.packets,
    bytes: now.bytes - before.bytes,
    lost: Object.fromEntries(grown.filter(([, more]) => more > 0)),
  };
}

function read(files: Files, nics: readonly string[], pids: readonly number[]): Reading {
  const total = { processed: 0, dropped: 0, squeezed: 0 };
  for (const row of softnet(files.text('/proc/net/softnet_stat') ?? '')) {
    total.processed += row.processed;
    total.dropped += row.dropped;
    total.squeezed += row.squeezed;
  }
  return {
    at: performance.now(),
    nics: new Map(nics.map((name) => [name, totalsOf(name)])),
    cpus: cpuTicks(files.text('/proc/stat') ?? ''),
    softnet: total,
    sensors: new Map(pids.map((pid) => [pid, processTicks(files.text(`/proc/${pid}/stat`) ?? '')])),
  };
}

/** The counters of softnet have 32 bits. */
const since = (now: number, before: number): number => (now - before + 2 ** 32) % 2 ** 32;

/** Watches interfaces, processors and sensors for a while; undefined when an interface goes away meanwhile. */
export async function takeSample(
  files: Files,
  nics: readonly string[],
  pids: readonly number[],
  seconds: number,
  stop: AbortSignal,
): Promise<Sample | undefined> {
  try {
    const first = read(files, nics, pids);
    const pmu = Pmu.open(first.cpus.map(({ id }) => id));
    let last: Reading;
    let counts: ReturnType<Pmu['read']> | undefined;
    try {
      await wait(seconds * 1000, undefined, { signal: stop });
      last = read(files, nics, pids);
      counts = typeof pmu === 'string' ? undefined : pmu.read();
    } finally {
      if (typeof pmu !== 'string') pmu.close();
    }
    const passed = (last.at - first.at) / 1000;
    const rates: Sample['nics'] = {};
    let packets = 0;
    for (const [name, now] of last.nics) {
      const before = first.nics.get(name);
      if (before === undefined) continue;
      rates[name] = ratesBetween(before, now);
      packets += rates[name].packets;
    }
    return {
      seconds: passed,
      nics: rates,
      cpus: last.cpus.flatMap((now) => {
        const before = first.cpus.find(({ id }) => id === now.id);
        const all = before === undefined ? 0 : now.busy + now.idle - before.busy - before.idle;
        if (before === undefined || all <= 0) return [];
        return [
          {
            id: now.id,
            busy: (now.busy - before.busy) / all,
            softirq: (now.softirq - before.softirq) / all,
            idle: (now.idle - before.idle) / all,
          },
        ];
      }),
      softnet: {
        processed: since(last.softnet.processed, first.softnet.processed),
        dropped: since(last.softnet.dropped, first.softnet.dropped),
        squeezed: since(last.softnet.squeezed, first.softnet.squeezed),
      },
      sensors: Object.fromEntries(
        [...last.sensors].map(([pid, ticks]) => [
          pid,
          Math.max(0, ticks - (first.sensors.get(pid) ?? ticks)) / TICKS_PER_SECOND,
        ]),
      ),
      pmu:
        counts === undefined
          ? { none: typeof pmu === 'string' ? pmu : '' }
          : {
              instructionsPerCycle: counts.cycles > 0 ? counts.instructions / counts.cycles : 0,
              cacheMissesPerPacket: packets > 0 ? counts.cacheMisses / packets : undefined,
            },
    };
  } catch (error) {
    if (stop.aborted || (error as { code?: string }).code === 'INTERFACE_UNKNOWN') return undefined;
    throw error;
  }
}
