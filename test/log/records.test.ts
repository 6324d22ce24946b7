import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ConnRecord } from '../../src/flow/types.ts';
import { connSchema, type ShuntedPart } from '../../src/log/conn-log.ts';
import { jsonWriter, lineOf } from '../../src/log/json-format.ts';
import { count, text, texts, time } from '../../src/log/schema.ts';
import { zeekHeading, zeekWriter } from '../../src/log/zeek-format.ts';
import { connLine, noticeLine, shuntLine, statsLine } from './lines.ts';

const RECORD: ConnRecord = {
  ts: 1_700_000_000.123456,
  uid: 'CHhAvVGS1DHFjwGM9',
  origHost: '192.0.2.1',
  origPort: 51_000,
  respHost: '2001:db8::2',
  respPort: 443,
  proto: 'tcp',
  ipProto: 6,
  service: 'ssl',
  duration: 12.5,
  origBytes: 1000,
  respBytes: 52_428_800,
  connState: 'SF',
  localOrig: true,
  localResp: false,
  missedBytes: 0,
  history: 'ShADadFf',
  origPkts: 20_000,
  origIpBytes: 900_000,
  respPkts: 36_000,
  respIpBytes: 54_000_000,
  tunnelParents: undefined,
  vlan: 100,
  innerVlan: undefined,
};

const SHUNTED: ShuntedPart = {
  origPkts: 19_000,
  origIpBytes: 800_000,
  respPkts: 35_000,
  respIpBytes: 53_000_000,
  trigger: 'tls',
};

describe('conn.log', () => {
  it("has Zeek's names in Zeek's order, and six decimals", () => {
    expect(connLine(RECORD)).toBe(
      '{"ts":1700000000.123456,"uid":"CHhAvVGS1DHFjwGM9","id.orig_h":"192.0.2.1","id.orig_p":51000,"id.resp_h":"2001:db8::2","id.resp_p":443,' +
        '"proto":"tcp","service":"ssl","duration":12.500000,"orig_bytes":1000,"resp_bytes":52428800,"conn_state":"SF","local_orig":true,' +
        '"local_resp":false,"missed_bytes":0,"history":"ShADadFf","orig_pkts":20000,"orig_ip_bytes":900000,"resp_pkts":36000,' +
        '"resp_ip_bytes":54000000,"ip_proto":6}',
    );
  });

  it('leaves out what is unset', () => {
    const bare = JSON.parse(
      connLine({
        ...RECORD,
        service: undefined,
        duration: undefined,
        origBytes: undefined,
        respBytes: undefined,
        history: undefined,
      }),
    );
    for (const key of [
      'service',
      'duration',
      'orig_bytes',
      'resp_bytes',
      'history',
      'tunnel_parents',
      'vlan',
      'is_shunted',
    ]) {
      expect(bare).not.toHaveProperty(key);
    }
    expect(bare).toMatchObject({ orig_pkts: 20_000, missed_bytes: 0 });
  });

  it('writes VLANs only when told, and tunnels as a list', () => {
    expect(JSON.parse(connLine(RECORD, undefined, { vlan: true }))).toMatchObject({ vlan: 100 });
    expect(JSON.parse(connLine({ ...RECORD, tunnelParents: ['C1', 'C2'] }))).toMatchObject({
      tunnel_parents: ['C1', 'C2'],
    });
  });

  it('within: the base fields are whole, the shunted fields say which part was shunted', () => {
    expect(JSON.parse(connLine(RECORD, SHUNTED))).toMatchObject({
      orig_pkts: 20_000,
      orig_ip_bytes: 900_000,
      resp_pkts: 36_000,
      resp_ip_bytes: 54_000_000,
      is_shunted: true,
      orig_shunted_pkts: 19_000,
      orig_shunted_bytes: 800_000,
      resp_shunted_pkts: 35_000,
      resp_shunted_bytes: 53_000_000,
      shunt_trigger: 'tls',
    });
  });

  it('added: the base fields are what the sensor saw; both together are the whole', () => {
    const whole = JSON.parse(connLine(RECORD, SHUNTED)) as Record<string, number>;
    const added = JSON.parse(connLine(RECORD, SHUNTED, { shuntFields: 'added' })) as Record<string, number>;
    for (const [base, shunted] of [
      ['orig_pkts', 'orig_shunted_pkts'],
      ['orig_ip_bytes', 'orig_shunted_bytes'],
      ['resp_pkts', 'resp_shunted_pkts'],
      ['resp_ip_bytes', 'resp_shunted_bytes'],
    ] as const) {
      expect(added[base] + added[shunted]).toBe(whole[base]);
    }
    // Payload comes from sequence numbers and is whole in both.
    expect(added.resp_bytes).toBe(52_428_800);
  });

  it('marks a record that was put together from two runs', () => {
    expect(JSON.parse(connLine({ ...RECORD, recovered: true }, SHUNTED))).toMatchObject({ recovered: true });
    expect(JSON.parse(connLine(RECORD, SHUNTED))).not.toHaveProperty('recovered');
  });
});

