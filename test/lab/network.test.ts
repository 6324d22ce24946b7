import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createLab, mixedPlan, runTraffic } from '../../lab/index.ts';
import { namespaceInode, processesIn } from '../../lab/namespace.ts';
import { kernelTest } from '../support/kernel.ts';
import { labTest, largest, pcapFile, sameFrames, sum, watchTap } from './support.ts';

const features = ['xdpNativeVeth', 'xdpFrags'] as const;

kernelTest('carries traffic, keeps quiet otherwise, and leaves nothing', features, async () => {
  const interfaces = readdirSync('/sys/class/net').sort();
  const lab = await createLab();
  const names = ['client', 'server', 'hub', 'tapA', 'tapB', 'replay'] as const;
  const inodes = new Set(names.map((name) => lab.namespace(name).inode));
  expect(inodes.size).toBe(names.length);
  expect(inodes.has(namespaceInode('self') as number)).toBe(false);
  expect(readdirSync('/sys/class/net').sort()).toEqual(interfaces);

  const seen = await watchTap(lab, 'b');
  for (const address of ['10.9.0.2', 'fd00:9::2']) {
    await lab.exec('client', ['ping', '-c', '3', '-i', '0.05', '-q', address]);
  }
  // Group reports and router requests of the kernel would come within a second or two.
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const { lengths } = await seen.stop();
  expect(lengths.length).toBe(12);
  expect(await lab.mirrorCounters('a')).toMatchObject({ packets: 12, txPackets: 12, dropped: 0 });
  expect(await lab.mirrorCounters('b')).toMatchObject({ packets: 12, bytes: sum(lengths) });

  await expect(lab.exec('hub', ['false'])).rejects.toMatchObject({ code: 'LAB' });
  const { directory } = lab;
  await lab.close();
  expect(processesIn(inodes)).toEqual([]);
  expect(existsSync(directory)).toBe(false);
  expect(() => lab.tap('a')).toThrow(expect.objectContaining({ code: 'CLOSED' }));
});

labTest('both taps see all of a thousand connections, in one order', { passOn: ['a', 'b'] }, async (lab) => {
  const watches = [await watchTap(lab, 'a'), await watchTap(lab, 'b')] as const;
  const plan = mixedPlan();
  let told = 0;
  const report = await runTraffic(lab, plan, { onProgress: () => told++ });
  expect(report).toMatchObject({ failures: 0, errors: [], cut: false });
  expect(report.connections).toBe(plan.transfers.reduce((sum, transfer) => sum + (transfer.count ?? 1), 0));
  expect(report.open).toBeGreaterThan(0);
  expect(told).toBeGreaterThan(0);
  const bytes = (direction: 'download' | 'upload') =>
    plan.transfers
      .filter(({ kind }) => kind !== 'dns' && kind !== 'ping')
      .filter((transfer) => (transfer.direction ?? 'download') === direction)
      .reduce((sum, transfer) => sum + (transfer.bytes ?? 0) * (transfer.count ?? 1), 0);
  expect(report.downloaded + report.lost).toBe(bytes('download'));
  expect(report.uploaded).toBe(bytes('upload'));

  const [a, b] = await Promise.all([watches[0].stop(), watches[1].stop()]);
  expect([a.lost, b.lost]).toEqual([0, 0]);
  expect(sameFrames(a.frames, b.frames)).toBe(true);
  expect(b.lengths).toEqual(a.lengths);
  for (const name of ['a', 'b'] as const) {
    expect(await lab.mirrorCounters(name)).toEqual({
      packets: a.frames.length,
      bytes: sum(a.lengths),
      dropped: 0,
      backlog: 0,
      txPackets: a.frames.length,
    });
  }
  // Frames as on a wire: none beyond the MTU, and no checksum left for hardware to fill in.
  expect(largest(a.lengths)).toBe(1514);
});

