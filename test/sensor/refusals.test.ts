import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { Namespace } from '../../lab/namespace.ts';
import { attachXdp, interfaceInfo, loadObject, xdpAttachment } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { bpfObject, ip, kernelTest, ownNetns, until, untilOperational, vethPair } from '../support/kernel.ts';
import {
  documentOf,
  type Ended,
  type ErrorDocument,
  Feed,
  type Hold,
  LogDir,
  mixed,
  places,
  Run,
  runOn,
  sumOf,
} from './run.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;

ownNetns();

/** From the middle on frames wait until so many have been shunted, of which they are the last ones. */
const shuntedBy = (logs: LogDir, frames: readonly Uint8Array[], count: number): Hold => ({
  from: frames.length >> 1,
  to: frames.length - (frames.length >> 3),
  until: () => logs.shunts('start') >= count,
  what: 'not all are shunted',
});

/** The error is told twice: for scripts on stdout, for people on stderr, with the next step. */
function expectRefusal(ended: Ended, code: string, exit: number, ...texts: RegExp[]): void {
  expect(ended).toMatchObject({ code: exit, signal: null });
  const { error } = JSON.parse(ended.stdout) as ErrorDocument;
  expect(error.code).toBe(code);
  expect(error.help).toBeTruthy();
  for (const text of texts) expect(`${error.message}\n${error.help}`).toMatch(text);
  expect(ended.stderr).toContain(`error[${code}]: ${error.message}`);
  expect(ended.stderr).toMatch(/^help: \S/m);
  expect(ended.stderr).not.toMatch(/^ready$/m);
}

function expectNothingLeft(ifname: string): void {
  const { index } = interfaceInfo(ifname);
  expect(xdpAttachment(index)).toBeUndefined();
  const { pins, lock } = places(index);
  expect(existsSync(pins)).toBe(false);
  expect(existsSync(lock)).toBe(false);
}

describe('refused before anything is attached', () => {
  kernelTest('an unknown interface', [...XDP], async () => {
    using logs = new LogDir();
    expectRefusal(
      await runOn('nope0', logs).ended,
      'INTERFACE_UNKNOWN',
      2,
      /no interface nope0/,
      /there are: lo/,
    );
    expect(readdirSync(logs.path)).toEqual([]);
  });

  kernelTest("an interface with the host's own traffic", [...XDP], async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      ip(`address add 10.71.0.1/24 dev ${a}`);
      expectRefusal(await runOn(a, logs).ended, 'INTERFACE_IN_USE', 2, /address 10\.71\.0\.1/, /--tap/);
      ip(`address flush dev ${a}`);
      ip(`route add 10.72.0.0/16 dev ${a}`);
      expectRefusal(await runOn(a, logs).ended, 'INTERFACE_IN_USE', 2, /1 route leads through it/, /--tap/);
      ip(`route flush dev ${a}`);
      ip('link add br7 type bridge');
      ip(`link set ${b} master br7`);
      expectRefusal(await runOn(b, logs).ended, 'INTERFACE_IN_USE', 2, /belongs to br7/, /--tap/);
      ip('link del br7');
      expectNothingLeft(a);
    } finally {
      remove();
    }
  });

  kernelTest('without privilege: what is missing is named', [...XDP], async () => {
    const { a, remove } = vethPair();
    using logs = new LogDir();
    try {
      const args = ['run', '-i', a, '--json', '--log-dir', join(logs.path, 'made')];
      // May read the program wherever it lies, and nothing else.
      const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];
      const reading = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search'];
      const asNobody = await new Run(args, ['setpriv', ...nobody, ...reading]).ended;
      expectRefusal(asNobody, 'PRIVILEGE', 3, /CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF/, /sluice read/);
      const lessRoot = await new Run(args, ['setpriv', '--bounding-set=-bpf,-sys_admin']).ended;
      expectRefusal(lessRoot, 'PRIVILEGE', 3, /lacks CAP_BPF,/, /--no-gate/);
      expect(existsSync(join(logs.path, 'made'))).toBe(false);
      expectNothingLeft(a);
    } finally {
      remove();
    }
  });

  kernelTest('a log directory that cannot be written', [...XDP], async () => {
    const { a, remove } = vethPair();
    using logs = new LogDir();
    try {
      const file = join(logs.path, 'file');
      writeFileSync(file, '');
      const run = new Run(['run', '-i', a, '--json', '--log-dir', join(file, 'logs')]);
      expectRefusal(await run.ended, 'FILE', 1, /cannot write logs/, /--log-dir/);
      expectNothingLeft(a);
    } finally {
      remove();
    }
  });
});

