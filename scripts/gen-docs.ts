import { readFileSync, writeFileSync } from 'node:fs';
import { METRICS } from '../src/api/metrics.ts';
import { runSchema } from '../src/base/config.ts';
import { keysOf } from '../src/base/config-text.ts';
import { ERROR_CODES } from '../src/base/errors.ts';
import { driverCounterList } from '../src/gate/losses/nic-counters.ts';
import { type ConnLogOptions, connSchema } from '../src/log/conn-log.ts';
import { noticeSchema, shuntSchema, statsSchema } from '../src/log/other-logs.ts';
import { sslSchemaWithId } from '../src/log/ssl-log.ts';
import { tunnelSchemaWithId } from '../src/log/tunnel-log.ts';
import { statsColumns } from '../src/sensor/stats.ts';

/** Writes the pages of docs/ that are made from the source: `npm run docs`. A test fails when one is stale. */

const root = new URL('../', import.meta.url);

/** A cell of a Markdown table. */
const cell = (text: string) => text.replaceAll('|', '\\|');

export function configurationPage(): string {
  const lines = [
    '# Configuration',
    '',
    'Made from `src/base/config.ts` by `npm run docs`; do not edit.',
    '',
    'Every key is a line of a YAML file that `--config FILE` names, and a flag: `log-dir: /var/log/sluice` is',
    '`--log-dir /var/log/sluice`. Flags win over the file, the file over the defaults. A key that is `true` or `false` has the',
    'flags `--KEY` and `--no-KEY`. Lists are YAML lists, or texts with commas.',
    '',
    'Sizes are bytes, or have a unit: kB, MB, GB are powers of 1000, KiB, MiB, GiB powers of 1024. Times are seconds, or have a',
    'unit: us, ms, s, m, h, d.',
    '',
    '`sluice config check FILE` checks a file, `sluice config show` prints what would be in force and where each value comes from,',
    '`sluice config schema` prints a JSON Schema for editors. An unknown key or value, or two that exclude each other, is an error (exit 2).',
  ];
  let group = '';
  for (const { key, meta, preset, choices } of keysOf(runSchema)) {
    if (meta.group !== group) {
      group = meta.group;
      lines.push('', `## ${group}`, '', '| key | value | default | |', '| --- | --- | --- | --- |');
    }
    const value =
      meta.kind === 'switch'
        ? 'true, false'
        : (choices?.map((choice) => `\`${choice}\``).join(', ') ?? meta.arg ?? 'VALUE');
    const short = meta.short === undefined ? '' : ` (\`${meta.short}\`)`;
    const otherwise = preset === undefined ? (meta.otherwise ?? '') : `\`${preset}\``;
    lines.push(`| \`${key}\`${short} | ${cell(value)} | ${cell(otherwise)} | ${cell(meta.help)} |`);
  }
  return `${lines.join('\n')}\n`;
}

export function errorsPage(): string {
  const lines = [
    '# Errors',
    '',
    'Made from `ERROR_CODES` in `src/base/errors.ts` by `npm run docs`; do not edit.',
    '',
    'An error reads `error[CODE]: what happened`, with its cause below it and the next step behind `help:`, on stderr. With `--json`',
    'stdout has `{"error":{"code","message","cause","help"}}`, or the result with the same member `error` when there is one in spite of it.',
    'Codes are a contract: match on them, not on the text.',
    '',
    '| code | exit | meaning |',
    '| --- | --- | --- |',
  ];
  for (const [code, { exit, meaning }] of Object.entries(ERROR_CODES))
    lines.push(`| \`${code}\` | ${exit} | ${cell(meaning)} |`);
  lines.push(
    '',
    'Exit codes: 0 done, 1 failed, 2 usage or bad configuration, 3 the machine lacks something (the message names it and what still',
    'works), 130 after SIGINT, 0 after SIGTERM.',
  );
  return `${lines.join('\n')}\n`;
}

