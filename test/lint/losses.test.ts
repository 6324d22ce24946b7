import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { LOSSES } from '../../src/flow/index.ts';
import type { Gate } from '../../src/gate/index.ts';
import { SlLedger } from '../../src/gate/layout.gen.ts';
import { VERDICTS } from '../../src/gate/layout.ts';
import { readLedger } from '../../src/gate/ledger.ts';
import { type CounterReading, gateReadings, PathReader } from '../../src/gate/losses/index.ts';
import { driverCounterList } from '../../src/gate/losses/nic-counters.ts';
import { engineReadings, logReadings } from '../../src/sensor/losses/engine-readings.ts';
import { queueReadings, stationReadings } from '../../src/sensor/losses/own-counters.ts';
import { statsBuffer } from '../../src/sensor/setup.ts';
import type { Station } from '../../src/sensor/station.ts';

/** docs/losses.md names for every counter of the ledger the test that forces it: nothing is left out, nothing made up. */

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Readings of a run and of a gate on which nothing has happened: each counter that there is. */
function everyCounter(): Set<string> {
  const out: CounterReading[] = [];
  new PathReader().read([{ ifname: 'lo', mode: 'none', sockets: false }], true, out);
  const gate = {
    ifname: 'eth1',
    ledger: () => readLedger(new Uint32Array(SlLedger.size / 4)),
    steering: () => ({ lost: 0, arrived: { pkts: 0, bytes: 0 } }),
    sampled: () => ({ sampleLost: { pkts: 0, bytes: 0 } }),
  } as unknown as Gate;
  gateReadings(gate, out);
  for (const kind of ['interface', 'udp'] as const) {
    const stats = [new Float64Array(statsBuffer())];
    stationReadings({ name: kind, kind, gate, stats } as unknown as Station, out);
  }
  queueReadings([], out);
  const none = { lost: 0, waiting: 0, failures: 0 };
  const sink = { name: 'sink', sent: 0, ...none };
  logReadings({ lines: 0, bytes: 0, rotations: 0, ...none, sinks: [sink] }, out);
  engineReadings('file', { handled: 0, unparsed: 0, evicted: 0, losses: new Float64Array(LOSSES) }, out);
  return new Set(out.map(({ stage, counter }) => `${stage} ${counter}`));
}

interface Row {
  /** `stage counter`; a counter may end in a star. */
  counters: string[];
  tests: string[];
}

const codes = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1]);

function rows(): Row[] {
  const page = readFileSync(join(root, 'docs/losses.md'), 'utf8');
  const section = page.slice(page.indexOf('## Which test forces what'));
  return [...section.matchAll(/^\| (`.*) \| .* \| (`.*) \|$/gm)].map(([, left, right]) => {
    const [stage, ...counters] = codes(left);
    return { counters: counters.map((counter) => `${stage} ${counter}`), tests: codes(right) };
  });
}

/** A test file, with what it takes from files beside it. */
function textOf(path: string): string {
  const text = readFileSync(path, 'utf8');
  const beside = [...text.matchAll(/from '(\.\/[^']+)'/g)].map((match) => join(dirname(path), match[1]));
  return [text, ...beside.map((each) => readFileSync(each, 'utf8'))].join('\n');
}

const isStar = (counter: string): boolean => counter.endsWith('.*');
const fits = (pattern: string, counter: string): boolean =>
  isStar(pattern) ? counter.startsWith(pattern.slice(0, -1)) : pattern === counter;

const counters = [...everyCounter()];
const table = rows();

describe('the table of docs/losses.md', () => {
  it('knows the counters of verdicts, bad datagrams and ends of shunts', () => {
    expect(counters.length).toBeGreaterThan(70);
    expect(counters.filter((counter) => counter.startsWith('gate reason.')).length).toBe(VERDICTS.length - 4);
  });

  it.each(counters)('%s is in it, once', (counter) => {
    expect(table.filter((row) => row.counters.some((pattern) => fits(pattern, counter))).length).toBe(1);
  });

  it('has no counter that there is not', () => {
    const cards = driverCounterList().flatMap(({ names, loss }) =>
      names.map((name) => `nic ${loss === undefined ? '' : `${loss}.`}${name}`),
    );
    // A driver's loss that sockets tell themselves.
    const all = [...counters, ...cards, 'nic rx_queue_*_drops'];
    for (const pattern of table.flatMap((row) => row.counters))
      expect(
        all.some((counter) => fits(pattern, counter)),
        pattern,
      ).toBe(true);
  });

  it.each(table.flatMap((row) => row.tests.map((test) => [test, row] as const)))(
    '%s is there, and is about $counters',
    (test) => {
      expect(existsSync(join(root, `${test}.test.ts`))).toBe(true);
    },
  );

  it.each(table.flatMap((row) => row.counters.map((counter) => [counter, row] as const)))(
    '%s is looked at by the tests that are named',
    (pattern, row) => {
      const text = row.tests.map((test) => textOf(join(root, `${test}.test.ts`))).join('\n');
      const names = counters
        .filter((counter) => fits(pattern, counter))
        .map((counter) => counter.split(' ')[1]);
      for (const name of names.length === 0 ? [pattern.split(' ')[1]] : names) {
        const last = name.replace(/^(?:reason|bad|shunts\.ended|missed|noBuffer|errors|discarded)\./, '');
        expect(text.includes(last), `${row.tests.join(', ')}: ${last}`).toBe(true);
      }
    },
  );
});
