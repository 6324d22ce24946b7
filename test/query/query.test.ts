import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sluice } from '../support/command.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'query-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

interface Line {
  [field: string]: unknown;
}

const conn = (ts: number | string, more: Line = {}): Line => ({
  ts,
  uid: `C${ts}`,
  'id.orig_h': '10.0.0.1',
  'id.orig_p': 1000,
  'id.resp_h': '192.0.2.1',
  'id.resp_p': 443,
  proto: 'tcp',
  conn_state: 'SF',
  orig_pkts: 10,
  orig_ip_bytes: 1000,
  resp_pkts: 10,
  resp_ip_bytes: 9000,
  ...more,
});
const SHUNTED = {
  service: 'ssl',
  is_shunted: true,
  orig_shunted_pkts: 4,
  orig_shunted_bytes: 200,
  resp_shunted_pkts: 6,
  resp_shunted_bytes: 4800,
  shunt_trigger: 'tls',
};
const lines = (records: readonly Line[]): string =>
  records.map((record) => `${JSON.stringify(record)}\n`).join('');
const put = (name: string, data: string | Uint8Array): void => writeFileSync(join(dir, name), data);
const ask = async (...args: string[]) => await sluice('query', '--log-dir', dir, ...args);
const failing = async (...args: string[]): Promise<[number | null, string]> => {
  const { code, stderr } = await ask(...args);
  return [code, stderr];
};
const rowsOf = async (...args: string[]): Promise<Line[]> => {
  const { code, stdout, stderr } = await ask('--json', ...args);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return JSON.parse(stdout) as Line[];
};

