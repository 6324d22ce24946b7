import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { flowOfText } from '../../src/api/flow-text.ts';
import { searchTail } from '../../src/api/log-tail.ts';
import { pointOf } from '../../src/api/point.ts';
import { whyOf } from '../../src/api/why.ts';
import type { FlowAnswer } from '../../src/sensor/live-gate.ts';
import { RunTallies, type TallyNews, WorkerTallies } from '../../src/sensor/tallies.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'board-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('a flow as people paste it', () => {
  const a = { addr: '10.0.0.1', port: 443 };
  const b = { addr: '10.0.0.2', port: 51_000 };
  test.each([
    'tcp 10.0.0.1:443 10.0.0.2:51000',
    '10.0.0.1:443 10.0.0.2:51000',
    'TCP 10.0.0.1 443 10.0.0.2 51000',
    '10.0.0.1\t443\t10.0.0.2\t51000\ttcp',
    '10.0.0.1:443 -> 10.0.0.2:51000',
    '10.0.0.1:443 ↔ 10.0.0.2:51000',
    '10.0.0.1, 443, 10.0.0.2, 51000',
  ])('%s', (text) => expect(flowOfText(text)).toMatchObject({ proto: 'tcp', a, b }));

  test('IPv6 with and without brackets', () => {
    const flow = { proto: 'udp', a: { addr: 'fd00::1', port: 53 }, b: { addr: '2001:db8::2', port: 4000 } };
    expect(flowOfText('udp [fd00::1]:53 [2001:db8::2]:4000')).toMatchObject(flow);
    expect(flowOfText('udp fd00::1 53 2001:db8::2 4000')).toMatchObject(flow);
  });

  test.each([
    ['tcp 10.0.0.1:443 10.0.0.2:51000 vlan 100', { vlan: 100, innerVlan: 0, vni: 0 }],
    ['vlan=100.200, 10.0.0.1 443 10.0.0.2 51000', { vlan: 100, innerVlan: 200 }],
    ['10.0.0.1:443 -> 10.0.0.2:51000 VNI 16777215', { vlan: 0, vni: 0xff_ffff }],
    ['10.0.0.1:443 10.0.0.2:51000 geneve-vni:7 vlan 3', { vlan: 3, vni: 0, geneveVni: 7 }],
  ])('%s has ids', (text, tags) => expect(flowOfText(text)).toMatchObject({ proto: 'tcp', a, b, ...tags }));

  test.each(['vlan 4095', 'vlan', 'vni 16777216', 'vni 5.6', 'vlan 1.4095'])('ids: not %s', (tag) =>
    expect(() => flowOfText(`10.0.0.1:443 10.0.0.2:51000 ${tag}`)).toThrow(
      expect.objectContaining({ code: 'USAGE' }),
    ),
  );

  test.each(['', 'tcp', 'tcp 10.0.0.1', '10.0.0.1:443 fd00::1', 'xyz 10.0.0.1:1 10.0.0.2:2', '1 2 3 4 5'])(
    'not %s',
    (text) => expect(() => flowOfText(text)).toThrow(expect.objectContaining({ code: 'USAGE' })),
  );
});

const line = (port: number, more = {}): string =>
  JSON.stringify({
    'id.orig_h': '10.0.0.2',
    'id.orig_p': port,
    'id.resp_h': '10.0.0.1',
    'id.resp_p': 443,
    proto: 'tcp',
    ...more,
  });