export function metricsPage(): string {
  const lines = [
    '# Metrics',
    '',
    'Made from `METRICS` in `src/api/metrics.ts` by `npm run docs`; do not edit.',
    '',
    '`/metrics` of the [API](api.md), in the text format of Prometheus. Labels have as many values as there are verdicts, sources, workers',
    'and policies. Beside these there are `sluice_build_info` and the usual ones of the process (`process_*`, `nodejs_*`).',
    '',
    '| metric | kind | labels | |',
    '| --- | --- | --- | --- |',
  ];
  for (const { name, kind, labels = [], help } of METRICS)
    lines.push(
      `| \`${name}\` | ${kind} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${cell(help)} |`,
    );
  return `${lines.join('\n')}\n`;
}

/** Fields that only some settings add, by the setting. */
const CONN_OPTIONS: readonly (readonly [string, ConnLogOptions])[] = [
  ['`vni`, `tunnel-key`', { vni: true }],
  ['`vlan`, `vlan-key`', { vlan: true }],
  ['`gwlb`', { gwlb: true }],
  ['`community-id`', { communityId: true }],
  ['shunted connections', { shunts: true }],
];

export function logFieldsPage(): string {
  const lines = [
    '# Fields of the logs',
    '',
    'Made from the schemas in `src/log/` by `npm run docs`; do not edit. What each field means is in [logs.md](logs.md).',
    '',
    'In the order of the columns of `log-format: zeek`; types are Zeek’s. JSON has the same names and leaves out what is unset.',
  ];
  const all = connSchema(Object.assign({}, ...CONN_OPTIONS.map(([, option]) => option)) as ConnLogOptions);
  const plain = new Set(connSchema().fields.map(({ name }) => name));
  const when = new Map(
    CONN_OPTIONS.flatMap(([setting, option]) =>
      connSchema(option).fields.flatMap(({ name }) => (plain.has(name) ? [] : [[name, setting] as const])),
    ),
  );
  const logs = [
    all,
    sslSchemaWithId,
    tunnelSchemaWithId,
    shuntSchema,
    statsSchema(statsColumns(true)),
    noticeSchema,
  ];
  for (const { log, fields } of logs) {
    lines.push('', `## ${log}.log`, '', '| field | type | with |', '| --- | --- | --- |');
    for (const { name, type } of fields)
      lines.push(`| \`${name}\` | ${type} | ${log === 'conn' ? (when.get(name) ?? '') : ''} |`);
  }
  return `${lines.join('\n')}\n`;
}

export function nicCountersPage(): string {
  const lines = [
    '# Counters of cards',
    '',
    'Made from `BOOKS` in `src/gate/losses/nic-counters.ts` by `npm run docs`; do not edit.',
    '',
    'What the [ledger of losses](losses.md) takes from `ethtool -S`, by driver. `missed`: the card’s own buffer was full, or the bus too slow;',
    '`noBuffer`: no descriptor or page was free; `errors`: the frame was damaged, or of a length that is not allowed; `discarded`: the driver or',
    'the card let it go. *warning*: in no sum. Of names for the same the first that is there counts; `*` is every queue.',
  ];
  let driver = '';
  for (const { driver: of, names, loss } of driverCounterList()) {
    if (of !== driver) lines.push('', `## ${of}`, '', '| counter | |', '| --- | --- |');
    driver = of;
    lines.push(
      `| ${names.map((name) => `\`${name}\``).join(', else ')} | ${loss === undefined ? '*warning*' : `\`${loss}\``} |`,
    );
  }
  lines.push(
    '',
    '## Others',
    '',
    '| counter | |',
    '| --- | --- |',
    '| `rx_missed_errors` | `missed` |',
    '| `rx_errors` | `errors` |',
    '| `rx_dropped` | *warning* |',
  );
  return `${lines.join('\n')}\n`;
}

export const PAGES: Readonly<Record<string, () => string>> = {
  'docs/configuration.md': configurationPage,
  'docs/errors.md': errorsPage,
  'docs/log-fields.md': logFieldsPage,
  'docs/metrics.md': metricsPage,
  'docs/nic-counters.md': nicCountersPage,
};

/** Pages whose file is not what the source makes. */
export function stalePages(): string[] {
  return Object.entries(PAGES)
    .filter(([path, make]) => {
      try {
        return readFileSync(new URL(path, root), 'utf8') !== make();
      } catch {
        return true;
      }
    })
    .map(([path]) => path);
}

if (process.argv[1] === import.meta.filename) {
  for (const [path, make] of Object.entries(PAGES)) writeFileSync(new URL(path, root), make());
}
