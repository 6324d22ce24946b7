import { actionText } from '../rules/spec.ts';
import type { AttackRecord } from './responder.ts';

const round = (value: number, digits: number): number => Number(value.toFixed(digits));

/** As `--json` has it. */
export function attackDocument(record: AttackRecord): object {
  const { judgement, rules, evidence, ...rest } = record;
  return {
    ...rest,
    began: round(rest.began, 3),
    noticed: round(rest.noticed, 3),
    ended: rest.ended === undefined ? null : round(rest.ended, 3),
    peak: Math.round(rest.peak),
    usual: Math.round(rest.usual),
    threshold: Math.round(rest.threshold),
    packets: Math.round(rest.packets),
    uncovered: round(rest.uncovered, 4),
    usualShare: round(rest.usualShare, 4),
    attack: judgement.attack,
    surprise: judgement.attack ? null : judgement.surprise,
    why: judgement.why,
    evidence,
    rules: rules.map(({ action, ...rule }) => ({ ...rule, action: actionText(action) })),
  };
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

/** For people: two lines, and two for each rule. */
export function attackText(record: AttackRecord): string {
  const { judgement, rules, evidence, notes } = record;
  const head = judgement.attack ? record.kind : `no attack: ${judgement.surprise}`;
  const time = new Date(record.began * 1000).toISOString();
  const lasts =
    record.ended === undefined ? 'lasts' : `${Math.max(0, record.ended - record.began).toFixed(1)} s`;
  return [
    `${time}  ${head}  ${record.target}  ${Math.round(record.peak)} packets/s (usual ${Math.round(record.usual)})  ${lasts}`,
    `  ${judgement.why}; ${evidence.sources} sources in ${evidence.samples} samples; noticed after ${(record.noticed - record.began).toFixed(2)} s`,
    ...rules.map(
      ({ action, expr, lang, covers, toTarget, why }) =>
        `  ${actionText(action)}  ${lang === 'tcpdump' ? '' : `${lang}: `}${expr}\n    matches ${percent(covers)} of it, ${toTarget.matched} of ${toTarget.of} usual packets (below ${percent(toTarget.upper)}): ${why}`,
    ),
    ...(judgement.attack ? [`  matched by no rule: ${percent(record.uncovered)}`] : []),
    ...notes.map((note) => `  ${note}`),
    '',
  ].join('\n');
}
