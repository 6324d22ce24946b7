import type { Machine, Nic } from './machine.ts';

/** Areas, in the order in which they are reported. */
export const AREAS = [
  'nic',
  'rss',
  'pcie',
  'irq',
  'numa',
  'cpu',
  'kernel',
  'bpf',
  'memory',
  'clock',
  'fanout',
] as const;
export type Area = (typeof AREAS)[number];

/**
 * ok: as it should be · note: worth knowing, or a matter of choice · warning: costs throughput, or loses packets under load ·
 * problem: loses packets or makes records wrong, whatever the load, or Sluice cannot work.
 */
export const LEVELS = ['ok', 'note', 'warning', 'problem'] as const;
export type Level = (typeof LEVELS)[number];

/** Something that can be read, written, and put back. */
export type Setting =
  | { kind: 'feature' | 'private-flag'; ifname: string; name: string }
  | { kind: 'ring' | 'rss-key' | 'rss-table' | 'pause'; ifname: string }
  | { kind: 'channels'; ifname: string; name: 'rx' | 'tx' | 'combined' }
  | { kind: 'coalescing'; ifname: string; name: 'adaptive-rx' | 'rx-usecs' }
  | { kind: 'hash-fields'; ifname: string; name: 'tcp4' | 'udp4' | 'tcp6' | 'udp6' }
  /** A file of /proc/sys, /proc/irq or /sys. */
  | { kind: 'file'; path: string };

export interface Change {
  setting: Setting;
  value: string;
}

/**
 * What a change does beside what it is for: none · blip: the link goes down for a moment, packets are lost · host: other work of
 * the machine is affected · reboot: it holds from the next boot on, and is not done by `--apply`.
 */
export type Risk = 'none' | 'blip' | 'host' | 'reboot';

export interface Fix {
  /** What to do, in words. */
  text: string;
  risk: Risk;
  /** What the risk is. */
  riskText: string;
  /** What `--apply` does; empty where a person has to. */
  changes: Change[];
}

export interface Finding {
  /** Of the check: area and name, `nic.gro`. */
  check: string;
  /** Interface that it is about. */
  interface?: string;
  level: Level;
  /** What was seen. */
  evidence: string;
  /** Why that matters; empty of what is ok. */
  reason: string;
  fix?: Fix;
  /** The machine lacks what Sluice needs: exit 3 instead of 1. */
  lacking?: 'PRIVILEGE' | 'KERNEL_FEATURE';
}

export interface Check {
  id: string;
  area: Area;
  /** What is looked at, as a heading. */
  title: string;
  run: (machine: Machine) => Finding[];
}

/** What a check says of one thing; undefined: it does not apply, or is not known. */
export type Verdict = Omit<Finding, 'check' | 'interface'> | undefined;

export const ok = (evidence: string): Verdict => ({ level: 'ok', evidence, reason: '' });

export const bad = (
  level: Exclude<Level, 'ok'>,
  evidence: string,
  reason: string,
  fix?: Fix,
  lacking?: Finding['lacking'],
): Verdict => ({
  level,
  evidence,
  reason,
  ...(fix === undefined ? {} : { fix }),
  ...(lacking === undefined ? {} : { lacking }),
});

/** A fix that a person makes. */
export const byHand = (text: string, risk: Risk, riskText: string): Fix => ({
  text,
  risk,
  riskText,
  changes: [],
});

const areaOf = (id: string): Area => id.slice(0, id.indexOf('.')) as Area;

/** A check of the machine. */
export function machineCheck(id: string, title: string, judge: (machine: Machine) => Verdict): Check {
  return {
    id,
    area: areaOf(id),
    title,
    run: (machine) => {
      const verdict = judge(machine);
      return verdict === undefined ? [] : [{ check: id, ...verdict }];
    },
  };
}

/** A check of each interface. */
export function nicCheck(id: string, title: string, judge: (nic: Nic, machine: Machine) => Verdict): Check {
  return {
    id,
    area: areaOf(id),
    title,
    run: (machine) =>
      machine.nics.flatMap((nic) => {
        const verdict = judge(nic, machine);
        return verdict === undefined ? [] : [{ check: id, interface: nic.name, ...verdict }];
      }),
  };
}