describe('the end of a log', () => {
  const flow = flowOfText('tcp 10.0.0.1:443 10.0.0.2:51000');

  test('has the lines of that flow alone, whichever side began', async () => {
    const path = join(dir, 'conn.log');
    writeFileSync(
      path,
      `${line(51_001)}\n{broken 10.0.0.1 10.0.0.2\n${line(51_000, { uid: 'C1' })}\n${line(51_000, { proto: 'udp' })}\n`,
    );
    const found = await searchTail(path, flow);
    expect(found?.records).toMatchObject([{ uid: 'C1' }]);
    expect(found?.whole).toBe(true);
  });

  test('ids that were asked for are not others; none is another one only where the log has them', async () => {
    const path = join(dir, 'conn.log');
    const records = [{ uid: 'none' }, { uid: 'a', vlan: 100 }, { uid: 'b', vlan: 7, 'id.ctx.vxlan_vni': 5 }];
    writeFileSync(path, records.map((more) => `${line(51_000, more)}\n`).join(''));
    const found = async (ids: string, columns = { vlan: false, tunnel: false }): Promise<unknown[]> => {
      const asked = flowOfText(`tcp 10.0.0.1:443 10.0.0.2:51000 ${ids}`);
      return ((await searchTail(path, asked, columns))?.records ?? []).map(({ uid }) => uid);
    };
    expect(await found('')).toEqual(['none', 'a', 'b']);
    expect(await found('vlan 100')).toEqual(['none', 'a']);
    expect(await found('vlan 100', { vlan: true, tunnel: false })).toEqual(['a']);
    expect(await found('vni 5', { vlan: false, tunnel: true })).toEqual(['b']);
    expect(await found('vlan 7 vni 6', { vlan: true, tunnel: true })).toEqual([]);
  });

  test('in the format of Zeek too', async () => {
    const path = join(dir, 'conn.log');
    const fields = ['ts', 'id.orig_h', 'id.orig_p', 'id.resp_h', 'id.resp_p', 'proto', 'history'];
    writeFileSync(
      path,
      `#separator \\x09\n#fields\t${fields.join('\t')}\n1.0\t10.0.0.1\t443\t10.0.0.2\t51000\ttcp\t-\n`,
    );
    const found = await searchTail(path, flow);
    expect(found?.records).toEqual([
      {
        ts: '1.0',
        'id.orig_h': '10.0.0.1',
        'id.orig_p': '443',
        'id.resp_h': '10.0.0.2',
        'id.resp_p': '51000',
        proto: 'tcp',
      },
    ]);
  });

  test('is bounded in bytes and in records, and says so', async () => {
    const path = join(dir, 'conn.log');
    writeFileSync(path, `${line(51_000, { uid: 'first' })}\n${`${line(51_000, { uid: 'x' })}\n`.repeat(50)}`);
    const found = await searchTail(path, flow, undefined, 1000);
    expect(found).toMatchObject({ bytes: 1000, whole: false });
    expect(found?.records.length).toBeGreaterThan(0);
    expect((await searchTail(path, flow))?.records.length).toBe(20);
    expect(await searchTail(join(dir, 'nothing'), flow)).toBeUndefined();
  });
});

const tail = (record?: object) => ({
  records: record === undefined ? [] : [record as Record<string, unknown>],
  bytes: 10,
  whole: true,
});

describe('why a sensor did not see it', () => {
  const flow = flowOfText('10.0.0.1:1 10.0.0.2:2');
  const side = { pkts: 3, bytes: 400, ipBytes: 300, payloadBytes: 100 };
  const shunt = {
    proto: 'tcp',
    a: { addr: '10.0.0.1', port: 1 },
    b: { addr: '10.0.0.2', port: 2 },
    vlan: 0,
    innerVlan: 0,
    vni: 0,
    owner: 'run',
    trigger: 'TLS_ESTABLISHED',
    since: 0,
    last: 1,
    expires: null,
    state: 'shunted' as const,
    ab: side,
    ba: side,
    tcp: null,
  };
  const gate: FlowAnswer = {
    interface: 'eth1',
    keys: { vlan: false, tunnel: false },
    shunt: null,
    followed: false,
    pairs: [],
    holds: [],
    exceptions: [],
  };

  test('the gate drops it, or soon will', () => {
    expect(whyOf(flow, [gate, { ...gate, shunt }], undefined)).toMatchObject({
      why: 'shunted',
      text: expect.stringContaining(
        'TLS_ESTABLISHED since 1970-01-01T00:00:00Z: the gate of eth1 has dropped 6 packets',
      ) as string,
    });
    expect(whyOf(flow, [{ ...gate, shunt: { ...shunt, state: 'armed' } }], undefined).why).toBe('armed');
    expect(whyOf(flow, [{ ...gate, shunt: { ...shunt, state: 'ending' } }], undefined).why).toBe('ending');
    const pair = {
      a: '10.0.0.1',
      b: '10.0.0.0/8',
      vlan: 0,
      innerVlan: 0,
      owner: '',
      expires: null,
      last: null,
    };
    expect(whyOf(flow, [{ ...gate, pairs: [{ ...pair, ab: side, ba: side }] }], undefined).why).toBe('pair');
  });

  test('it was seen, and what kept it from being shunted', () => {
    const answer = whyOf(flow, [{ ...gate, followed: true, exceptions: ['10.0.0.0/8'] }], tail());
    expect(answer).toMatchObject({
      why: 'passing',
      text: expect.stringContaining('10.0.0.0/8 is never shunted') as string,
    });
  });

  test('it has ended, whole or in part, or nobody knows of it', () => {
    expect(whyOf(flow, [gate], tail({ resp_shunted_pkts: 4, resp_shunted_bytes: 5000 })).why).toBe(
      'ended-shunted',
    );
    expect(whyOf(flow, [gate], tail({ history: 'ShADadFf' })).why).toBe('ended-whole');
    expect(whyOf(flow, [gate], tail())).toMatchObject({
      why: 'unknown',
      text: expect.stringContaining('conn.log does not have it') as string,
    });
    expect(whyOf(flow, [], undefined)).toMatchObject({
      why: 'unknown',
      text: expect.stringContaining('no conn.log') as string,
    });
  });
});

