import { expect } from 'vitest';
import { createLab, type Lab, runTraffic } from '../../lab/index.ts';
import { bpfObject, kernelTest } from '../support/kernel.ts';
import { labTest, largest, type Seen, sameFrames, sum, watchTap } from './support.ts';

const impair = { seed: 42, drop: 0.01, duplicate: 0.01, reorder: 0.02 };

/** Type and first bytes behind the addresses. */
const types = (frames: readonly Buffer[]) => frames.map((frame) => frame.subarray(12, 20).toString('hex'));

labTest(
  'a bad link is repaired by the endpoints and looks the same on both taps',
  { passOn: ['a', 'b'], impair },
  async (lab) => {
    const watches = [await watchTap(lab, 'a'), await watchTap(lab, 'b')] as const;
    const report = await runTraffic(lab, {
      name: 'bad link',
      transfers: [
        { kind: 'https', tls: '1.3', bytes: 2_000_000, count: 4 },
        { kind: 'https', tls: '1.2', bytes: 1_000_000, direction: 'upload', family: 6, count: 4 },
        { kind: 'tcp', bytes: 3_000_000, close: 'client-rst', count: 2 },
        { kind: 'dns', count: 20 },
      ],
    });
    expect(report).toMatchObject({ connections: 30, failures: 0, errors: [] });
    const [a, b] = await Promise.all([watches[0].stop(), watches[1].stop()]);
    expect(sameFrames(a.frames, b.frames)).toBe(true);
    let passed = 0;
    for (const from of ['client', 'server'] as const) {
      const counters = await lab.impairCounters(from);
      if (counters === undefined) throw new Error('no counters');
      const { seen, dropped, duplicated, held, returned, failed } = counters;
      expect(Math.min(dropped, duplicated, held)).toBeGreaterThan(0);
      expect([returned, failed]).toEqual([held, 0]);
      passed += seen - dropped + duplicated;
    }
    expect(a.frames.length).toBe(passed);
    expect(await lab.mirrorCounters('a')).toMatchObject({ packets: passed, dropped: 0 });
  },
);

/** 4,000 numbered frames from the client, one after the other. */
async function numberedFrames(lab: Lab): Promise<void> {
  const pace = ['-l', '500', '-i', '0.0005'];
  await lab.exec('client', ['ping', '-n', '-q', ...pace, '-c', '4000', '-s', '100', '10.9.0.2'], {
    check: false,
  });
}

kernelTest('held frames are overtaken; a seed decides the fate of the n-th frame', ['tcx'], async () => {
  const fates = [];
  for (const seed of [42, 42, 43]) {
    const lab = await createLab({ impair: { ...impair, seed } });
    const watch = await watchTap(lab, 'b');
    await numberedFrames(lab);
    const { frames } = await watch.stop();
    const counters = await lab.impairCounters('client');
    await lab.close();
    expect(counters?.seen).toBe(4000);
    // Echo requests from the client: their sequence number lies 26 bytes into the IP packet.
    const order = frames.filter((frame) => frame[34] === 8).map((frame) => frame.readUInt16BE(40));
    const present = new Set(order);
    const missing = Array.from({ length: 4000 }, (_, index) => index + 1).filter((n) => !present.has(n));
    const twice = order.filter((n, index) => order.indexOf(n) !== index).sort((x, y) => x - y);
    const overtaken = order.filter((n, index) => index > 0 && n < order[index - 1] && !twice.includes(n));
    expect(missing.length).toBe(counters?.dropped);
    expect(twice.length).toBe(counters?.duplicated);
    expect(overtaken.length).toBeGreaterThan(0);
    fates.push({ counters, missing, twice });
  }
  expect(fates[1]).toEqual(fates[0]);
  expect(fates[2].missing).not.toEqual(fates[0].missing);
});

labTest(
  'tags arrive in the frame, on what they were asked for',
  { passOn: ['a', 'b'], vlan: { inner: 100, outer: 200, from: 'server' } },
  async (lab) => {
    const pings = async (): Promise<Seen> => {
      const watch = await watchTap(lab, 'a');
      // A full frame with both tags must still fit.
      await lab.exec('client', ['ping', '-c', '5', '-i', '0.02', '-q', '-s', '1472', '10.9.0.2']);
      return watch.stop();
    };
    const { frames, lengths } = await pings();
    const toClient = frames.filter((frame) => frame[5] === 1);
    const toServer = frames.filter((frame) => frame[5] === 2);
    expect(types(toClient)).toEqual(Array(5).fill('88a800c881000064'));
    expect(types(toServer)).toEqual(Array(5).fill(expect.stringMatching(/^0800/)));
    expect(await lab.mirrorCounters('a')).toMatchObject({
      packets: 10,
      bytes: sum(lengths),
      dropped: 0,
    });

    // What counts is what XDP sees: behind it the kernel takes the outer tag out of the frame again.
    await lab.setVlan({ inner: 7 });
    await lab.setPass('b', false);
    const dropTagged = ['obj', bpfObject('test_tags'), 'sec', 'xdp.frags'];
    await lab.exec('tapB', ['ip', 'link', 'set', 'dev', lab.tap('b').ifname, 'xdpdrv', ...dropTagged]);
    const behindXdp = await watchTap(lab, 'b');
    expect(types((await pings()).frames)).toEqual(Array(10).fill('8100000708004500'));
    expect((await behindXdp.stop()).frames).toEqual([]);

    await lab.setVlan(undefined);
    expect(types((await pings()).frames)).toEqual(Array(10).fill(expect.stringMatching(/^0800/)));
  },
);

labTest(
  'frames are of real size at an MTU of 9,000 and with several queues',
  { mtu: 9000, queues: 2, mbps: 0, passOn: ['a', 'b'] },
  async (lab) => {
    const capture = await watchTap(lab, 'a');
    const plan = { name: 'jumbo', transfers: [{ kind: 'tcp' as const, bytes: 5_000_000, count: 2 }] };
    const report = await runTraffic(lab, plan);
    expect(report).toMatchObject({ connections: 2, downloaded: 10_000_000, failures: 0 });
    const { lengths } = await capture.stop();
    expect(largest(lengths)).toBe(9014);
    expect(await lab.mirrorCounters('a')).toMatchObject({ packets: lengths.length, dropped: 0 });
  },
);
