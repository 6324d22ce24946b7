import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { createLab, type Lab } from '../../lab/lab.ts';
import type { TapName } from '../../lab/options.ts';
import { mixedPlan } from '../../lab/plan.ts';
import { runTraffic } from '../../lab/traffic.ts';
import type { StatusReport } from '../../src/gate/control-protocol.ts';
import { packageRoot } from '../../src/kernel/index.ts';
import { readLog } from '../../src/log/reader.ts';
import { ipText } from '../../src/packet/address.ts';
import { eventually } from '../gate/daemon-support.ts';
import { kernelTest } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'syscallProgram'] as const;
const END_SECONDS = 120;
/** For traffic that takes some ten. */
const TRAFFIC_SECONDS = 600;
/** Slow enough that no listener loses a packet on a busy machine. */
const MBPS = 150;

const installed = (program: string): boolean => spawnSync('which', [program]).status === 0;

/** Column of /proc/net/packet. */
const RUNNING = 5;

/** A tool that listens on a tap. */
class Listener {
  readonly process: ChildProcess;
  text = '';

  constructor(lab: Lab, tap: TapName, command: string, args: (ifname: string) => string[]) {
    const { netns, ifname } = lab.tap(tap);
    // Whatever else the machine does, it loses no packet.
    const before = ['-n', '-20', 'nsenter', `--net=${netns}`];
    this.process = spawn('nice', [...before, command, ...args(ifname)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.process.stdout, this.process.stderr])
      stream?.on('data', (data: Buffer) => (this.text += data.toString()));
  }

  /** So many have a packet socket that takes packets: it is there before, and takes none. */
  async listening(lab: Lab, tap: TapName, number: number): Promise<void> {
    const { netns } = lab.tap(tap);
    await eventually(async () => {
      const { stdout } = spawnSync('nsenter', [`--net=${netns}`, 'cat', '/proc/net/packet'], {
        encoding: 'utf8',
      });
      const sockets = stdout.trim().split('\n').slice(1);
      return sockets.filter((line) => line.trim().split(/\s+/)[RUNNING] === '1').length >= number
        ? true
        : undefined;
    }, `no listener: ${this.text}`);
  }

  /** Of tcpdump: packets captured and lost so far. */
  async counts(): Promise<{ captured: number; lost: number }> {
    this.text = '';
    this.process.kill('SIGUSR1');
    return await eventually(async () => {
      const found = /(\d+) packets captured.*?(\d+) packets dropped by kernel/s.exec(this.text);
      return found === null ? undefined : { captured: Number(found[1]), lost: Number(found[2]) };
    }, 'tcpdump says nothing');
  }

  async stop(): Promise<void> {
    if (this.process.exitCode !== null) return;
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    const late = setTimeout(() => this.process.kill('SIGKILL'), END_SECONDS * 1000);
    this.process.kill('SIGTERM');
    await ended;
    clearTimeout(late);
  }
}

/** TCP and UDP packets in the flows that nfpcapd has written. */
function packetsByNfdump(flows: string): number {
  const args = ['-R', flows, '-q', '-N', '-o', 'fmt:%pkt', 'proto tcp or proto udp'];
  const text = execFileSync('nfdump', args, { encoding: 'utf8' });
  return text.split('\n').reduce((total, line) => total + (Number(line.trim()) || 0), 0);
}

/** Packets and IP bytes of each direction of each TCP and UDP flow in a capture. */
function tally(file: string): Map<string, { pkts: number; bytes: number }> {
  const data = readFileSync(file);
  const flows = new Map<string, { pkts: number; bytes: number }>();
  for (let at = 24; at + 16 <= data.length; ) {
    const length = data.readUInt32LE(at + 8);
    const frame = data.subarray(at + 16, at + 16 + length);
    at += 16 + length;
    const type = frame.readUInt16BE(12);
    if (type !== 0x0800 && type !== 0x86dd) continue;
    const v4 = type === 0x0800;
    const proto = v4 ? frame[23] : frame[20];
    if (proto !== 6 && proto !== 17) continue;
    const l4 = v4 ? 14 + (frame[14] & 15) * 4 : 54;
    const [from, to, size] = v4 ? [26, 30, 4] : [22, 38, 16];
    const end = (address: number, port: number): string =>
      `${ipText(frame, address, size as 4 | 16)} ${frame.readUInt16BE(port)}`;
    const key = flowKey(proto === 6 ? 'tcp' : 'udp', end(from, l4), end(to, l4 + 2));
    const flow = flows.get(key) ?? { pkts: 0, bytes: 0 };
    flow.pkts++;
    flow.bytes += v4 ? frame.readUInt16BE(16) : 40 + frame.readUInt16BE(18);
    flows.set(key, flow);
  }
  return flows;
}

