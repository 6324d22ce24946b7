import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ConnRecord } from '../../src/flow/types.ts';
import { connLine, type ShuntedPart } from '../../src/log/conn-log.ts';
import { object, quoted, sixDecimals, text, texts } from '../../src/log/json-line.ts';
import { noticeLine, shuntLine, statsLine } from '../../src/log/other-logs.ts';

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
    expect(JSON.parse(connLine(RECORD, { ...SHUNTED, recovered: true }))).toMatchObject({ recovered: true });
    expect(JSON.parse(connLine(RECORD, SHUNTED))).not.toHaveProperty('recovered');
  });
});

describe('JSON by hand', () => {
  it('is what JSON.stringify would write, for any text', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (value) => JSON.parse(quoted(value)) === value));
    fc.assert(fc.property(fc.string(), (value) => quoted(value) === JSON.stringify(value)));
    expect(object(text('a', 'x') + texts('b', ['"', '\n']))).toBe('{"a":"x","b":["\\"","\\n"]}');
    expect(quoted('\u007f\ud800')).toBe(JSON.stringify('\u007f\ud800'));
  });

  it('writes times to the microsecond, and valid numbers whatever the input', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 32 - 1 }),
        fc.integer({ min: 0, max: 999_999 }),
        (seconds, micros) => {
          const written = sixDecimals(seconds + micros / 1e6);
          return written === `${seconds}.${String(micros).padStart(6, '0')}`;
        },
      ),
    );
    fc.assert(fc.property(fc.double(), (value) => Number.isFinite(JSON.parse(sixDecimals(value)))));
    expect([0, -1.5, 0.9999996, 1e-7, -1e-7].map(sixDecimals)).toEqual([
      '0.000000',
      '-1.500000',
      '1.000000',
      '0.000000',
      '0.000000',
    ]);
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