describe('sluice query', () => {
  test('all files of a log are one table, in every form, a torn line is none of it', async () => {
    put('conn.log', `${lines([conn(1_790_000_000.123456)])}{"ts":1790000`);
    put(
      'conn.2026-11-20-00-00-00.log',
      lines([conn('2026-11-20T00:00:01.000001Z', { 'id.orig_h': '10.0.0.2' })]),
    );
    put('conn.2026-11-19-00-00-00.log.gz', gzipSync(lines([conn(1_780_000_000)])));
    expect(await rowsOf('SELECT ts, id.orig_h AS orig_h FROM conn ORDER BY ts')).toEqual([
      { ts: '2026-05-28 20:26:40', orig_h: '10.0.0.1' },
      { ts: '2026-09-21 14:13:20.123456', orig_h: '10.0.0.1' },
      { ts: '2026-11-20 00:00:01.000001', orig_h: '10.0.0.2' },
    ]);
    expect(
      await rowsOf('SELECT count(*) AS n FROM conn', '--since', '2026-09-01', '--until', '2026-11-01'),
    ).toEqual([{ n: 1 }]);
  });

  test('presets tell what was shunted', async () => {
    put('conn.log', lines([conn(1_790_000_000, SHUNTED), conn(1_790_000_001, { service: 'http' })]));
    expect(await rowsOf('services')).toEqual([
      {
        service: 'http',
        connections: 1,
        shunted: 0,
        packets: 20,
        dropped_packets_percent: 0,
        bytes: 10_000,
        dropped_bytes_percent: 0,
      },
      {
        service: 'ssl',
        connections: 1,
        shunted: 1,
        packets: 20,
        dropped_packets_percent: 50,
        bytes: 10_000,
        dropped_bytes_percent: 50,
      },
    ]);
    expect(await rowsOf('talkers', '--top', '1')).toMatchObject([
      { host: '10.0.0.1', connections: 2, dropped_percent: 25 },
    ]);
    for (const preset of ['servers', 'policies', 'elephants', 'loss', 'states'])
      expect((await rowsOf(preset)).length, preset).toBeGreaterThan(0);
  });

  test('loss counts what was not shunted', async () => {
    const lossy = { orig_bytes: 0, resp_bytes: 8000, missed_bytes: 80 };
    put('conn.log', lines([conn(1_790_000_000, { ...SHUNTED, ...lossy }), conn(1_790_000_001, lossy)]));
    expect(await rowsOf('loss')).toEqual([
      { hour: '2026-09-21 14:00:00', connections: 1, with_gaps: 1, missed_bytes: 80, percent: 1 },
    ]);
  });

  test('presets of the other logs', async () => {
    put(
      'shunt.log',
      lines([
        { ts: 1.5, event: 'end', reason: 'fin', shunt_trigger: 'tls', orig_shunted_pkts: 3, delay: 0.01 },
      ]),
    );
    put(
      'notice.log',
      lines([
        { ts: 1.5, note: 'Sluice::A', msg: 'one' },
        { ts: 2.5, note: 'Sluice::A', msg: 'two' },
      ]),
    );
    put(
      'ssl.log',
      lines([{ ts: 1.5, 'id.resp_h': '192.0.2.1', server_name: 'example.org', version: 'TLSv13' }]),
    );
    put('stats.log', lines([{ ts: 1.5, peer: 'eth1', pkts_proc: 7, 'ledger.passed.pkts': 5 }]));
    expect(await rowsOf('shunts')).toMatchObject([
      { policy: 'tls', reason: 'fin', shunts: 1, packets: 3, delay_median_ms: 10 },
    ]);
    expect(await rowsOf('notices')).toMatchObject([{ note: 'Sluice::A', notices: 2, message: 'two' }]);
    expect(await rowsOf('names')).toMatchObject([{ server_name: 'example.org', handshakes: 1, servers: 1 }]);
    expect(await rowsOf('SELECT ledger.passed.pkts AS pkts FROM stats')).toEqual([{ pkts: 5 }]);
  });

  test('a table, CSV, and the fields that there are', async () => {
    put(
      'conn.log',
      lines([conn(1_790_000_000, { service: 'a,"b"' }), conn(1_790_000_001, { service: '\u001b[31m' })]),
    );
    const sql = 'SELECT uid, service FROM conn ORDER BY ts';
    expect((await ask(sql)).stdout).toBe('uid          service\nC1790000000  a,"b"\nC1790000001  ?[31m\n');
    expect((await ask(sql, '--format', 'csv')).stdout).toBe(
      'uid,service\r\nC1790000000,"a,""b"""\r\nC1790000001,\u001b[31m\r\n',
    );
    expect((await ask('--tables')).stdout).toContain('  missed_bytes  BIGINT\n');
    expect(await rowsOf('SELECT uid FROM conn WHERE false')).toEqual([]);
  });

  test('finished logs become Parquet, once, and are asked as before', async () => {
    const to = join(dir, 'history');
    mkdirSync(to);
    put('conn.2026-11-20-00-00-00.log', lines([conn(1_780_000_000, SHUNTED), conn(1_780_000_001)]));
    put('conn.log', lines([conn(1_790_000_000)]));
    const exported = JSON.parse((await ask('--export', to, '--json')).stdout) as { exported: Line[] };
    expect(exported.exported).toMatchObject([{ rows: 2 }]);
    expect(readdirSync(to)).toEqual(['conn.2026-11-20-00-00-00.parquet']);
    expect(JSON.parse((await ask('--export', to, '--remove', '--json')).stdout)).toMatchObject({
      exported: [],
    });
    expect(readdirSync(dir).toSorted()).toEqual(['conn.log', 'history']);
    const there = await sluice(
      'query',
      '--log-dir',
      to,
      '--json',
      'SELECT id.orig_h AS h, is_shunted FROM conn ORDER BY ts',
    );
    expect(JSON.parse(there.stdout)).toEqual([
      { h: '10.0.0.1', is_shunted: true },
      { h: '10.0.0.1', is_shunted: null },
    ]);
    // Beside logs they are one table; twice the same file is not.
    expect((await ask('--export', dir)).code).toBe(0);
    expect(await rowsOf('SELECT count(*) AS n FROM conn')).toEqual([{ n: 1 }]);
  });

  test('a query sees the logs and nothing else', async () => {
    put('conn.log', lines([conn(1)]));
    for (const sql of [
      "SELECT * FROM read_csv('/etc/passwd')",
      `COPY conn TO '/tmp/query-escapes.csv'`,
      'SET enable_external_access = true',
      "ATTACH '/tmp/query-escapes.db'",
      'INSTALL httpfs',
    ]) {
      const { code, stderr } = await ask(sql);
      expect(code, sql).toBe(1);
      expect(stderr, sql).toContain('error[QUERY]');
    }
  });

  test('what cannot be answered says why', async () => {
    expect(await failing('services')).toEqual([1, expect.stringContaining('there are no logs in')]);
    put('conn.log', '#separator \\x09\n');
    expect(await failing('services')).toEqual([
      1,
      expect.stringContaining("is Zeek's TSV and is passed over"),
    ]);
    put('conn.log', lines([conn(1)]));
    expect(await failing('servces')).toEqual([2, expect.stringContaining('did you mean services?')]);
    expect(await failing()).toEqual([2, expect.stringContaining('nothing is asked')]);
    expect(await failing('notices')).toEqual([1, expect.stringContaining('notice.log, which is not there')]);
    expect(await failing('SELECT nothing FROM conn')).toEqual([1, expect.stringContaining('error[QUERY]')]);
    expect(await failing('services', '--since', 'yesterday')).toEqual([
      2,
      expect.stringContaining('neither a time'),
    ]);
    expect(await failing('services', '--remove')).toEqual([2, expect.stringContaining('go with --export')]);
  });
});
