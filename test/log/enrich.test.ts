import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Enricher, type EnrichTotals, type Meaning } from '../../src/log/enrich/enricher.ts';
import { type Line, logFileLines } from '../../src/log/enrich/lines.ts';
import { ShuntIndex } from '../../src/log/enrich/shunts.ts';
import { corpusRoot } from '../flow/support/corpus.ts';
import { sluice } from '../support/command.ts';

const root = corpusRoot();
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-enrich-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const file = (name: string, content: string | Buffer): string => {
  const path = join(dir, name);
  writeFileSync(path, content);
  return path;
};

/** A shunt from `from` to `to` of a download from port 443, with its start and end. */
function shunted(port: number, from: number, to: number, uid?: string, more: object = {}): string {
  const id = {
    'id.orig_h': '10.0.0.2',
    'id.orig_p': port,
    'id.resp_h': '10.0.0.1',
    'id.resp_p': 443,
    proto: 'tcp',
    ...(uid === undefined ? {} : { uid }),
  };
  const end = {
    ts: to + 1,
    ...id,
    event: 'end',
    shunt_trigger: 'tls',
    reason: 'fin',
    orig_shunted_pkts: 3,
    orig_shunted_bytes: 156,
    resp_shunted_pkts: 100,
    resp_shunted_bytes: 150_000,
    last_packet: to,
    ...more,
  };
  return `${JSON.stringify({ ts: from, ...id, event: 'start', shunt_trigger: 'tls' })}\n${JSON.stringify(end)}\n`;
}

async function enriched(
  log: string | Buffer,
  shunts: string | Buffer,
  meaning: Meaning = 'added',
): Promise<{ text: string; totals: EnrichTotals }> {
  const index = new ShuntIndex();
  await index.read(file('shunt.log', shunts));
  const path = file('log', log);
  const enricher = new Enricher(index, meaning, 5);
  for await (const line of logFileLines(path)) enricher.survey(line);
  enricher.begin();
  const out: Buffer[] = [];
  for await (const line of logFileLines(path)) {
    out.push(enricher.enrich(line));
    if (line.ended) out.push(Buffer.from('\n'));
  }
  return { text: Buffer.concat(out).toString(), totals: enricher.finish() };
}

const conn = (port: number, ts: number, duration: number, uid: string): object => ({
  ts,
  uid,
  'id.orig_h': '10.0.0.2',
  'id.orig_p': port,
  'id.resp_h': '10.0.0.1',
  'id.resp_p': 443,
  proto: 'tcp',
  duration,
});
const json = (...records: object[]): string =>
  records.map((record) => `${JSON.stringify(record)}\n`).join('');

const HEADING = [
  '#separator \\x09',
  '#set_separator\t,',
  '#unset_field\t-',
  '#path\tconn',
  '#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration',
  '#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tinterval',
];