interface Odd {
  t?: number | undefined;
  n?: number | undefined;
  s?: string | undefined;
  l?: readonly string[] | undefined;
}
const odd = jsonWriter<Odd>({
  log: 'notice',
  fields: [
    time('t', (r) => r.t),
    count('n', (r) => r.n),
    text('s', (r) => r.s),
    texts('l', 'set[string]', (r) => r.l),
  ],
});
const oddLine = (record: Odd) => lineOf(odd, record);

describe('JSON by hand', () => {
  it('is what JSON.stringify would write, for any text', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (s) => (JSON.parse(oddLine({ s })) as Odd).s === s));
    fc.assert(fc.property(fc.string(), (s) => oddLine({ s }) === JSON.stringify({ s })));
    fc.assert(fc.property(fc.array(fc.string()), (l) => oddLine({ l }) === JSON.stringify({ l })));
    expect(oddLine({ s: '\u007f\ud800' })).toBe(JSON.stringify({ s: '\u007f\ud800' }));
    expect(oddLine({})).toBe('{}');
  });

  it('writes any count as JSON.stringify would, and leaves out what is no number', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (n) => oddLine({ n }) === JSON.stringify({ n })));
    fc.assert(fc.property(fc.nat(), (n) => oddLine({ n }) === JSON.stringify({ n })));
    for (const n of [0, 9, 10, 99, 100, 999_999_999, 2 ** 31 - 1, 2 ** 31, 2 ** 32, -5])
      expect(oddLine({ n })).toBe(JSON.stringify({ n }));
    expect(oddLine({ n: Number.NaN })).toBe('{}');
  });

  it('writes times to the microsecond, and valid numbers whatever the input', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        fc.integer({ min: 0, max: 999_999 }),
        (seconds, micros) =>
          oddLine({ t: seconds + micros / 1e6 }) === `{"t":${seconds}.${String(micros).padStart(6, '0')}}`,
      ),
    );
    fc.assert(fc.property(fc.double(), (t) => Number.isFinite((JSON.parse(oddLine({ t })) as Odd).t)));
    expect([0, -1.5, 0.9999996, 1e-7, -1e-7].map((t) => oddLine({ t }))).toEqual([
      '{"t":0.000000}',
      '{"t":-1.500000}',
      '{"t":1.000000}',
      '{"t":0.000000}',
      '{"t":0.000000}',
    ]);
  });

  it('writes times as RFC 3339 when told to, and intervals as they are', () => {
    const iso = jsonWriter(connSchema(), 'iso');
    expect(JSON.parse(lineOf(iso, RECORD))).toMatchObject({
      ts: '2023-11-14T22:13:20.123456Z',
      duration: 12.5,
    });
  });
});