describe('what holds the interface stays as it is', () => {
  kernelTest('a foreign XDP program', [...XDP], async () => {
    const { a, remove } = vethPair();
    using logs = new LogDir();
    const foreign = loadObject(bpfObject('lab_pass'));
    try {
      const [program] = foreign.programs.values();
      const link = attachXdp({ program, ifindex: interfaceInfo(a).index, mode: 'native' });
      const before = xdpAttachment(interfaceInfo(a).index);
      expectRefusal(
        await runOn(a, logs, '--mode', 'native').ended,
        'INTERFACE_BUSY',
        1,
        /already has an XDP program/,
        /detach it/,
      );
      expect(xdpAttachment(interfaceInfo(a).index)).toEqual(before);
      link.close();
      expectNothingLeft(a);
    } finally {
      foreign.close();
      remove();
    }
  });

  kernelTest('another Sluice', [...XDP], async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    using others = new LogDir();
    try {
      await using first = await runOn(a, logs).ready();
      expectRefusal(
        await runOn(a, others).ended,
        'INTERFACE_BUSY',
        1,
        new RegExp(`another Sluice holds ${a}`),
      );
      const frames = mixed([conversation({ turns: [{ from: 'server', data: 3_000_000 }] })]);
      await new Feed(b, frames, 10_000, shuntedBy(logs, frames, 1)).done;
      const summary = documentOf(await first.stop());
      expect(summary.ledger?.seen.pkts).toBe(frames.length);
      expect(summary.shuntedConnections).toBe(1);
      expectNothingLeft(a);
    } finally {
      remove();
    }
  });
});

kernelTest('a full table: refused, counted, and every record right', [...XDP], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  try {
    const run = await runOn(a, logs, '--max-shunts4', '2').ready();
    const conversations = Array.from({ length: 6 }, (_, i) =>
      conversation({
        client: { address: '192.0.2.7', port: 40_000 + i },
        turns: [{ from: i % 2 === 0 ? 'server' : 'client', data: 3_000_000 }],
      }),
    );
    const sent = mixed(conversations);
    await new Feed(b, sent, 6000, {
      ...shuntedBy(logs, sent, 2),
      until: () => logs.shunts('start') >= 2 && logs.shunts('refused') >= 4,
    }).done;
    const ended = await run.stop();
    const summary = documentOf(ended);
    expect(summary).toMatchObject({ connections: 6, shuntedConnections: 2, refused: 4, latePackets: 0 });
    expect(summary.ring.drops).toBe(0);
    const refused = logs.read('shunt').filter((r) => r['event'] === 'refused');
    expect(refused.map((r) => r['reason'])).toEqual(Array.from({ length: 4 }, () => 'full'));
    const conn = logs.read('conn');
    for (const [i, frames] of conversations.entries()) {
      const record = conn.find((r) => r['id.orig_p'] === 40_000 + i);
      expect(record).toMatchObject({
        conn_state: 'SF',
        orig_bytes: i % 2 === 0 ? 0 : 3_000_000,
        resp_bytes: i % 2 === 0 ? 3_000_000 : 0,
      });
      expect(sumOf(record === undefined ? [] : [record], 'orig_pkts', 'resp_pkts')).toBe(frames.length);
    }
    expect(sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts')).toBe(summary.ledger?.shunted.pkts);
    expectNothingLeft(a);
  } finally {
    remove();
  }
});

const download = (port: number): Uint8Array[] =>
  mixed([
    conversation({ client: { address: '192.0.2.8', port }, turns: [{ from: 'server', data: 2_000_000 }] }),
  ]);

