import { once } from 'node:events';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { readLog } from '../../src/log/reader.ts';
import { eth } from '../../src/packet/build.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { type FrameToWrite, pcapFile } from '../../src/packet/pcap.ts';
import { type Child, type Outcome, sluice, start } from '../support/command.ts';
import { gwlbOptions, SHAPES } from '../support/mirror-frames.ts';

let dir: string;
let logs: string;
const children: Child[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-encap-'));
  logs = join(dir, 'logs');
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

const START = 1_700_000_000;

/** TCP connections to port 80 and one to port 443 of IPv6, in Ethernet. */
function trace(connections = 3, at = START): FrameToWrite[] {
  return Array.from({ length: connections }, (_, n) =>
    conversation({
      client: { address: n === 2 ? '2001:db8::1' : '192.0.2.1', port: 20_000 + n },
      server: { address: n === 2 ? '2001:db8::2' : '203.0.113.7', port: n === 2 ? 443 : 80 },
      turns: [
        { from: 'client', data: 100 + n },
        { from: 'server', data: 3000 },
      ],
      start: at + n * 0.01,
      gap: 0.0001,
    }),
  ).flat();
}

function write(name: string, bytes: Uint8Array): string {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
}

/** conn.log without the uids. */
function conns(folder = logs): Record<string, unknown>[] {
  return readLog(join(folder, 'conn.log')).records.map(({ uid, ...rest }) => {
    expect(uid).toMatch(/^C/);
    return rest;
  });
}

const json = ({ stdout }: Outcome) => JSON.parse(stdout) as Record<string, unknown>;

const nothing = () => {};

interface Running {
  child: Child;
  outcome: Promise<Outcome>;
  /** What stderr has said, or will say, of this: the first group of the expression. */
  said: (words: RegExp) => Promise<string>;
}

/** Starts the program; it is killed at the end of the test if need be. */
function run(...args: string[]): Running {
  const { child, outcome } = start(...args);
  children.push(child);
  let text = '';
  let open = true;
  let changed = nothing;
  child.stderr.on('data', (data: Buffer) => {
    text += data.toString();
    changed();
  });
  child.once('close', () => {
    open = false;
    changed();
  });
  const said = async (words: RegExp) => {
    for (;;) {
      const match = words.exec(text);
      if (match !== null) return match[1];
      if (!open) throw new Error(`it ended without saying ${words}: ${text}`);
      await new Promise<void>((resolve) => (changed = resolve));
    }
  };
  return { child, outcome, said };
}

describe('sluice read --encap', () => {
  it.each(Object.entries(SHAPES))('%s: conn.log as of the plain file, with the VNI', async (_, shape) => {
    const frames = trace();
    const plain = write('plain.pcap', pcapFile(frames));
    const mirror = write(
      'mirror.pcap',
      pcapFile(frames.map(({ ts, bytes }) => ({ ts, bytes: shape.wrap(bytes).bytes() }))),
    );
    expect(await sluice('read', plain, '--log-dir', logs)).toMatchObject({ code: 0 });
    const expected = conns();
    const outcome = await sluice(
      'read',
      mirror,
      '--encap',
      shape.encap,
      '--vni',
      '--log-dir',
      logs,
      '--json',
    );
    expect(outcome.code).toBe(0);
    const { vxlanVni, geneveVni } = shape.vnis;
    const ids = {
      ...(vxlanVni === undefined ? {} : { 'id.ctx.vxlan_vni': vxlanVni }),
      ...(geneveVni === undefined ? {} : { 'id.ctx.geneve_vni': geneveVni }),
    };
    expect(conns()).toEqual(expected.map((record) => ({ ...record, ...ids })));
    expect(json(outcome)).toMatchObject({
      packets: frames.length,
      flows: 3,
      mirror: { packets: frames.length, frames: frames.length, left: {} },
    });
  });

  test('two mirrors with equal tuples: by --tunnel-key two connections, and one without it', async () => {
    const { wrap } = SHAPES['VXLAN (AWS Traffic Mirroring, Azure vTAP)'];
    const frames = trace(1);
    const twice = frames.flatMap(({ ts, bytes }) => [
      { ts, bytes: wrap(bytes).bytes() },
      {
        ts,
        bytes: eth().ipv4().udp({ dport: 4789 }).vxlan({ vni: 6 }).payload(bytes).bytes(),
      },
    ]);
    const mirror = write('mirror.pcap', pcapFile(twice));
    const seen = async (...flags: string[]) => {
      expect(await sluice('read', mirror, '--encap', 'vxlan', '--log-dir', logs, ...flags)).toMatchObject({
        code: 0,
      });
      return conns().map((record) => [record['id.ctx.vxlan_vni'], record['orig_pkts'], record['conn_state']]);
    };
    const half = Number((await seen('--tunnel-key'))[0][1]);
    expect(await seen('--tunnel-key')).toEqual([
      [0x0a1b2c, half, 'SF'],
      [6, half, 'SF'],
    ]);
    const together = await seen();
    expect(together.map(([vni, packets]) => [vni, packets])).toEqual([[undefined, 2 * half]]);
  });

  test('--gwlb: what AWS Gateway Load Balancer says of the first packet of a connection', async () => {
    const frames = trace(2);
    const mirror = write(
      'mirror.pcap',
      pcapFile(
        frames.map(({ ts, bytes }, i) => ({
          ts,
          bytes: eth()
            .ipv4()
            .udp({ dport: 6081 })
            // Another cookie for each packet, and none with those of the second connection.
            .geneve({
              vni: 0,
              protocol: 0x0800,
              options: Number(ts) < START + 0.01 ? gwlbOptions(7 + i) : [],
            })
            .payload(bytes.subarray(14))
            .bytes(),
        })),
      ),
    );
    expect(await sluice('read', mirror, '--encap', 'geneve', '--gwlb', '--log-dir', logs)).toMatchObject({
      code: 0,
    });
    const told = conns().map((record) => [
      record['gwlb_endpoint'],
      record['gwlb_attachment'],
      record['gwlb_cookie'],
    ]);
    expect(told).toEqual([
      ['vpce-00a1b2c3d4e5f6071', '0000000000001234', 7],
      [undefined, undefined, undefined],
    ]);
    await sluice('read', mirror, '--encap', 'geneve', '--log-dir', logs);
    expect(conns()[0]).not.toHaveProperty('gwlb_endpoint');
  });

  test('what holds no frame is told by its reason', async () => {
    const { wrap } = SHAPES['VXLAN (AWS Traffic Mirroring, Azure vTAP)'];
    const frames = trace(1).map(({ ts, bytes }) => ({ ts, bytes: wrap(bytes).bytes() }));
    const others = [
      eth().ipv4().udp({ dport: 53 }),
      eth().ipv4().udp({ dport: 4789 }).vxlan({ flags: 0 }).payload(60),
      eth().ipv4().udp({ dport: 4789 }).vxlan({ flags: 0 }).payload(60),
    ].map((frame) => ({ ts: START + 1, bytes: frame.bytes() }));
    const mirror = write('mirror.pcap', pcapFile([...frames, ...others]));
    const { stdout } = await sluice('read', mirror, '--encap', 'vxlan', '--log-dir', logs);
    expect(stdout).toContain(
      `mirror: ${frames.length + 3} recorded packets, ${frames.length} frames; without a frame: 1 other, 2 flags`,
    );
    // As the file is, it is one connection that carries another.
    await sluice('read', mirror, '--log-dir', logs);
    expect(conns().some((record) => record['service'] === 'vxlan')).toBe(true);
  });

  it.each([
    ['gre', "'gre' is no encapsulation"],
    ['raw', "'raw' does not say which datagrams"],
    ['vxlan,port=x', "'x' is not a UDP port"],
  ])('--encap %s is refused', async (encap, message) => {
    const { code, stderr } = await sluice('read', join(dir, 'x'), '--encap', encap, '--log-dir', logs);
    expect(code).toBe(2);
    expect(stderr).toContain(`error[USAGE]: ${message}`);
    expect(existsSync(logs)).toBe(false);
  });
});

describe('sluice read --speed', () => {
  test('waits for each packet', async () => {
    const frames = trace(1).slice(0, 2);
    frames[1] = { ...frames[1], ts: START + 3 };
    const path = write('a.pcap', pcapFile(frames));
    const summary = json(await sluice('read', path, '--speed', '10', '--log-dir', logs, '--json'));
    expect(summary).toMatchObject({ packets: 2, captureSeconds: 3 });
    expect(Number(summary['seconds'])).toBeGreaterThanOrEqual(0.3);
  });

  it.each(['0', '-1', 'fast', '1e9', '1e99'])('%s is refused', async (speed) => {
    const { code, stderr } = await sluice('read', join(dir, 'x'), `--speed=${speed}`);
    expect(code).toBe(2);
    expect(stderr).toContain('must be recorded, full, or a factor');
  });

  test('a signal ends a wait; what has ended until then is in the logs already', async () => {
    const frames = trace(1);
    const more = [60, 86_400].map((after) => ({ ...frames[0], ts: START + after }));
    const path = write('a.pcap', pcapFile([...frames, ...more]));
    const { child, outcome } = run('read', path, '--speed', '200', '--log-dir', logs, '--json');
    const log = join(logs, 'conn.log');
    while (!existsSync(log) || statSync(log).size === 0) await sleep(20);
    expect(conns()).toHaveLength(1);
    child.kill('SIGINT');
    const ended = await outcome;
    expect(ended.code).toBe(130);
    expect(json(ended)).toMatchObject({ packets: frames.length + 1, interrupted: true });
    expect(conns()).toHaveLength(2);
  });
});

describe('sluice read --follow', () => {
  test('reads what comes, and a signal ends it with complete logs', async () => {
    const captures = join(dir, 'captures');
    mkdirSync(captures);
    const first = pcapFile(trace(3));
    writeFileSync(join(captures, 'a.pcap'), first.subarray(0, first.length - 5));
    const { child, outcome, said } = run('read', '--follow', captures, '--log-dir', logs, '--json', '-v');
    while (!existsSync(join(logs, 'conn.log'))) await sleep(20);
    appendFileSync(join(captures, 'a.pcap'), first.subarray(first.length - 5));
    writeFileSync(join(captures, 'b.pcap'), pcapFile(trace(3, START + 10)));
    expect(await said(/read: \S*(a\.pcap)/)).toBe('a.pcap');
    writeFileSync(join(captures, 'c.pcap'), pcapFile([]));
    expect(await said(/read: \S*(b\.pcap)/)).toBe('b.pcap');
    child.kill('SIGTERM');
    const ended = await outcome;
    expect(ended.code).toBe(0);
    expect(json(ended)).toMatchObject({
      files: 2,
      packets: 2 * trace(3).length,
      flows: 6,
      interrupted: true,
    });
    expect(conns()).toHaveLength(6);
  });

  test('takes one directory', async () => {
    const two = await sluice('read', '--follow', dir, dir, '--log-dir', logs);
    expect(two).toMatchObject({ code: 2 });
    expect(two.stderr).toContain('--follow takes one directory, not 2');
    const file = await sluice('read', '--follow', write('a.pcap', pcapFile([])), '--log-dir', logs);
    expect(file).toMatchObject({ code: 1 });
    expect(file.stderr).toContain('is no directory');
    const directory = await sluice('read', dir, '--log-dir', logs);
    expect(directory.stderr).toContain('sluice read --follow');
  });
});

describe('PCAP-over-IP', () => {
  test('from replay to read, of a recorded mirror', async () => {
    const { wrap, encap } = SHAPES['GENEVE+VXLAN over IPv6'];
    const frames = trace();
    const mirror = write(
      'mirror.pcap',
      pcapFile(frames.map(({ ts, bytes }) => ({ ts, bytes: wrap(bytes).bytes() }))),
    );
    const reader = run('read', 'tcp-listen://127.0.0.1:0', '--encap', encap, '--log-dir', logs, '--json');
    const url = await reader.said(/listening on (\S+)/);
    const sent = await sluice('replay', mirror, '--to', url.replace('tcp-listen', 'tcp'), '--json');
    expect(sent.code).toBe(0);
    expect(json(sent)).toMatchObject({ packets: frames.length, receivers: 1, slow: 0, left: 0 });
    expect(json(await reader.outcome)).toMatchObject({ packets: frames.length, flows: 3 });
    expect(conns()).toHaveLength(3);
  });

  test('replay serves several, and takes a pipe', async () => {
    const frames = trace();
    const sender = run('replay', '-', '--to', 'tcp-listen://[::1]:0', '--clients', '2', '--json');
    const url = (await sender.said(/listening on (\S+)/)).replace('tcp-listen', 'tcp');
    const readers = ['a', 'b'].map((name) => sluice('read', url, '--log-dir', join(dir, name)));
    sender.child.stdin.end(pcapFile(frames));
    expect(await Promise.all(readers)).toMatchObject([{ code: 0 }, { code: 0 }]);
    expect(json(await sender.outcome)).toMatchObject({ packets: frames.length, receivers: 2 });
    expect(conns(join(dir, 'a'))).toEqual(conns(join(dir, 'b')));
    expect(conns(join(dir, 'a'))).toHaveLength(3);
  });

  test('a recorded mirror can be sent without its tunnel', async () => {
    const { wrap, encap } = SHAPES['GENEVE around Ethernet'];
    const frames = trace();
    const mirror = write(
      'mirror.pcap',
      pcapFile(frames.map(({ ts, bytes }) => ({ ts, bytes: wrap(bytes).bytes() }))),
    );
    const reader = run('read', 'tcp-listen://127.0.0.1:0', '--log-dir', logs);
    const url = (await reader.said(/listening on (\S+)/)).replace('tcp-listen', 'tcp');
    expect(await sluice('replay', mirror, '--encap', encap, '--to', url)).toMatchObject({ code: 0 });
    expect(await reader.outcome).toMatchObject({ code: 0 });
    expect(conns()).toHaveLength(3);
  });

  test('nobody there is an error with a code, and a stream that is no capture too', async () => {
    const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(
      0,
      '127.0.0.1',
    );
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const wrong = await sluice('read', `tcp://127.0.0.1:${port}`, '--log-dir', logs);
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain('error[FILE_FORMAT]');
    server.close();
    await once(server, 'close');
    for (const args of [
      ['read', `tcp://127.0.0.1:${port}`, '--log-dir', logs],
      ['replay', write('a.pcap', pcapFile(trace(1))), '--to', `tcp://127.0.0.1:${port}`],
    ]) {
      const { code, stderr } = await sluice(...args);
      expect(code).toBe(1);
      expect(stderr).toContain(`error[STREAM]: tcp://127.0.0.1:${port}: nobody listens there`);
      expect(stderr).toContain('help: ');
    }
  });

  test('a signal ends both ways of waiting', async () => {
    const file = write('a.pcap', pcapFile(trace(1)));
    const waiting = [
      run('read', 'tcp-listen://127.0.0.1:0', '--log-dir', logs, '--json'),
      run('replay', file, '--to', 'tcp-listen://127.0.0.1:0', '--json'),
    ];
    for (const { child, outcome, said } of waiting) {
      await said(/listening on (\S+)/);
      child.kill('SIGTERM');
      const ended = await outcome;
      expect(ended.code).toBe(0);
      expect(json(ended)).toMatchObject({ packets: 0, interrupted: true });
    }
  });

  it.each([
    ['read', 'tcp://'],
    ['read', 'tcp-listen://127.0.0.1:http'],
  ])('%s %s is refused', async (...args) => {
    const { code, stderr } = await sluice(...args, '--log-dir', logs);
    expect(code).toBe(2);
    expect(stderr).toContain('is no PCAP-over-IP address');
  });

  test('replay refuses what it cannot do', async () => {
    const file = write('a.pcap', pcapFile([]));
    expect((await sluice('replay', file)).stderr).toContain("required option '--to <URL>' not specified");
    expect((await sluice('replay', file, '--to', 'udp://x')).stderr).toContain('is no PCAP-over-IP address');
    expect((await sluice('replay', file, '--to', 'tcp://x', '--clients', '99')).stderr).toContain(
      'from 0 to 64',
    );
  });
});
