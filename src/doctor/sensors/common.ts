import { bad, byHand, type Finding, type Level, ok, type Risk } from '../finding.ts';
import type { Machine, Nic } from '../machine.ts';
import { coresFirst, cpuText, nearCpus } from '../view.ts';

/** What the configuration of a sensor is held against, and what is proposed for it. */
export interface SensorReview {
  sensor: 'zeek' | 'suricata';
  file: string;
  findings: Finding[];
  /** To put into its configuration. */
  stanza: string;
}

/** CPUs for the workers of a sensor: near the card, a core each, and not those that its interrupts go to, as far as there are others. */
export function workerCpus(machine: Machine, nic: Nic): number[] {
  const irqs = new Set(
    nic.queues.flatMap(({ effective, affinity }) => (effective.length > 0 ? effective : affinity)),
  );
  const near = coresFirst(nearCpus(machine, nic));
  const first = near.filter(
    ({ id, siblings }) => siblings[0] === id || !siblings.some((other) => other < id),
  );
  const cores = first.length > 0 ? first : near;
  const free = cores.filter(({ id }) => !irqs.has(id));
  const from = free.length > 0 ? free : cores;
  return from.map(({ id }) => id);
}

/** Collects what is found out about one interface. */
export class Findings {
  readonly all: Finding[] = [];
  readonly #sensor: string;
  readonly #interface: string;

  constructor(sensor: string, name: string) {
    this.#sensor = sensor;
    this.#interface = name;
  }

  ok(check: string, evidence: string): void {
    const verdict = ok(evidence);
    if (verdict !== undefined) this.#add(check, verdict);
  }

  bad(
    check: string,
    level: Exclude<Level, 'ok'>,
    evidence: string,
    reason: string,
    text: string,
    risk: Risk = 'host',
  ): void {
    const verdict = bad(level, evidence, reason, byHand(text, risk, 'the sensor is started anew'));
    if (verdict !== undefined) this.#add(check, verdict);
  }

  #add(check: string, verdict: Omit<Finding, 'check' | 'interface'>): void {
    this.all.push({ check: `${this.#sensor}.${check}`, interface: this.#interface, ...verdict });
  }
}

/** Where workers are pinned to, against where the card and its interrupts are. */
export function judgePins(found: Findings, machine: Machine, nic: Nic, cpus: readonly number[]): void {
  const online = new Set(machine.cpu.list.map(({ id }) => id));
  const near = new Set(nearCpus(machine, nic).map(({ id }) => id));
  const irqs = new Set(nic.queues.flatMap(({ effective }) => effective));
  const gone = cpus.filter((cpu) => !online.has(cpu));
  const far = cpus.filter((cpu) => online.has(cpu) && !near.has(cpu));
  const shared = cpus.filter((cpu) => irqs.has(cpu));
  const wish = `pin workers to ${cpuText(workerCpus(machine, nic))}`;
  if (gone.length > 0)
    found.bad(
      'cpus',
      'problem',
      `CPU ${cpuText(gone)}, which this machine does not have`,
      'these workers are not pinned, or do not start',
      wish,
    );
  else if (far.length > 0)
    found.bad(
      'cpus',
      'warning',
      `CPU ${cpuText(far)} at another node than ${nic.name}`,
      'each packet crosses to the other processor',
      wish,
    );
  else if (shared.length > 0 && workerCpus(machine, nic).some((cpu) => !irqs.has(cpu)))
    found.bad(
      'cpus',
      'note',
      `CPU ${cpuText(shared)} has workers and interrupts of ${nic.name}`,
      'an interrupt goes before the worker',
      wish,
    );
  else found.ok('cpus', `workers on CPU ${cpuText(cpus)}`);
}

/** `text` as a number, or undefined. */
export const numberOf = (text: unknown): number | undefined =>
  typeof text === 'number' || (typeof text === 'string' && /^\d+$/.test(text)) ? Number(text) : undefined;
