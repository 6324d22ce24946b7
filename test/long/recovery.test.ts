import { expect } from 'vitest';
import { createLab } from '../../lab/lab.ts';
import { runTraffic } from '../../lab/traffic.ts';
import type { ConnLine } from '../sensor/compare.ts';
import { untilQuiet } from '../sensor/quiet.ts';
import { documentOf, LogDir, noted, runOnTap, sumOf } from '../sensor/run.ts';
import { kernelTest, until } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'] as const;
const TRANSFERS = 8;
/** Slow enough that no transfer ends before the sensor is back, on a busy machine too. */
const MBPS = 50;
const BYTES = 25_000_000;

const portOf = (record: ConnLine): unknown => record['id.orig_p'];
/** What a gap adds to a history. */
const withoutGaps = (history: unknown): string => String(history).replaceAll(/[GgTt]/g, '');

kernelTest(
  'HTTPS transfers whose sensor is killed half way: one record each, beside that of a sensor that saw it all',
  [...FEATURES],
  async () => {
    await using lab = await createLab({ mbps: MBPS, oneStamp: true });
    using logs = new LogDir();
    using others = new LogDir();
    await using whole = await runOnTap(lab, 'b', others, '--no-gate').ready();
    await using first = await runOnTap(lab, 'a', logs).ready();
    const traffic = runTraffic(lab, {
      name: 'transfers',
      transfers: [
        { kind: 'https', bytes: BYTES, count: TRANSFERS / 2 },
        { kind: 'https', bytes: BYTES, count: TRANSFERS / 2, family: 6, tls: '1.2', close: 'client-rst' },
      ],
      concurrency: TRANSFERS,
      maxSeconds: 600,
    });
    await until(() => logs.shunts('start') >= TRANSFERS, 'not all are shunted', 120);
    const { namespace, ifname } = lab.tap('a');
    const { stdout } = await lab.exec(namespace, ['ip', '-j', 'link', 'show', 'dev', ifname]);
    const [{ ifindex }] = JSON.parse(stdout) as { ifindex: number }[];
    const { inode } = lab.namespace(namespace);
    await until(() => noted(ifindex, inode) === TRANSFERS, 'not all that was shunted is noted');
    await first.stop('SIGKILL');
    const began = new Map(
      logs.read('shunt').flatMap((r) => (r['event'] === 'start' ? [[portOf(r), r['uid']]] : [])),
    );
    expect(began.size).toBe(TRANSFERS);
    await using second = await runOnTap(lab, 'a', logs).ready();
    const report = await traffic;
    expect(report.errors).toEqual([]);
    await untilQuiet(lab);
    const summary = documentOf(await second.stop());
    expect(summary).toMatchObject({ recovered: TRANSFERS, latePackets: 0 });
    expect(summary.ring.drops).toBe(0);
    await whole.stop();

    const reference = new Map(others.read('conn').map((r) => [portOf(r), r]));
    const recovered = logs.read('conn').filter((r) => r['recovered'] === true);
    expect(recovered.length).toBe(TRANSFERS);
    for (const record of recovered) {
      const theirs = reference.get(portOf(record));
      if (theirs === undefined) throw new Error(`nobody else saw ${String(portOf(record))}`);
      // Identity, beginning, service, state and payload are those of the whole connection …
      expect(record['uid']).toBe(began.get(portOf(record)));
      for (const field of ['ts', 'service', 'conn_state', 'orig_bytes', 'resp_bytes'])
        expect(record[field], field).toBe(theirs[field]);
      expect(withoutGaps(record['history'])).toBe(withoutGaps(theirs['history']));
      expect(Math.abs(Number(record['duration']) - Number(theirs['duration']))).toBeLessThan(0.001);
      // … and what passed unseen is missing from the packets, and named as missed.
      for (const side of ['orig', 'resp'] as const) {
        const missing = Number(theirs[`${side}_pkts`]) - Number(record[`${side}_pkts`]);
        expect(missing).toBeGreaterThanOrEqual(0);
        expect(missing).toBeLessThan(Number(theirs[`${side}_pkts`]) / 2);
      }
      const ipBytes = Number(theirs['resp_ip_bytes']) - Number(record['resp_ip_bytes']);
      expect(Number(record['missed_bytes'])).toBeLessThanOrEqual(ipBytes);
    }
    // TLS of both halves: the handshake was seen by the run that was killed.
    const ssl = logs.read('ssl').filter((r) => [...began.values()].includes(r['uid']));
    expect(ssl.length).toBe(TRANSFERS);
    expect(ssl.every((r) => typeof r['version'] === 'string' && r['established'] === true)).toBe(true);
    // What this run counted itself adds up.
    const told = logs.read('shunt').filter((r) => r['event'] === 'end' || r['event'] === 'recovered');
    const shunted = ['orig_shunted_pkts', 'resp_shunted_pkts'];
    expect(sumOf(told, ...shunted)).toBe(sumOf(logs.read('conn'), ...shunted));
  },
);
