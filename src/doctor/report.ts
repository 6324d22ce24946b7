import { z } from 'zod';
import type { CommandIo } from '../base/io.ts';
import type { Step } from './apply.ts';
import { type Budget } from './budget.ts';
import { AREAS, type Finding, LEVELS, type Level } from './finding.ts';
import { type NicMap, workerText } from './map.ts';
import type { SensorReview } from './sensors/common.ts';

const textOrNumber = z.union([z.number(), z.string()]);
const findingSchema = z.object({
  check: z.string(),
  interface: z.string().nullable(),
  level: z.enum(LEVELS),
  evidence: z.string(),
  reason: z.string(),
  fix: z
    .object({
      text: z.string(),
      risk: z.enum(['none', 'blip', 'host', 'reboot']),
      riskText: z.string(),
      commands: z.array(z.string()),
    })
    .nullable(),
});

/** What `sluice doctor --json` prints. */
export const reportSchema = z.object({
  interfaces: z.array(z.string()),
  summary: z.object({ ok: z.number(), note: z.number(), warning: z.number(), problem: z.number() }),
  findings: z.array(findingSchema),
  budgets: z.array(
    z.object({
      interface: z.string(),
      mbps: z.number(),
      assumed: z.boolean(),
      queues: z.number(),
      rows: z.array(
        z.object({
          size: z.union([z.number(), z.literal('average')]),
          packets: z.number(),
          ns: z.number(),
          nsEachQueue: z.number(),
        }),
      ),
      measured: z.object({
        gate: textOrNumber,
        softirq: textOrNumber,
        worker: textOrNumber,
        instructionsPerCycle: textOrNumber,
        cacheMissesPerPacket: textOrNumber,
      }),
    }),
  ),
  map: z.array(
    z.object({
      name: z.string(),
      driver: z.string(),
      mbps: z.number().nullable(),
      node: z.number().nullable(),
      queues: z.array(
        z.object({
          queue: z.number(),
          irq: z.number().nullable(),
          cpus: z.array(
            z.object({
              id: z.number(),
              node: z.number(),
              core: z.string(),
              far: z.boolean(),
              workers: z.array(z.string()),
            }),
          ),
        }),
      ),
      elsewhere: z.array(
        z.object({ cpu: z.number(), node: z.number(), far: z.boolean(), worker: z.string() }),
      ),
      free: z.array(z.object({ pid: z.number(), name: z.string(), threads: z.number() })),
    }),
  ),
  sensor: z
    .object({
      sensor: z.enum(['zeek', 'suricata']),
      file: z.string(),
      findings: z.array(findingSchema),
      stanza: z.string(),
    })
    .nullable(),
});
export type Report = z.output<typeof reportSchema>;

export interface ReportInput {
  interfaces: readonly string[];
  findings: readonly Finding[];
  budgets: readonly Budget[];
  maps: readonly NicMap[];
  sensor: SensorReview | undefined;
  plan: readonly Step[];
}

function findingRow(
  { check, interface: name, level, evidence, reason, fix }: Finding,
  plan: readonly Step[],
): Report['findings'][number] {
  return {
    check,
    interface: name ?? null,
    level,
    evidence,
    reason,
    fix:
      fix === undefined
        ? null
        : {
            text: fix.text,
            risk: fix.risk,
            riskText: fix.riskText,
            commands: plan.filter((step) => fix.changes.includes(step.change)).map(({ command }) => command),
          },
  };
}

export function counts(findings: readonly Finding[]): Report['summary'] {
  const out = { ok: 0, note: 0, warning: 0, problem: 0 };
  for (const { level } of findings) out[level]++;
  return out;
}

export function reportOf({ interfaces, findings, budgets, maps, sensor, plan }: ReportInput): Report {
  return {
    interfaces: [...interfaces],
    summary: counts([...findings, ...(sensor?.findings ?? [])]),
    findings: findings.map((finding) => findingRow(finding, plan)),
    budgets: budgets.map((budget) => ({ ...budget, rows: [...budget.rows] })),
    map: maps.map(({ name, driver, mbps, node, queues, elsewhere, free }) => ({
      name,
      driver,
      mbps: mbps ?? null,
      node: node ?? null,
      queues: queues.map(({ queue, irq, cpus }) => ({
        queue,
        irq: irq ?? null,
        cpus: cpus.map(({ workers, ...cpu }) => ({
          ...cpu,
          workers: workers.map(workerText),
        })),
      })),
      elsewhere: elsewhere.map((worker) => ({
        cpu: worker.cpu,
        node: worker.node,
        far: worker.far,
        worker: workerText(worker),
      })),
      free: [...free],
    })),
    sensor:
      sensor === undefined
        ? null
        : {
            sensor: sensor.sensor,
            file: sensor.file,
            findings: sensor.findings.map((finding) => findingRow(finding, [])),
            stanza: sensor.stanza,
          },
  };
}