labTest('traffic ends when asked to, and at its bounds', { mbps: 100 }, async (lab) => {
  const stop = new AbortController();
  const long = { name: 'long', transfers: [{ kind: 'tcp', bytes: 1_000_000_000 }] } as const;
  const stopped = runTraffic(
    lab,
    { ...long, transfers: [...long.transfers] },
    {
      signal: stop.signal,
      onProgress: (tally) => tally.downloaded > 0 && stop.abort(),
    },
  );
  expect(await stopped).toMatchObject({ connections: 0, failures: 0, cut: true });
  const bounded = await runTraffic(lab, {
    name: 'bounded',
    transfers: [{ kind: 'tcp', bytes: 1_000_000, count: 10 }],
    maxBytes: 3_500_000,
  });
  expect(bounded).toMatchObject({ connections: 3, downloaded: 3_000_000, cut: true });
  const timed = await runTraffic(lab, { name: 'timed', transfers: [...long.transfers], maxSeconds: 0.5 });
  expect(timed).toMatchObject({ connections: 0, cut: true });
  expect(timed.seconds).toBeGreaterThanOrEqual(0.5);
});

/** Bytes that look random and are always the same. */
function bytesOf(seed: number, length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, block) =>
    createHash('sha256').update(`${seed} ${block}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, length);
}

/** Frames that a bridge or a stack might refuse, change or answer. */
function oddFrames(count: number): Buffer[] {
  const addresses = [
    '000000000000',
    'ffffffffffff',
    '0180c2000000',
    '333300000001',
    '020000000001',
    '020000000002',
  ];
  const tags = ['', '81000005', '88a800058100000a', '810000058100000a', '0000'];
  return Array.from({ length: count }, (_, index) =>
    Buffer.concat([
      Buffer.from(addresses[index % 6] ?? '', 'hex'),
      Buffer.from(addresses[Math.floor(index / 6) % 6] ?? '', 'hex'),
      Buffer.from(tags[index % 5] ?? '', 'hex'),
      Buffer.from(index % 2 === 0 ? '0800' : '86dd', 'hex'),
      bytesOf(index, 40 + ((index * 37) % 1452)),
    ]),
  );
}

labTest('replays reach both taps unchanged, and nobody else', { passOn: ['a', 'b'] }, async (lab) => {
  const frames = oddFrames(3000);
  const file = join(lab.directory, 'odd.pcap');
  await writeFile(file, pcapFile(frames));
  const watches = [await watchTap(lab, 'a', 2000), await watchTap(lab, 'b', 2000)] as const;
  const sent = await lab.replay(file, { topspeed: true, loops: 2 });
  expect(sent).toMatchObject({ sent: 6000, refused: 0, bytes: 2 * sum(frames.map((frame) => frame.length)) });
  for (const seen of await Promise.all(watches.map((watch) => watch.stop()))) {
    expect(seen.frames.length).toBe(6000);
    expect(sameFrames(seen.frames, [...frames, ...frames])).toBe(true);
  }
  const stats = JSON.parse((await lab.exec('client', ['ip', '-s', '-j', 'link', 'show', 'eth0'])).stdout) as {
    stats64: { rx: { packets: number } };
  }[];
  expect(stats[0]?.stats64.rx.packets).toBe(0);
  await expect(lab.replay('/nowhere.pcap')).rejects.toMatchObject({ code: 'FILE' });
  await expect(lab.replay(file, { mbps: 1, pps: 1 })).rejects.toMatchObject({ code: 'USAGE' });
});

test.each([
  { mtu: 100 },
  { queues: 0 },
  { vlan: { inner: 4095 } },
  { impair: { seed: 1, drop: 0.6, reorder: 0.6 } },
  { impair: { seed: 1, drop: Number.NaN } },
])('options that cannot be are refused before anything is made: %j', async (options) => {
  await expect(createLab(options)).rejects.toMatchObject({ code: 'USAGE' });
});
