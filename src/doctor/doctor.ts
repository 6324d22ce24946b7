import { readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import type { OutputConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import { fileError } from '../base/file-error.ts';
import type { CommandIo } from '../base/io.ts';
import { nearest } from '../base/suggest.ts';
import { apply, planOf, type Result, type Step, undo } from './apply.ts';
import { budgetOf } from './budget.ts';
import { CHECKS, examine } from './checks/index.ts';
import { gather } from './facts/index.ts';
import type { Check, Finding, Risk } from './finding.ts';
import type { Machine } from './machine.ts';
import { mapOf, mapSvg, mapText } from './map.ts';
import {
  budgetText,
  findingsText,
  planText,
  type Report,
  reportOf,
  reportSchema,
  summaryText,
} from './report.ts';
import type { SensorReview } from './sensors/common.ts';
import { reviewSuricata } from './sensors/suricata.ts';
import { reviewZeek } from './sensors/zeek.ts';

export const RISKS = ['none', 'blip', 'host'] as const;

export interface DoctorOptions {
  interfaces: readonly string[];
  only: readonly string[];
  skip: readonly string[];
  /** Seconds. */
  sample: number;
  /** All findings, those that are ok too. */
  all: boolean;
  /** The map: as text, or into this SVG file. */
  map: boolean | string;
  budget: boolean;
  for: 'zeek' | 'suricata' | undefined;
  sensorConfig: string | undefined;
  plan: boolean;
  apply: boolean;
  undo: boolean;
  force: boolean;
  maxRisk: (typeof RISKS)[number];
  facts: boolean;
}

const among = ({ id, area }: Check, list: readonly string[]): boolean =>
  list.includes(id) || list.includes(area);

/** Checks by full name or area. @throws SluiceError USAGE for a name that no check has */
export function chooseChecks(only: readonly string[], skip: readonly string[]): Check[] {
  const names = [...CHECKS.map(({ id }) => id), ...new Set(CHECKS.map(({ area }) => area))];
  for (const name of [...only, ...skip]) {
    if (names.includes(name)) continue;
    const meant = nearest(name, names);
    throw new SluiceError('USAGE', `there is no check ${name}`, {
      help: meant === undefined ? '`sluice doctor --all` names all' : `did you mean ${meant}?`,
    });
  }
  return CHECKS.filter((check) => (only.length === 0 || among(check, only)) && !among(check, skip));
}

const SENSOR_FILES = {
  zeek: ['/usr/local/zeek/etc/node.cfg', '/opt/zeek/etc/node.cfg', '/etc/zeek/node.cfg'],
  suricata: ['/etc/suricata/suricata.yaml', '/usr/local/etc/suricata/suricata.yaml'],
} as const;
const MOST_CONFIG = 16 * 2 ** 20;

function sensorFile(sensor: 'zeek' | 'suricata', given: string | undefined): { file: string; text: string } {
  const tried = given === undefined ? SENSOR_FILES[sensor] : [given];
  for (const file of tried) {
    try {
      const text = readFileSync(file, 'utf8');
      if (text.length > MOST_CONFIG)
        throw new SluiceError('FILE_FORMAT', `${file} is larger than a configuration can be`);
      return { file, text };
    } catch (error) {
      if (error instanceof SluiceError) throw error;
      if (given !== undefined) throw fileError(file, error);
    }
  }
  throw new SluiceError('FILE', `there is no configuration of ${sensor}: ${tried.join(', ')}`, {
    help: '--sensor-config FILE names it',
  });
}

function review(options: DoctorOptions, machine: Machine): SensorReview | undefined {
  if (options.for === undefined) return undefined;
  const [nic] = machine.nics;
  if (nic === undefined || machine.nics.length > 1)
    throw new SluiceError('USAGE', '--for needs one interface', {
      help: `sluice doctor IFACE --for ${options.for}; there are: ${machine.nics.map(({ name }) => name).join(', ') || 'none'}`,
    });
  const { file, text } = sensorFile(options.for, options.sensorConfig);
  return options.for === 'zeek'
    ? reviewZeek(text, file, machine, nic)
    : reviewSuricata(text, file, machine, nic);
}

/** What `--plan` shows and `--apply` makes: what may be risked, and of interfaces that were not named, only of those without the host's own traffic. */
function stepsFor(findings: readonly Finding[], machine: Machine, options: DoctorOptions): Step[] {
  const risks: readonly Risk[] = RISKS.slice(0, RISKS.indexOf(options.maxRisk) + 1);
  const own = new Set(machine.nics.filter(({ hostTraffic }) => hostTraffic).map(({ name }) => name));
  return planOf(
    findings.filter(
      ({ interface: name, fix }) =>
        fix !== undefined &&
        risks.includes(fix.risk) &&
        (name === undefined || !own.has(name) || options.interfaces.includes(name)),
    ),
  );
}

const short = (text: string): string => (text.length > 40 ? `${text.slice(0, 37)}…` : text);

function resultText({ setting, outcome, from, to, why }: Result): string {
  const words = { done: 'changed', same: 'as it is', refused: 'refused', left: 'left alone' } as const;
  return `${words[outcome].padEnd(10)} ${setting}: ${short(from)} → ${short(to)}${why === undefined ? '' : ` (${why})`}`;
}

function sayResults(
  results: readonly Result[],
  options: DoctorOptions,
  json: boolean,
  io: CommandIo,
): SluiceError | undefined {
  const failed = results.filter(({ outcome }) => outcome === 'refused' || outcome === 'left');
  const error =
    failed.length === 0
      ? undefined
      : new SluiceError(
          'MACHINE',
          options.undo
            ? `${failed.length} of ${results.length} settings are not as they were`
            : `${failed.length} of ${results.length} settings were not changed`,
          { help: 'the list says why; the others are done' },
        );
  if (json)
    io.out(
      `${JSON.stringify({ results, ...(error === undefined ? {} : { error: { code: error.code, message: error.message, help: error.help } }) })}\n`,
    );
  else if (results.length === 0)
    io.say(options.undo ? 'there is nothing to undo' : 'there is nothing to change');
  else io.out(results.map((result) => `${resultText(result)}\n`).join(''));
  if (!options.undo && results.some(({ outcome }) => outcome === 'done'))
    io.say('`sluice doctor --undo` puts it back; a reboot does too');
  return error;
}

function verdict(findings: readonly Finding[]): SluiceError | undefined {
  const problems = findings.filter(({ level }) => level === 'problem');
  if (problems.length === 0) return undefined;
  const lacking = problems.find((finding) => finding.lacking !== undefined);
  return new SluiceError(
    lacking?.lacking ?? 'MACHINE',
    `${problems.length === 1 ? 'a problem was' : `${problems.length} problems were`} found: ${problems.map(({ check }) => check).join(', ')}`,
    { help: 'each is explained above, with a way to fix it; `sluice doctor --plan` prints commands' },
  );
}

export const reportJsonSchema = (): string =>
  `${JSON.stringify(z.toJSONSchema(reportSchema), undefined, 2)}\n`;

function writePicture(path: string, svg: string): void {
  try {
    writeFileSync(path, svg);
  } catch (error) {
    throw new SluiceError('FILE', `${path} cannot be written`, {
      cause: error,
      help: '--map FILE names a file in a folder that is there',
    });
  }
}

/** `sluice doctor`. Resolves to an error when there are problems: the report has been printed. */
export async function runDoctor(
  options: DoctorOptions,
  config: OutputConfig,
  io: CommandIo,
): Promise<SluiceError | undefined> {
  const checks = chooseChecks(options.only, options.skip);
  if (options.undo) return sayResults(undo(undefined, options.force), options, config.json, io);
  if (options.sample > 1) io.progress(`watching rates for ${options.sample} s`);
  const machine = await gather({
    interfaces: options.interfaces,
    sample: options.sample,
    stop: io.stop,
    areas: new Set(checks.map(({ area }) => area)),
    cost: options.budget || options.facts || (config.json && !options.plan && !options.apply),
  });
  io.progressDone();
  if (options.facts) {
    io.out(`${JSON.stringify(machine, undefined, config.json ? undefined : 2)}\n`);
    return undefined;
  }
  const findings = examine(machine, checks);
  const steps = stepsFor(findings, machine, options);
  if (options.apply) return sayResults(apply(steps), options, config.json, io);
  if (options.plan) {
    if (config.json)
      io.out(
        `${JSON.stringify({ steps: steps.map(({ check, risk, riskText, command }) => ({ check, risk, riskText, command })) })}\n`,
      );
    else io.out(planText(steps, findings));
    return undefined;
  }
  const maps = mapOf(machine);
  const budgets = machine.nics.map((nic) => budgetOf(machine, nic));
  const sensor = review(options, machine);
  if (typeof options.map === 'string') writePicture(options.map, mapSvg(maps));
  const error = verdict([...findings, ...(sensor?.findings ?? [])]);
  if (config.json) {
    const report: Report = reportOf({
      interfaces: machine.nics.map(({ name }) => name),
      findings,
      budgets,
      maps,
      sensor,
      plan: planOf(findings),
    });
    io.out(
      `${JSON.stringify({ ...report, ...(error === undefined ? {} : { error: { code: error.code, message: error.message, help: error.help } }) })}\n`,
    );
    return error;
  }
  const paint: CommandIo['paint'] = (style, text) => io.paint(style, text);
  const all = options.all || config.verbose;
  if (options.map === true) io.out(mapText(maps));
  if (options.budget) io.out(budgetText(budgets));
  if (options.map === true || options.budget) {
    if (sensor === undefined) return undefined;
  } else io.out(`${findingsText(findings, all, paint)}\n`);
  if (sensor !== undefined)
    io.out(`${findingsText(sensor.findings, true, paint)}\n# for ${sensor.file}\n${sensor.stanza}`);
  io.say(summaryText([...findings, ...(sensor?.findings ?? [])]));
  return error;
}