const flowKey = (proto: string, from: string, to: string): string => `${proto} ${from} > ${to}`;

type Line = Record<string, unknown>;

kernelTest(
  'a gate that stands alone: what tcpdump does not see behind it is in its shunt.log, packet by packet; argus and nfpcapd see the rest as well',
  [...FEATURES],
  async () => {
    const missing = ['tcpdump', 'argus', 'ra', 'nfpcapd', 'nfdump'].filter((name) => !installed(name));
    if (missing.length > 0) throw new Error(`not installed: ${missing.join(', ')}`);
    await using lab = await createLab({ mbps: MBPS });
    const dir = mkdtempSync(join(tmpdir(), 'sluice-alone-'));
    await using cleanUp = new AsyncDisposableStack();
    cleanUp.defer(() => rmSync(dir, { recursive: true, force: true }));
    mkdirSync(join(dir, 'nf'));
    const { netns, ifname } = lab.tap('a');
    const sluice = (...args: string[]) => {
      const command = [`--net=${netns}`, process.execPath, join(packageRoot(), 'bin', 'sluice.js'), ...args];
      const { status, stdout, stderr } = spawnSync('nsenter', command, { encoding: 'utf8' });
      if (status !== 0) throw new Error(`${args.join(' ')}: ${stderr}`);
      return stdout;
    };
    sluice(
      'gate',
      'up',
      '-i',
      ifname,
      '--tap',
      '--alone',
      'tls,bulk=300kB',
      '--log-dir',
      dir,
      '--alone-idle',
      '2s',
    );
    cleanUp.defer(() => void sluice('gate', 'down', '-i', ifname));
    const capture = (name: string) => (tap: string) => [
      '-i',
      tap,
      '-n',
      '-Z',
      'root',
      '-B',
      '65536',
      '-s',
      '128',
      '-w',
      join(dir, name),
    ];
    const listeners = [
      new Listener(lab, 'b', 'tcpdump', capture('b.pcap')),
      new Listener(lab, 'a', 'tcpdump', capture('a.pcap')),
      new Listener(lab, 'a', 'argus', (tap) => ['-X', '-i', tap, '-w', join(dir, 'argus.out')]),
      new Listener(lab, 'a', 'nfpcapd', (tap) => ['-i', tap, '-b', '64', '-w', join(dir, 'nf')]),
    ];
    cleanUp.defer(async () => {
      for (const listener of listeners) await listener.stop();
    });
    const [plain, behind, argus, nfpcapd] = listeners;
    await plain.listening(lab, 'b', 1);
    await behind.listening(lab, 'a', 3);
    const report = await runTraffic(lab, { ...mixedPlan(), maxSeconds: TRAFFIC_SECONDS });
    expect(report.errors).toEqual([]);

    const status = (): StatusReport =>
      JSON.parse(sluice('gate', 'status', '-i', ifname, '--json')) as StatusReport;
    const all = await eventually(async () => {
      const { txPackets } = await lab.mirrorCounters('a');
      const now = status();
      return now.seen.pkts >= txPackets ? now : undefined;
    }, 'the gate has not seen all that was sent');
    const [atB, atA] = [
      await eventually(async () => {
        const now = await plain.counts();
        return now.captured + now.lost >= all.seen.pkts ? now : undefined;
      }, 'tcpdump without a gate has not come to all'),
      await eventually(async () => {
        const now = await behind.counts();
        return now.captured + now.lost >= all.passed.pkts ? now : undefined;
      }, 'tcpdump behind the gate has not come to all'),
    ];
    expect([atA.lost, atB.lost]).toEqual([0, 0]);
    // Every entry ends, by its closing packets or by silence, and has a line.
    await eventually(
      async () => {
        const { tables } = status();
        return tables.flows4.entries + tables.flows6.entries === 0 ? true : undefined;
      },
      'shunts that do not end',
      END_SECONDS,
    );
    const books = status();
    for (const listener of listeners) await listener.stop();

    const [whole, seen] = [tally(join(dir, 'b.pcap')), tally(join(dir, 'a.pcap'))];
    const lines = readLog(join(dir, 'shunt.log')).records as Line[];
    const ends = lines.filter((line) => line['event'] === 'end');
    const dropped = new Map<string, { pkts: number; bytes: number }>();
    for (const line of ends) {
      const [orig, resp] = ['orig', 'resp'].map(
        (side) => `${String(line[`id.${side}_h`])} ${String(line[`id.${side}_p`])}`,
      );
      for (const [side, key] of [
        ['orig', flowKey(String(line['proto']), orig, resp)],
        ['resp', flowKey(String(line['proto']), resp, orig)],
      ] as const) {
        const sum = dropped.get(key) ?? { pkts: 0, bytes: 0 };
        sum.pkts += Number(line[`${side}_shunted_pkts`]);
        sum.bytes += Number(line[`${side}_shunted_bytes`]);
        dropped.set(key, sum);
      }
    }
    const differences: string[] = [];
    for (const [key, { pkts, bytes }] of whole) {
      const got = seen.get(key) ?? { pkts: 0, bytes: 0 };
      const told = dropped.get(key) ?? { pkts: 0, bytes: 0 };
      if (got.pkts + told.pkts !== pkts || got.bytes + told.bytes !== bytes)
        differences.push(`${key}: ${pkts} packets, ${got.pkts} seen, ${told.pkts} in shunt.log`);
    }
    expect(differences).toEqual([]);
    const sum = [...dropped.values()].reduce((total, { pkts }) => total + pkts, 0);
    expect(sum).toBe(books.shunted.pkts);
    expect(whole.size).toBeGreaterThan(1000);
    // Most of the mix is TLS and bulk.
    expect(books.shunted.pkts / books.seen.pkts).toBeGreaterThan(0.5);
    const starts = lines.filter((line) => line['event'] === 'start');
    expect(new Set(starts.map((line) => line['shunt_trigger']))).toEqual(
      new Set(['TLS_ESTABLISHED', 'BULK']),
    );
    expect(starts).toHaveLength(ends.length);
    for (const line of ends)
      expect(line).toMatchObject({
        ts: expect.any(Number),
        proto: expect.stringMatching(/tcp|udp/),
        community_id: expect.stringMatching(/^1:/),
      });
    for (const line of ends.filter(
      (each) => Number(each['orig_shunted_pkts']) + Number(each['resp_shunted_pkts']) > 0,
    ))
      expect(line).toMatchObject({ delay: expect.any(Number), last_packet: expect.any(Number) });
    // TLS: who is the client is known.
    for (const line of ends.filter((each) => each['shunt_trigger'] === 'TLS_ESTABLISHED'))
      expect(Number(line['id.resp_p'])).toBeLessThan(Number(line['id.orig_p']));

    // The others count what tcpdump counts.
    const passed = [...seen.values()].reduce((total, { pkts }) => total + pkts, 0);
    const ra = spawnSync(
      'ra',
      ['-r', join(dir, 'argus.out'), '-n', '-c', ',', '-s', 'pkts', '-', 'tcp or udp'],
      { encoding: 'utf8' },
    );
    const byArgus = ra.stdout.split('\n').reduce((total, line) => total + (Number(line.trim()) || 0), 0);
    expect(byArgus, argus.text).toBe(passed);
    // nfpcapd loses packets of its own in bursts (its buffer is libpcap's least, whatever -b says): of what it saw live there is
    // a bound, and what tcpdump has kept behind the gate it counts packet by packet.
    const live = packetsByNfdump(join(dir, 'nf'));
    expect(live, nfpcapd.text).toBeGreaterThan(0.5 * passed);
    expect(live, nfpcapd.text).toBeLessThanOrEqual(passed);
    mkdirSync(join(dir, 'nf-file'));
    execFileSync('nfpcapd', ['-r', join(dir, 'a.pcap'), '-w', join(dir, 'nf-file')], { stdio: 'pipe' });
    expect(packetsByNfdump(join(dir, 'nf-file'))).toBe(passed);
  },
);
