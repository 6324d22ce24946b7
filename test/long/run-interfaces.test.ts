import { existsSync } from 'node:fs';
import { expect } from 'vitest';
import { Namespace } from '../../lab/namespace.ts';
import { interfaceInfo, xdpAttachment } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { conversation } from '../../src/packet/conversation.ts';
import {
  documentOf,
  Feed,
  LogDir,
  mixed,
  noted,
  places,
  Run,
  runOn,
  sumOf,
  untilSeen,
} from '../sensor/run.ts';
import { ip, kernelTest, ownNetns, until, untilOperational, vethPair } from '../support/kernel.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const POLICY = ['--policy', 'bulk=100kB'];
const RATE = 2500;

ownNetns();

/** A connection that is shunted and stays open, in parts. */
function download(port: number, close: 'none' | 'server-fin' = 'server-fin'): Uint8Array[] {
  const talk = conversation({
    client: { address: '192.0.2.8', port },
    server: { address: '192.0.2.9', port: 80 },
    turns: [{ from: 'server', data: 1_500_000 }],
    mss: 1400,
    close,
  });
  return mixed([talk]);
}

/** Sends frames of a connection that is to be shunted before they end, however busy the machine. */
async function send(
  ifname: string,
  frames: readonly Uint8Array[],
  begun: () => boolean,
  from = frames.length >> 2,
): Promise<void> {
  await new Feed(ifname, frames, RATE, { from, to: frames.length, until: begun, what: 'it is not shunted' })
    .done;
}

kernelTest(
  'one run holds several interfaces: each has its gate, and goes on after a kill',
  [...XDP],
  async () => {
    const [one, two] = [vethPair(), vethPair()];
    using logs = new LogDir();
    try {
      // The same tuple on both: two connections.
      const frames = download(8001);
      const half = frames.length >> 1;
      const both = `${one.a},${two.a}`;
      await using first = await runOn(both, logs, ...POLICY).ready();
      const begun = (): boolean => logs.shunts('start') === 2;
      await Promise.all([one.b, two.b].map((name) => send(name, frames.slice(0, half), begun)));
      for (const { a } of [one, two]) {
        await until(() => noted(interfaceInfo(a).index) === 1, 'what was shunted is not noted');
        await untilSeen(a, half);
      }
      await first.stop('SIGKILL');
      for (const { a } of [one, two]) expect(xdpAttachment(interfaceInfo(a).index)).toBeUndefined();
      await using second = await runOn(both, logs, ...POLICY).ready();
      for (const { a } of [one, two])
        expect(second.stderr).toContain(`goes on with 1 connections that an earlier run had shunted on ${a}`);
      await Promise.all([one.b, two.b].map((name) => new Feed(name, frames.slice(half), RATE).done));
      for (const { a } of [one, two]) await untilSeen(a, frames.length - half);
      const summary = documentOf(await second.stop());
      expect(summary).toMatchObject({ connections: 2, recovered: 2, latePackets: 0 });
      expect(summary.interfaces.map(({ interface: name }) => name)).toEqual([one.a, two.a]);
      expect(summary.ledger?.seen.pkts).toBe(2 * (frames.length - half));
      const conn = logs.read('conn');
      for (const record of conn) expect(sumOf([record], 'orig_pkts', 'resp_pkts')).toBe(frames.length);
      expect(new Set(conn.map((r) => r['uid'])).size).toBe(2);
    } finally {
      one.remove();
      two.remove();
    }
  },
);

kernelTest('of two that start at once on one interface, one has it', [...XDP], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  using others = new LogDir();
  try {
    await using first = runOn(a, logs, ...POLICY);
    await using second = runOn(a, others, ...POLICY);
    await until(() => !(first.running && second.running), 'both run');
    const [loser, winner] = first.running ? [second, first] : [first, second];
    const refused = await loser.ended;
    expect(refused.code).toBe(1);
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'INTERFACE_BUSY' } });
    await winner.ready();
    const frames = download(8002);
    const log = first.running ? logs : others;
    await send(b, frames, () => log.shunts('start') === 1);
    await untilSeen(a, frames.length);
    const summary = documentOf(await winner.stop());
    expect(summary).toMatchObject({ connections: 1, shuntedConnections: 1 });
    expect(summary.ledger?.seen.pkts).toBe(frames.length);
    expect(existsSync(places(interfaceInfo(a).index).pins)).toBe(false);
  } finally {
    remove();
  }
});