const record = (host: string, bytes: number, service?: string) =>
  ({ origHost: host, respHost: '192.0.2.1', origIpBytes: bytes, respIpBytes: 0, service }) as never;

describe('tallies', () => {
  test('are told once, sums over all workers, talkers only of late', () => {
    const told: TallyNews[] = [];
    const worker = new WorkerTallies((news) => told.push(news));
    worker.tell(0);
    worker.ended(record('10.0.0.1', 100, 'ssl'));
    worker.ended(record('10.0.0.2', 300));
    worker.tell(1);
    worker.tell(3);
    expect(told).toHaveLength(1);
    const run = new RunTallies();
    run.add(told[0], 0);
    run.add(told[0], 200);
    expect(run.services(9)).toMatchObject([
      { name: 'unknown', bytes: 600 },
      { name: 'ssl', connections: 2, bytes: 200 },
    ]);
    expect(run.talkers(2, 250)).toMatchObject([
      { name: '192.0.2.1', bytes: 800 },
      { name: '10.0.0.2', bytes: 600 },
    ]);
    expect(run.talkers(1, 310)).toMatchObject([{ name: '192.0.2.1', bytes: 400 }]);
    expect(run.talkers(1, 900)).toEqual([]);
  });

  test('the heavy ones stay however many come', () => {
    const told: TallyNews[] = [];
    const worker = new WorkerTallies((news) => told.push(news));
    for (let i = 0; i < 20_000; i++) {
      worker.ended(record(`10.1.${i >> 8}.${i & 255}`, 1));
      if (i % 10 === 0) worker.ended(record('10.0.0.7', 50));
    }
    worker.tell();
    const [news] = told;
    expect(news.hosts.length).toBe(64);
    expect(news.hosts.slice(0, 2)).toMatchObject([
      { name: '192.0.2.1' },
      { name: '10.0.0.7', bytes: 100_000 },
    ]);
  });
});

const status = (at: number, packets: number, ring: number) =>
  ({
    at,
    packets,
    bytes: packets * 100,
    ledger: null,
    losses: { packets: ring, ring, socket: 0, logLines: 0 },
    connections: { open: 4 },
    shunts: { live: 2 },
    cpuSeconds: at / 2,
  }) as never;

test('a point has rates, and none below nothing', () => {
  const point = pointOf(
    { status: status(10, 100, 0), cpu: [1, null] },
    { status: status(12, 300, 1), cpu: [1.5, null] },
  );
  expect(point).toEqual({
    t: 12,
    pkts: [100, 0, 0, 0, 0, 0],
    bits: [80_000, 0, 0, 0, 0, 0],
    sensorPkts: 100,
    sensorBits: 80_000,
    lost: 1,
    open: 4,
    live: 2,
    cpus: 0.5,
    workers: [0.25, null],
  });
  expect(
    pointOf({ status: status(10, 100, 0), cpu: [] }, { status: status(11, 90, 0), cpu: [1] }),
  ).toMatchObject({ sensorPkts: 0, workers: [null] });
});