type Paint = CommandIo['paint'];
const STYLES = { ok: 'green', note: 'cyan', warning: 'yellow', problem: 'red' } as const;

function findingText(finding: Finding, paint: Paint): string[] {
  const { check, interface: name, level, evidence, reason, fix } = finding;
  const head = `${paint(STYLES[level], level.padEnd(8))} ${check}${name === undefined ? '' : ` ${name}`}: ${evidence}`;
  if (level === 'ok') return [head];
  const lines = [head];
  if (reason !== '') lines.push(`         why   ${reason}`);
  if (fix !== undefined) {
    lines.push(`         fix   ${fix.text}`);
    if (fix.riskText !== 'none' && fix.riskText !== '') lines.push(`         risk  ${fix.riskText}`);
  }
  return lines;
}

const atLeast = (level: Level, least: Level): boolean => LEVELS.indexOf(level) >= LEVELS.indexOf(least);

/** Findings by area; those that are ok in full only with `all`. */
export function findingsText(findings: readonly Finding[], all: boolean, paint: Paint): string {
  const lines: string[] = [];
  const known: readonly string[] = AREAS;
  const areas = [
    ...known,
    ...new Set(findings.map(({ check }) => check.split('.')[0]).filter((area) => !known.includes(area))),
  ];
  for (const area of areas) {
    const own = findings.filter(({ check }) => check.startsWith(`${area}.`));
    if (own.length === 0) continue;
    const good = own.filter(({ level }) => level === 'ok').length;
    lines.push(paint('bold', area) + paint('dim', `  ${good} of ${own.length} ok`));
    for (const finding of own.toSorted((a, b) => LEVELS.indexOf(b.level) - LEVELS.indexOf(a.level)))
      if (all || atLeast(finding.level, 'note')) lines.push(...findingText(finding, paint));
    lines.push('');
  }
  return lines.join('\n');
}

const fixed = (value: number, digits: number): string =>
  value.toLocaleString('en-US', { maximumFractionDigits: digits, minimumFractionDigits: digits });

export function budgetText(budgets: readonly Budget[]): string {
  const lines: string[] = [];
  for (const { interface: name, mbps, assumed, queues, rows, measured } of budgets) {
    lines.push(
      `${name}: time for a packet at ${fixed(mbps, 0)} Mbit/s${assumed ? ' (taken, as the link does not tell)' : ''}, ${queues} ${queues === 1 ? 'queue' : 'queues'}`,
    );
    lines.push(
      `  ${'bytes'.padStart(8)} ${'Mpackets/s'.padStart(11)} ${'ns'.padStart(9)} ${'ns each queue'.padStart(14)}`,
    );
    for (const row of rows)
      lines.push(
        `  ${String(row.size).padStart(8)} ${fixed(row.packets / 1e6, 2).padStart(11)} ${fixed(row.ns, 1).padStart(9)} ${fixed(row.nsEachQueue, 1).padStart(14)}`,
      );
    const parts = [
      ['gate', measured.gate, 'ns, in test runs'],
      ['softirq', measured.softirq, 'ns at most, drivers and stack'],
      ['worker', measured.worker, 'ns of processor'],
      ['instructions per cycle', measured.instructionsPerCycle, ''],
      ['last-level misses per packet', measured.cacheMissesPerPacket, ''],
    ] as const;
    for (const [part, value, unit] of parts)
      lines.push(
        `  ${part}: ${typeof value === 'number' ? `${fixed(value, 1)} ${unit}`.trim() : `– (${value})`}`,
      );
    lines.push('');
  }
  return lines.join('\n');
}

/** A script that makes the changes. */
export function planText(steps: readonly Step[], findings: readonly Finding[]): string {
  const lines: string[] = [];
  let before = '';
  for (const { check, risk, riskText, command } of steps) {
    if (check !== before) lines.push(`# ${check}${risk === 'none' ? '' : `; risk: ${riskText}`}`);
    before = check;
    lines.push(command);
  }
  const byHand = findings.filter(
    ({ level, fix }) => level !== 'ok' && fix !== undefined && fix.changes.length === 0,
  );
  for (const { check, interface: name, fix } of byHand)
    lines.push(`# by hand, ${check}${name === undefined ? '' : ` ${name}`}: ${fix?.text ?? ''}`);
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

const plural = (count: number, word: string): string => `${count} ${word}${count === 1 ? '' : 's'}`;

export function summaryText(findings: readonly Finding[]): string {
  const { ok, note, warning, problem } = counts(findings);
  return `${plural(problem, 'problem')}, ${plural(warning, 'warning')}, ${plural(note, 'note')}, ${ok} ok`;
}