kernelTest(
  'an interface that gets another name and another MTU meanwhile stays the same',
  [...XDP],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    const renamed = `${a}x`;
    try {
      await using run = await runOn(a, logs, ...POLICY).ready();
      const before = download(8003);
      await send(b, before, () => logs.shunts('start') === 1);
      await untilSeen(a, before.length);
      ip(`link set ${a} down`);
      ip(`link set ${a} name ${renamed}`);
      ip(`link set ${renamed} up`);
      await until(() => run.stderr.includes('is up again'), 'it does not come up again');
      for (const name of [renamed, b]) ip(`link set ${name} mtu 9000`);
      untilOperational(renamed, b);
      const after = download(8004);
      await send(b, after, () => logs.shunts('start') === 2);
      // A datagram that would not have fitted before.
      const jumbo = eth()
        .ipv4({ src: '192.0.2.8', dst: '192.0.2.9' })
        .udp({ sport: 8005, dport: 80 })
        .payload(8000)
        .bytes();
      const datagrams = Array.from({ length: 600 }, () => jumbo);
      await send(b, datagrams, () => logs.shunts('start') === 3, 20);
      const sent = before.length + after.length + datagrams.length;
      await untilSeen(renamed, sent);
      const summary = documentOf(await run.stop());
      expect(summary).toMatchObject({ connections: 3, shuntedConnections: 3, latePackets: 0 });
      expect(summary.ledger?.seen.pkts).toBe(sent);
      expect(sumOf(logs.read('conn'), 'orig_pkts', 'resp_pkts')).toBe(sent);
      expect(existsSync(places(interfaceInfo(renamed).index).pins)).toBe(false);
      ip(`link set ${renamed} name ${a}`);
    } finally {
      remove();
    }
  },
);

kernelTest('an interface that is moved to another network namespace has gone', [...XDP], async () => {
  const { a, b } = vethPair();
  using logs = new LogDir();
  const elsewhere = await Namespace.create('elsewhere');
  try {
    await using run = await runOn(a, logs, ...POLICY).ready();
    const { pins, lock } = places(interfaceInfo(a).index);
    const frames = download(8006, 'none');
    await send(b, frames, () => logs.shunts('start') === 1);
    await untilSeen(a, frames.length);
    ip(`link set ${a} netns ${elsewhere.pid}`);
    const ended = await run.end();
    expect(ended).toMatchObject({ code: 1, signal: null });
    const summary = documentOf(ended);
    expect(summary.error).toMatchObject({ code: 'INTERFACE_GONE' });
    expect(summary).toMatchObject({ connections: 1, latePackets: 0 });
    expect(sumOf(logs.read('conn'), 'orig_pkts', 'resp_pkts')).toBe(frames.length);
    expect(existsSync(pins) || existsSync(lock)).toBe(false);
    const { stdout } = await elsewhere.exec(['ip', '-j', 'link', 'show', 'dev', a]);
    expect((JSON.parse(stdout) as { xdp?: unknown }[])[0].xdp).toBeUndefined();
  } finally {
    await elsewhere.close();
  }
});

kernelTest('a network namespace that ends with the run in it leaves nothing', [...XDP], async () => {
  using logs = new LogDir();
  const space = await Namespace.create('ends');
  try {
    await space.ip(['link add va type veth peer name vb', 'link set va up', 'link set vb up']);
    const args = ['run', '-i', 'va', '--json', '--log-dir', logs.path];
    await using run = await new Run(args, ['nsenter', `--net=/proc/${space.pid}/ns/net`, '--']).ready();
    // Nobody else is in there any more; then the last one is killed.
    const { pins } = places(2, space.inode);
    const here = ['1', '2', '3', '4', '5', '6'].map((index) => pins.replace(/-2$/, `-${index}`));
    expect(here.filter((path) => existsSync(path)).length).toBe(1);
    await space.close();
    await run.stop('SIGKILL');
    // The next run, wherever, frees what is pinned.
    const { a, remove } = vethPair();
    try {
      const next = await runOn(a, logs, '--duration', '0.2').end();
      expect(next.code, next.stderr).toBe(0);
      expect(here.filter((path) => existsSync(path))).toEqual([]);
    } finally {
      remove();
    }
  } finally {
    await space.close();
  }
});