describe('enrich', () => {
  it("joins conn.log by what both know of the connection and its time, in JSON and in Zeek's TSV", async () => {
    const shunts = shunted(5000, 100, 109) + shunted(5001, 100, 109);
    const first = await enriched(
      // The same ports again, later: another connection.
      json(conn(5000, 99, 11, 'C1'), conn(5000, 500, 1, 'C2'), conn(7, 99, 11, 'C3')),
      shunts,
    );
    const [line, later, other] = first.text.trimEnd().split('\n');
    expect(JSON.parse(line)).toEqual({
      ...conn(5000, 99, 11, 'C1'),
      is_shunted: true,
      orig_shunted_pkts: 3,
      orig_shunted_bytes: 156,
      resp_shunted_pkts: 100,
      resp_shunted_bytes: 150_000,
      shunt_trigger: 'tls',
      shunt_meaning: 'added',
    });
    expect([later, other].join('\n')).toBe(json(conn(5000, 500, 1, 'C2'), conn(7, 99, 11, 'C3')).trimEnd());
    expect(first.totals).toMatchObject({
      lines: 3,
      joined: 1,
      shunts: 2,
      shuntsJoined: 1,
      shuntsUnjoined: 1,
    });

    const tsv = [
      ...HEADING,
      '99.000000\tC1\t10.0.0.1\t443\t10.0.0.2\t5001\ttcp\t11.0',
      'torn line',
      '99.0\tC2\t10.0.0.1\t443\t10.0.0.9\t5001\ttcp\t-',
      '#close\t2026-11-21-00-00-00',
      '',
    ];
    const second = await enriched(tsv.join('\n'), shunts, 'within');
    const rows = second.text.split('\n');
    expect(rows[4]).toMatch(/\tduration\tis_shunted\torig_shunted_pkts\t.*\tshunt_meaning$/);
    expect(rows[5]).toMatch(/\tbool\tcount\tcount\tcount\tcount\tstring\tstring$/);
    // The other way around: so are the counts.
    expect(rows[6]).toBe(`${tsv[6]}\tT\t100\t150000\t3\t156\ttls\twithin`);
    expect(rows.slice(7)).toEqual(['torn line', `${tsv[8]}${'\t-'.repeat(7)}`, tsv[9], '']);
    expect(second.totals).toMatchObject({ lines: 3, joined: 1, malformed: 1 });
  });

  it('joins by uid whatever the times, and adds several shunts of a connection up', async () => {
    const shunts = shunted(5000, 100, 109, 'C1') + shunted(5000, 200, 209, 'C1') + shunted(5000, 105, 107);
    const { text, totals } = await enriched(json(conn(5000, 0, 1, 'C1'), conn(5000, 104, 4, 'C9')), shunts);
    const [one, two] = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(one).toMatchObject({ resp_shunted_pkts: 200 });
    expect(two).toMatchObject({ resp_shunted_pkts: 100 });
    expect(totals).toMatchObject({ joined: 2, shuntsJoined: 3 });
  });

  it('gives what fits several lines alike to none, and says so', async () => {
    const lines = json(conn(5000, 99, 11, 'C1'), conn(5000, 98, 11, 'C2'));
    const { text, totals } = await enriched(lines, shunted(5000, 100, 109));
    expect(text).toBe(lines);
    expect(totals).toMatchObject({ joined: 0, shuntsAmbiguous: 1, shuntsUnjoined: 0 });
    // One that overlaps is better than one that is near.
    const near = await enriched(
      json(conn(5000, 99, 11, 'C1'), conn(5000, 112, 1, 'C2')),
      shunted(5000, 100, 109),
    );
    expect(near.totals).toMatchObject({ joined: 1, shuntsJoined: 1, shuntsAmbiguous: 0 });
  });

  it("joins flow events of eve.json in Suricata's units, and leaves all else alone", async () => {
    const flow = {
      timestamp: '1970-01-01T00:02:00.000000+0000',
      event_type: 'flow',
      src_ip: '10.0.0.2',
      src_port: 5000,
      dest_ip: '10.0.0.1',
      dest_port: 443,
      proto: 'TCP',
      vlan: [7],
      flow: {
        pkts_toserver: 9,
        start: '1970-01-01T00:01:39.000000+0000',
        end: '1970-01-01T00:01:50.000000+0000',
      },
    };
    const alert = '{"event_type":"alert","big":12345678901234567890,  "src_ip":"10.0.0.2"}\r\n';
    const { text, totals } = await enriched(
      `${JSON.stringify(flow)}\n${alert}{"event_type":"flow"`,
      shunted(5000, 100, 109),
    );
    const [first, ...rest] = text.split('\n');
    expect(JSON.parse(first)).toEqual({
      ...flow,
      shunted: {
        pkts_toserver: 3,
        pkts_toclient: 100,
        bytes_toserver: 156 + 3 * 18,
        bytes_toclient: 150_000 + 100 * 18,
        trigger: 'tls',
        meaning: 'added',
      },
    });
    expect(rest.join('\n')).toBe(`${alert}{"event_type":"flow"`);
    expect(totals).toMatchObject({ lines: 3, joined: 1, malformed: 1 });
  });

  it.skipIf(root === undefined)(
    "takes Zeek's own conn.logs: every line stays, the shunted one gets its counts",
    async () => {
      let logs = 0;
      for (const name of readdirSync(root as string)) {
        const path = join(root as string, name, 'conn.log');
        if (!existsSync(path)) continue;
        const log = readFileSync(path, 'utf8');
        const lines = log.split('\n');
        const fields =
          lines
            .find((line) => line.startsWith('#fields'))
            ?.split('\t')
            .slice(1) ?? [];
        const at = lines.findIndex((line) => line !== '' && !line.startsWith('#'));
        if (at < 0 || !fields.includes('uid')) continue;
        const uid = lines[at].split('\t')[fields.indexOf('uid')];
        const { text, totals } = await enriched(log, shunted(5000, 100, 109, uid));
        const now = text.split('\n');
        expect(now, name).toHaveLength(lines.length);
        for (const [i, line] of lines.entries())
          expect(now[i].startsWith(line), `${name}: ${line}`).toBe(true);
        expect(now[at].slice(lines[at].length).split('\t'), name).toHaveLength(8);
        expect(totals, name).toMatchObject({ joined: 1, malformed: 0, shuntsJoined: 1 });
        logs++;
      }
      expect(logs).toBeGreaterThan(50);
    },
  );

  it('changes nothing that it does not understand, byte for byte, and nothing twice', async () => {
    const shunts = shunted(5000, 100, 109);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        // A heading would make a table of what follows.
        const noise = Buffer.from(bytes.map((byte) => (byte === 0x23 ? 0x24 : byte)));
        const { text } = await enriched(noise, shunts);
        expect(text).toBe(noise.toString());
      }),
      { numRuns: 60 },
    );
    const once = await enriched(json(conn(5000, 99, 11, 'C1')), shunts);
    const twice = await enriched(once.text, shunts);
    expect(twice.text).toBe(once.text);
    expect(twice.totals).toMatchObject({ joined: 0, already: 1 });
  });

  it('is bounded: too many shunts are refused, a line without an end goes by in pieces', async () => {
    const index = new ShuntIndex(2);
    const many = Array.from({ length: 3 }, (_, i) => shunted(5000 + i, 1, 2)).join('');
    await expect(index.read(file('many.log', many))).rejects.toMatchObject({ code: 'LIMIT' });
    const long = `{"a":"${'x'.repeat(9 * 2 ** 20)}"}\n${json(conn(5000, 99, 11, 'C1'))}`;
    const seen: Line[] = [];
    for await (const { bytes, whole, ended } of logFileLines(file('long', long)))
      seen.push({ bytes: bytes.subarray(0, 0), whole, ended });
    expect(seen.filter(({ whole }) => whole)).toHaveLength(1);
    const { text, totals } = await enriched(long, shunted(5000, 100, 109));
    expect(text.length).toBeGreaterThan(long.length);
    expect(text.startsWith(long.slice(0, long.indexOf('\n')))).toBe(true);
    expect(totals).toMatchObject({ joined: 1 });
  });

  it('as a command: packed logs in, a file out, totals, and what is wrong', async () => {
    const log = file('conn.log.gz', gzipSync(json(conn(5000, 99, 11, 'C1'))));
    const shunts = file('s.log', shunted(5000, 100, 109));
    const out = join(dir, 'out.log');
    const done = await sluice('enrich', log, '--shunts', shunts, '-w', out, '--json');
    expect(JSON.parse(done.stdout)).toMatchObject({ lines: 1, joined: 1, shuntsAmbiguous: 0 });
    expect(JSON.parse(readFileSync(out, 'utf8'))).toMatchObject({ is_shunted: true, shunt_meaning: 'added' });
    const bad: [string[], string][] = [
      [['enrich', join(dir, 'none'), '--shunts', shunts], 'FILE'],
      [['enrich', log, '--shunts', join(dir, 'none')], 'FILE'],
      [['enrich', '-', '--shunts', shunts], 'USAGE'],
      [['enrich', log], 'USAGE'],
      [['enrich', out, '--shunts', shunts, '-w', out], 'USAGE'],
      [['enrich', log, '--shunts', shunts, '--meaning', 'both'], 'USAGE'],
    ];
    for (const [args, code] of bad)
      expect((await sluice(...args)).stderr, args.join(' ')).toContain(`error[${code}]`);
  });
});