kernelTest(
  'an interface that goes down is waited for, one that goes away ends the run',
  [...XDP],
  async () => {
    const { a, b } = vethPair();
    using logs = new LogDir();
    await using run = await runOn(a, logs).ready();
    const { pins, lock } = places(interfaceInfo(a).index);
    const before = download(5001);
    const after = download(5002);
    await new Feed(b, before, 10_000, shuntedBy(logs, before, 1)).done;
    ip(`link set ${a} down`);
    await until(() => run.stderr.includes(`${a} is down`), 'nobody says that it is down');
    ip(`link set ${a} up`);
    await until(() => run.stderr.includes(`${a} is up again`), 'nobody says that it is up again');
    untilOperational(a, b);
    await new Feed(b, after, 10_000, shuntedBy(logs, after, 2)).done;
    await until(() => logs.shunts('end') === 2, 'the second connection was not seen');
    ip(`link del ${a}`);
    const ended = await run.end();
    expect(ended).toMatchObject({ code: 1, signal: null });
    const summary = documentOf(ended);
    expect(summary.error).toMatchObject({ code: 'INTERFACE_GONE', message: `the interface ${a} has gone` });
    expect(ended.stderr).toContain('error[INTERFACE_GONE]');
    expect(summary.connections).toBe(2);
    expect(summary.ledger?.seen.pkts).toBe(before.length + after.length);
    expect(sumOf(logs.read('conn'), 'orig_pkts', 'resp_pkts')).toBe(before.length + after.length);
    expect(logs.read('notice').map((r) => r['note'])).toEqual([
      'Sluice::Interface_Down',
      'Sluice::Interface_Up',
      'Sluice::Interface_Gone',
    ]);
    expect(existsSync(pins) || existsSync(lock)).toBe(false);
  },
);

kernelTest('a flow with an endpoint on this host is never shunted', [...XDP], async () => {
  const own = vethPair();
  const tap = vethPair();
  using logs = new LogDir();
  const peer = await Namespace.create('peer');
  try {
    ip(`link set ${own.b} netns ${peer.pid}`);
    ip(`address add 10.73.0.1/24 dev ${own.a}`);
    await peer.ip([`link set ${own.b} up`, `address add 10.73.0.2/24 dev ${own.b}`]);
    const received: number[] = [];
    const server = createServer((request, response) => {
      let bytes = 0;
      request.on('data', (data: Buffer) => {
        bytes += data.length;
      });
      request.on('end', () => {
        received.push(bytes);
        response.end(Buffer.alloc(3_000_000));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '10.73.0.1', resolve));
    await using run = await runOn(`${own.a},${tap.a}`, logs, '--tap').ready();
    // Real traffic of this host, both ways, over the interface with the gate.
    const url = `http://10.73.0.1:${(server.address() as AddressInfo).port}/`;
    const upload = ['-H', 'Expect:', '--data-binary', '@-'];
    const measure = ['-s', '-o', '/dev/null', '-w', '%{http_code} %{size_download}'];
    const { stdout } = await peer.exec(['curl', ...measure, ...upload, url], {
      input: 'x'.repeat(3_000_000),
    });
    expect(stdout).toBe('200 3000000');
    expect(received).toEqual([3_000_000]);
    server.close();
    // And where both directions are seen, as on a mirror port of the host's own link: TCP, UDP.
    const tcp = conversation({
      client: { address: '192.0.2.9', port: 6000 },
      server: { address: '10.73.0.1', port: 443 },
      turns: [{ from: 'client', data: 3_000_000 }],
    });
    const datagram = eth()
      .ipv4({ src: '10.73.0.1', dst: '192.0.2.10' })
      .udp({ sport: 5000, dport: 6000 })
      .payload(1400)
      .bytes();
    await new Feed(tap.b, [...mixed([tcp]), ...Array.from({ length: 1500 }, () => datagram)]).done;
    const summary = documentOf(await run.stop());
    expect(summary).toMatchObject({ shuntedConnections: 0, refused: 2 });
    expect(summary.ledger?.shunted.pkts).toBe(0);
    expect(summary.ledger?.seen.pkts).toBeGreaterThan(tcp.length + 1500 + 2000);
    const lines = logs.read('shunt').map((r) => [r['event'], r['reason'], r['proto'], r['id.orig_h']]);
    expect(lines).toEqual([
      ['refused', 'local', 'tcp', '192.0.2.9'],
      ['refused', 'local', 'udp', '10.73.0.1'],
    ]);
  } finally {
    await peer.close();
    tap.remove();
  }
});