describe("Zeek's TSV", () => {
  const tsv = zeekWriter<Odd>({
    log: 'notice',
    fields: [
      time('t', (r) => r.t),
      count('n', (r) => r.n),
      text('s', (r) => r.s),
      texts('l', 'set[string]', (r) => r.l),
    ],
  });

  it('has the columns of the JSON, with tabs between them', () => {
    expect(lineOf(zeekWriter(connSchema({ vlan: true })), { ...RECORD, tunnelParents: ['C1', 'C2'] })).toBe(
      '1700000000.123456\tCHhAvVGS1DHFjwGM9\t192.0.2.1\t51000\t2001:db8::2\t443\ttcp\tssl\t12.500000\t1000\t52428800\tSF\tT\tF\t0\t' +
        'ShADadFf\t20000\t900000\t36000\t54000000\tC1,C2\t6\t100\t-',
    );
    const { fields, types } = zeekHeading(connSchema());
    expect(fields).toEqual(Object.keys(JSON.parse(connLine({ ...RECORD, tunnelParents: [] })) as object));
    expect(types.join(' ')).toBe(
      'time string addr port addr port enum string interval count count string bool bool count string count count count count set[string] count',
    );
  });

  it.each<[string, Odd, string]>([
    ['unset', {}, '-\t-\t-\t-'],
    ['empty', { t: 0, n: 0, s: '', l: [] }, '0.000000\t0\t(empty)\t(empty)'],
    [
      'what looks like a place-holder',
      { s: '-', l: ['-', '(empty)', ''] },
      '-\t-\t\\x2d\t\\x2d,\\x28empty),(empty)',
    ],
    ['separators and control characters', { s: 'a\tb\nc,d', l: ['a,b'] }, '-\t-\ta\\x09b\\x0ac,d\ta\\x2cb'],
    ['a backslash, a C1 character, UTF-8', { s: '\\x\u0085é' }, '-\t-\t\\\\x\\xc2\\x85é\t-'],
    ['no number', { n: Number.NaN }, '-\t-\t-\t-'],
  ])('%s', (_, record, line) => {
    expect(lineOf(tsv, record)).toBe(line);
  });

  it('keeps to one line and four columns whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.array(fc.string()), (s, l) => {
        const line = lineOf(tsv, { s, l });
        return line.split('\t').length === 4 && !line.includes('\n');
      }),
    );
  });
});

describe('the other logs', () => {
  it('write valid records', () => {
    const shunt = JSON.parse(
      shuntLine({
        ts: 1.5,
        uid: 'C1',
        origHost: '192.0.2.1',
        origPort: 1,
        respHost: '192.0.2.2',
        respPort: 2,
        proto: 'tcp',
        event: 'end',
        trigger: 'bulk',
        reason: 'fin',
        origPkts: 1,
        origBytes: 2,
        respPkts: 3,
        respBytes: 4,
        delay: 0.000_25,
        last: 2.25,
      }),
    );
    expect(shunt).toEqual({
      ts: 1.5,
      uid: 'C1',
      'id.orig_h': '192.0.2.1',
      'id.orig_p': 1,
      'id.resp_h': '192.0.2.2',
      'id.resp_p': 2,
      proto: 'tcp',
      event: 'end',
      shunt_trigger: 'bulk',
      reason: 'fin',
      orig_shunted_pkts: 1,
      orig_shunted_bytes: 2,
      resp_shunted_pkts: 3,
      resp_shunted_bytes: 4,
      delay: 0.000_25,
      last_packet: 2.25,
    });
    const stats = JSON.parse(
      statsLine({
        ts: 1,
        peer: 'eth1',
        pktsProc: 10,
        bytesRecv: 1000,
        pktsDropped: Number.NaN,
        activeConns: 3,
        conns: 4,
        ledger: { seen: { pkts: 12, bytes: 1200 }, shunted: { pkts: 2, bytes: 200 } },
      }),
    );
    expect(stats).toMatchObject({
      peer: 'eth1',
      pkts_proc: 10,
      active_conns: 3,
      'ledger.seen.pkts': 12,
      'ledger.shunted.bytes': 200,
    });
    expect(stats).not.toHaveProperty('pkts_dropped');
    expect(JSON.parse(noticeLine({ ts: 1, note: 'Sluice::Torn_Line', msg: 'a "b"' }))).toEqual({
      ts: 1,
      note: 'Sluice::Torn_Line',
      msg: 'a "b"',
    });
  });
});
