/**
 * Writes the layout of flow records for the native short ways (native/flow.cc) from the TypeScript that declares it, so
 * that none of it is typed twice. `--check` changes nothing and fails when the committed file differs.
 *
 *   node scripts/gen-flow-layout.ts [--check]
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as endpoint from '../src/flow/endpoint.ts';
import { WITHOUT_ACKS } from '../src/flow/gaps.ts';
import * as layout from '../src/flow/layout.ts';
import * as table from '../src/flow/table.ts';
import { TcpFlag } from '../src/flow/tcp-states.ts';
import { Timeout } from '../src/flow/timeouts.ts';
import * as timers from '../src/flow/timers.ts';
import { IpProto } from '../src/packet/decode.ts';

const OUT = join(import.meta.dirname, '..', 'native', 'flow-layout.gen.h');

/** The numbers that a module exports, and those in tables of numbers with the table's name in front. */
function constants(exports: Readonly<Record<string, unknown>>): [string, number][] {
  return Object.entries(exports).flatMap(([name, value]): [string, number][] => {
    if (typeof value === 'number') return [[name, value]];
    if (typeof value !== 'object' || value === null) return [];
    return Object.entries(value)
      .filter((entry): entry is [string, number] => typeof entry[1] === 'number')
      .map(([member, number]) => [`${name}_${member}`, number]);
  });
}

const all = [
  ...constants(layout),
  ...constants(endpoint),
  ...constants(timers),
  ...constants(table),
  ...constants({ WITHOUT_ACKS, TcpFlag, Timeout, IpProto }),
];
const text = [
  '// The layout of flow records. Written by scripts/gen-flow-layout.ts: do not edit.',
  '#pragma once',
  '',
  '#include <cstdint>',
  '',
  'namespace sluice::flow {',
  '',
  ...all.map(([name, value]) => `constexpr int32_t ${name} = ${value};`),
  '',
  '}  // namespace sluice::flow',
  '',
].join('\n');

if (!process.argv.includes('--check')) writeFileSync(OUT, text);
else if (readFileSync(OUT, 'utf8') !== text) {
  process.stderr.write('native/flow-layout.gen.h is out of date: node scripts/gen-flow-layout.ts\n');
  process.exitCode = 1;
}
