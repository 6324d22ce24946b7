import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { back, type Ends, fragmentsOf, packetOf } from '../../bench/fanout-frames.ts';
import { Namespace } from '../../lab/namespace.ts';
import { eth } from '../../src/packet/build.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { ip, kernelTest, ownNetns, PATIENCE, until, vethPair } from '../support/kernel.ts';
import { booksOf, connOf, freePort, hiddenFromNobody, MirrorSender, runMirror, WRAPS } from './mirror.ts';
import { documentOf, Feed, LogDir, mixed, pause, Run, sumOf } from './run.ts';

ownNetns();

const hidden = hiddenFromNobody();

const talk = (n: number, subnet: number, bytes = 6000) =>
  Array.from({ length: n }, (_, i) =>
    conversation({
      client: { address: i % 2 === 0 ? `192.0.2.${subnet}` : `2001:db8::${subnet}`, port: 5000 + 7 * i },
      server: { address: i % 2 === 0 ? '192.0.2.200' : '2001:db8::200', port: 80 },
      turns: [
        { from: 'client', data: 300 },
        { from: 'server', data: bytes },
      ],
      mss: 1300,
    }),
  );

test.skipIf(hidden !== undefined)(
  'two workers keep both directions of a flow together, whatever the outer ports are',
  async () => {
    using logs = new LogDir();
    const kinds = [
      { encap: 'vxlan', wrap: WRAPS.vxlan },
      { encap: 'geneve+vxlan', wrap: WRAPS.geneveVxlan4 },
    ];
    const ports = await Promise.all(kinds.map(() => freePort()));
    const sources = kinds.map(({ encap }, i) => `udp://127.0.0.1:${ports[i]}?encap=${encap}`);
    await using run = await runMirror(sources, logs, '--workers', '2', '--verbose').ready();
    expect(run.stderr.match(/: 2 workers, shared out by classic BPF \(no eBPF: .*EPERM/g)).toHaveLength(2);
    let frames = 0;
    const sent: number[] = [];
    for (const [i, { wrap }] of kinds.entries()) {
      // One outer port for all, which the kernel's hash would send to one worker; and one after the other of many.
      using steady = new MirrorSender(logs, { port: ports[i], wrap });
      using hopping = new MirrorSender(logs, { port: ports[i], wrap, ports: 16 });
      const [a, b] = [mixed(talk(15, 10 + i)), mixed(talk(15, 20 + i))];
      await steady.send(a);
      await hopping.send(b);
      frames += a.length + b.length;
      sent.push(steady.sent + hopping.sent);
    }
    const ended = await run.stop();
    const summary = documentOf(ended);
    expect(summary.udp.map(({ datagrams, dropped, early }) => [datagrams, dropped, early])).toEqual(
      sent.map((datagrams) => [datagrams, 0, 0]),
    );
    expect(summary.directions).toEqual({ judged: 2 * 30, oneWay: 0 });
    const conn = connOf(logs);
    expect(conn).toHaveLength(2 * 30);
    expect(conn.every((r) => r['conn_state'] === 'SF')).toBe(true);
    expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(frames);
    // All of them had something to do.
    const workers = logs.read('stats').filter((line) => line['worker'] !== undefined);
    expect(workers).toHaveLength(4);
    for (const line of workers) expect(line['udp.frames']).toBeGreaterThan(0);
  },
);

test.skipIf(hidden !== undefined)(
  'workers that start under traffic: each flow is in one of them, and what came before is counted apart',
  async () => {
    using logs = new LogDir();
    const port = await freePort();
    const flows = 40;
    // Both directions of each, by turns.
    const frames = Array.from({ length: 2 * flows }, (_, i) => {
      const [here, there] = ['192.0.2.1', '192.0.2.2'];
      const from = i < flows;
      return eth()
        .ipv4({ src: from ? here : there, dst: from ? there : here })
        .udp({ sport: from ? 2000 + (i % flows) : 53_000, dport: from ? 53_000 : 2000 + (i % flows) })
        .payload(100)
        .bytes();
    });
    await using run = runMirror([`udp://127.0.0.1:${port}`], logs, '--workers', '3');
    using sender = new MirrorSender(logs, { port, wrap: WRAPS.vxlan, ports: 8 });
    while (!/^ready$/m.test(run.stderr)) {
      if (!run.running) throw new Error(`not ready: ${run.stderr}`);
      await sender.flood(frames[sender.sent % frames.length], 1);
      // Slowly enough that there is room while the workers do other things.
      if (sender.sent % 4 === 0) await pause(2);
    }
    for (let i = 0; i < 2 * frames.length; i++) {
      await sender.flood(frames[sender.sent % frames.length], 1);
      if (sender.sent % 4 === 0) await pause(2);
    }
    const books = booksOf(documentOf(await run.stop()));
    expect(books.dropped).toBe(0);
    expect(books.frames).toBeGreaterThanOrEqual(2 * frames.length);
    expect(books.datagrams).toBeLessThanOrEqual(sender.sent);
    const conn = logs.read('conn');
    expect(conn).toHaveLength(flows);
    expect(conn.every((r) => Number(r['orig_pkts']) > 0 && Number(r['resp_pkts']) > 0)).toBe(true);
    expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(books.frames);
  },
);

kernelTest('with privileges eBPF keeps fragments with their flow', [], async () => {
  using logs = new LogDir();
  const port = await freePort();
  const source = `udp://127.0.0.1:${port}?encap=geneve`;
  const args = ['run', source, '--workers', '2', '--verbose', '--json', '--log-dir', logs.path];
  await using run = await new Run(args).ready();
  expect(run.stderr).toContain(`${source}: 2 workers, shared out by eBPF`);
  const flows = Array.from({ length: 30 }, (_, i) => {
    const ends: Ends = {
      family: i % 2 === 0 ? 4 : 6,
      client: [i % 2 === 0 ? '192.0.2.1' : '2001:db8::1', 5000 + 7 * i],
      server: [i % 2 === 0 ? '192.0.2.2' : '2001:db8::2', 53],
      protocol: 'udp',
    };
    const [first, ...later] = fragmentsOf(eth(), back(ends), i, 1300);
    return {
      before: [packetOf(eth(), ends).bytes(), first],
      after: [...later, packetOf(eth(), back(ends)).bytes()],
    };
  });
  using sender = new MirrorSender(logs, { port, wrap: WRAPS.geneve, ports: 8 });
  await sender.send(flows.flatMap(({ before }) => before));
  // Several sockets keep no order among them.
  await sender.taken();
  await sender.send(flows.flatMap(({ after }) => after));
  expect(booksOf(documentOf(await run.stop()))).toMatchObject({
    datagrams: sender.sent,
    dropped: 0,
    early: 0,
  });
  const conn = connOf(logs);
  expect(conn).toHaveLength(flows.length);
  // A datagram in fragments counts as one, and as none where a fragment is missing.
  expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(3 * flows.length);
});

kernelTest(
  'a VXLAN device of Linux feeds the source, over IPv4 and IPv6',
  ['packetRing'],
  async (context) => {
    const lack = lackOfVxlan();
    if (lack !== undefined) context.skip(lack);
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    const tap = await Namespace.create('tap');
    try {
      ip(`link set ${b} netns ${tap.pid}`);
      ip(`link set ${a} mtu 9000`);
      for (const address of ['10.74.0.1/24', 'fd74::1/64']) ip(`address add ${address} dev ${a} nodad`);
      await tap.ip([
        `link set ${b} up mtu 9000`,
        `address add 10.74.0.2/24 dev ${b}`,
        `address add fd74::2/64 dev ${b} nodad`,
      ]);
      ip('link add vx4 type vxlan id 4711 remote 10.74.0.2 local 10.74.0.1 dstport 4789');
      ip('link add vx6 type vxlan id 4712 remote fd74::2 local fd74::1 dstport 4789');
      for (const device of ['vx4', 'vx6']) {
        ip(`link set ${device} addrgenmode none mtu 1500`);
        ip(`link set ${device} up`);
      }
      // Nothing is sent before the other end is known.
      ip(`neigh replace 10.74.0.2 lladdr ${await addressOf(tap, b)} dev ${a} nud permanent`);
      ip(`neigh replace fd74::2 lladdr ${await addressOf(tap, b)} dev ${a} nud permanent`);
      const args = ['run', 'udp://[::]:4789', '--workers', '2', '--vni', '--json', '--log-dir', logs.path];
      await using run = await new Run(args, ['nsenter', `--net=/proc/${tap.pid}/ns/net`, '--']).ready();
      const [four, six] = [mixed(talk(20, 1)), mixed(talk(20, 2))];
      await Promise.all([new Feed('vx4', four).done, new Feed('vx6', six).done]);
      await until(() => arrivedAt(tap.pid, b) >= four.length + six.length, 'datagrams are missing');
      const summary = documentOf(await run.stop());
      expect(booksOf(summary)).toMatchObject({ frames: four.length + six.length, dropped: 0, early: 0 });
      expect(summary.directions).toEqual({ judged: 40, oneWay: 0 });
      const conn = logs.read('conn');
      for (const [vni, frames] of [
        [4711, four],
        [4712, six],
      ] as const) {
        const own = conn.filter((r) => r['id.ctx.vxlan_vni'] === vni);
        expect(own).toHaveLength(20);
        expect(own.every((r) => r['conn_state'] === 'SF')).toBe(true);
        expect(sumOf(own, 'orig_pkts', 'resp_pkts')).toBe(frames.length);
      }
    } finally {
      for (const device of ['vx4', 'vx6']) ip(`link del ${device}`);
      // Before the namespace of its other end goes, and takes both with it.
      remove();
      await tap.close();
    }
  },
);

/** Why there is no VXLAN device in this kernel. */
function lackOfVxlan(): string | undefined {
  try {
    ip('link add vxprobe type vxlan id 1 dstport 4789');
    ip('link del vxprobe');
    return undefined;
  } catch (error) {
    return `no VXLAN device: ${String(error)}`;
  }
}

async function addressOf(namespace: Namespace, ifname: string): Promise<string> {
  const { stdout } = await namespace.exec(['ip', '-j', 'link', 'show', 'dev', ifname]);
  return (JSON.parse(stdout) as [{ address: string }])[0].address;
}

/** Packets that an interface has received, in the network namespace of a process. */
function arrivedAt(pid: number, ifname: string): number {
  const line = readFileSync(`/proc/${pid}/net/dev`, 'latin1').split(`${ifname}:`)[1];
  return Number(line.trim().split(/\s+/)[1]);
}

kernelTest(
  'an interface and a mirror in one run: a gate for the one, books for the other, one set of logs',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      const port = await freePort();
      const source = `udp://127.0.0.1:${port}?encap=raw`;
      const args = ['run', '-i', a, source, '--policy', 'bulk=100kB', '--json', '--log-dir', logs.path];
      await using run = await new Run(args).ready();
      const frames = mixed(talk(4, 1, 300_000));
      using sender = new MirrorSender(logs, { port, wrap: WRAPS.raw });
      const half = frames.length / 2;
      await Promise.all([new Feed(b, frames.slice(0, half)).done, sender.send(mixed(talk(4, 2, 300_000)))]);
      // A block of the ring is due once there is a packet in it: something else goes on meanwhile.
      const other = eth().ipv4({ src: '192.0.2.77', dst: '192.0.2.78' }).udp().payload(100).bytes();
      let others = 0;
      for (const end = performance.now() + PATIENCE * 1000; logs.shunts('start') < 4; others++) {
        if (performance.now() > end) throw new Error('not all are shunted');
        await new Feed(b, [other]).done;
        await pause(10);
      }
      await new Feed(b, frames.slice(half)).done;
      await until(() => logs.shunts('end') === 4, 'not all have ended');
      const summary = documentOf(await run.stop());
      expect(summary.interfaces).toMatchObject([{ interface: a, mode: 'native', drop: 'xdp' }]);
      expect(booksOf(summary)).toMatchObject({ source, drop: 'none', datagrams: sender.sent, dropped: 0 });
      expect(summary.ledger?.seen.pkts).toBe(frames.length + others);
      expect(summary.ledger?.shunted.pkts).toBeGreaterThan(0);
      expect(summary.shuntedConnections).toBe(4);
      expect(summary.localBypass.connections).toBe(4);
      const conn = connOf(logs).filter((r) => r['proto'] === 'tcp');
      expect(conn).toHaveLength(8);
      expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(2 * frames.length);
      expect(sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts')).toBe(summary.ledger?.shunted.pkts);
    } finally {
      remove();
    }
  },
);
