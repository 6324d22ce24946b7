import { type ChildProcess, execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { VerdictCounts } from '../../src/gate/cap.ts';
import { captureState, programIn } from '../../src/gate/cap-slots.ts';
import { eth } from '../../src/packet/build.ts';
import { Captures, Foreign, shown, tcpdump, tshark } from '../gate/cap-support.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { type Outcome, sluice, start } from '../support/command.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

const A = '10.1.0.1';
const B = '10.1.0.2';
const XDP_DROP = 1;
const shunted = eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport: 6000 }).payload('shunted');
const other = eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport: 53 }).payload('other');
const SLUICE = fileURLToPath(new URL('../support/sluice.ts', import.meta.url));
const FLOW = `udp ${A}:5000 ${B}:6000`;

/** Starts a capture as a process; resolves once it captures. */
async function cap(...args: string[]): Promise<{ child: ChildProcess; outcome: Promise<Outcome> }> {
  const { child, outcome } = start('cap', ...args);
  let talk = '';
  await new Promise<void>((resolve, reject) => {
    child.stderr.on('data', (data: Buffer) => {
      talk += data.toString();
      if (/^ready$/m.test(talk)) resolve();
    });
    child.once('close', () => reject(new Error(talk)));
  });
  return { child, outcome };
}

interface Report {
  packets: number;
  files: string[];
  verdicts: Record<string, VerdictCounts>;
}

kernelTest(
  'a gate that is up: reasons, what tshark and tcpdump read, a clean end, the ledger',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using files = new Captures();
    await using gate = await UpGate.up();
    expect((await gate.shunt('add', '--flow', FLOW)).code).toBe(0);
    const file = files.at('gate.pcapng');
    const before = await gate.status();
    const { child, outcome } = await cap(gate.ifname, '-w', file, '--json', '--buffer', '64KiB');
    expect((await gate.status()).slots.hook).toHaveLength(5);
    gate.send(shunted, 3);
    gate.send(other, 2);
    // Under pressure: more than the ring holds, faster than it is read.
    for (let i = 0; i < 30; i++) {
      gate.send(shunted, 1000);
      gate.send(other, 1000);
    }
    child.kill('SIGTERM');
    const { code, stdout } = await outcome;
    expect(code).toBe(0);
    const { verdicts, packets } = JSON.parse(stdout) as Report;
    const after = await gate.status();
    expect(after.slots.hook).toEqual([]);
    const { drop, pass } = verdicts;
    expect(drop.seen).toBe(30_003);
    expect(drop.seen).toBe(after.shunted.pkts - before.shunted.pkts);
    expect(pass.seen).toBe(after.passed.pkts - before.passed.pkts);
    for (const one of [drop, pass]) expect(one.captured + one.lost).toBe(one.seen);
    expect(packets).toBe(drop.captured + pass.captured);
    const packetsShown = tshark(file);
    expect(packetsShown).toHaveLength(packets);
    expect(packetsShown.slice(0, 5).map((one) => [one.interface, one.comment])).toEqual([
      ...Array(3).fill(['XDPdrop', 'verdict=shunted owner=hand']),
      ...Array(2).fill(['XDPpass', 'verdict=passNoEntry']),
    ]);
    expect(tcpdump(file)).toHaveLength(packets);
  },
);

kernelTest(
  'piped into tcpdump, packet by packet; a reader that has enough ends it',
  ['xdpFrags'],
  async () => {
    await using gate = await UpGate.up();
    const command = (reader: string): string =>
      `'${process.execPath}' '${SLUICE}' cap ${gate.ifname} 'port 53' -w - | ${reader}`;
    const send = setInterval(() => gate.send(other), 20);
    try {
      const piped = await promisify(execFile)('bash', [
        '-o',
        'pipefail',
        '-c',
        command('tcpdump -nn -c 3 -r -'),
      ]);
      expect(piped.stdout.match(/> 10\.1\.0\.2\.53:/g)).toHaveLength(3);
      await promisify(execFile)('bash', ['-o', 'pipefail', '-c', command('head -c 2000 > /dev/null')]);
    } finally {
      clearInterval(send);
    }
    expect((await gate.status()).slots.hook).toEqual([]);
  },
);

kernelTest(
  'a killed capture: packets go on, the gate takes it out, the next capture takes its place',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using files = new Captures();
    await using gate = await UpGate.up();
    await gate.shunt('add', '--flow', FLOW);
    const first = await cap(gate.ifname, '-w', files.at('killed'));
    first.child.kill('SIGKILL');
    await first.outcome;
    gate.send(shunted, 5);
    expect((await gate.status()).shunted.pkts).toBe(5);
    await eventually(
      async () => ((await gate.status()).slots.hook.length === 0 ? true : undefined),
      'the slots of a killed capture are still taken',
    );
    const file = files.at('second.pcapng');
    const { child, outcome } = await cap(gate.ifname, '-w', file);
    gate.send(shunted, 2);
    child.kill('SIGINT');
    expect((await outcome).code).toBe(130);
    expect(shown(file).map((one) => one.interface)).toEqual(['XDPdrop', 'XDPdrop']);
  },
);

kernelTest(
  'a killed capture at a hook of somebody else: a jump is left, until the next one',
  ['xdpFrags'],
  async () => {
    using files = new Captures();
    using foreign = new Foreign('test_plain', 37);
    const hook = foreign.object.map('test_hook');
    const packet = (port: number): Uint8Array =>
      eth().ipv4({ src: A, dst: B }).udp({ sport: 1, dport: port }).bytes();
    const run = (): number[] => [0, 1, 2, 3].map((port) => foreign.run(packet(port)));
    const { child, outcome } = await cap(foreign.hook, 'udp', '-w', files.at('killed'));
    const entry = programIn(hook, XDP_DROP) ?? 0;
    expect(captureState(entry)).toBe('alive');
    expect(run()).toEqual([0, 1, 2, 3]);
    child.kill('SIGKILL');
    await outcome;
    await eventually(
      () => Promise.resolve(captureState(entry) === 'dead' ? true : undefined),
      'the programs of a killed capture are still there',
    );
    expect(programIn(hook, XDP_DROP)).toBe(entry);
    expect(run()).toEqual([0, 1, 2, 3]);
    const file = files.at('next.pcapng');
    const { code, stdout } = await sluice('cap', foreign.hook, '--duration', '100ms', '-w', file, '--json');
    expect([code, (JSON.parse(stdout) as Report).packets]).toEqual([0, 0]);
    expect(programIn(hook, XDP_DROP)).toBeUndefined();
    expect(run()).toEqual([0, 1, 2, 3]);
  },
);

kernelTest('files by time and size, an expression in another language', ['xdpFrags'], async () => {
  using files = new Captures();
  await using gate = await UpGate.up();
  const path = files.at('turn.pcapng');
  const args = ['--rotate-interval', '600ms', '--rotate-size', '1MB', '--files', '2', '--count', '6'];
  const { outcome } = await cap(
    gate.ifname,
    '--lang',
    'cbpf',
    '1,6 0 0 65535',
    '-w',
    path,
    '--json',
    ...args,
  );
  const send = setInterval(() => gate.send(other), 400);
  const { code, stdout } = await outcome.finally(() => clearInterval(send));
  expect(code).toBe(0);
  const report = JSON.parse(stdout) as Report;
  expect(report.packets).toBe(6);
  expect(report.files).toHaveLength(2);
  expect(existsSync(files.at('turn-00001.pcapng'))).toBe(false);
  expect(report.files.flatMap((file) => tcpdump(file)).length).toBeGreaterThan(0);
});

describe('what is wrong is said', () => {
  it.each<[string, string[], number, string, string]>([
    ['no file', ['cap', 'lo'], 2, 'USAGE', "'-w, --write <FILE>'"],
    ['an unknown action', ['cap', 'lo', '--verdict', 'drp', '-w', 'x'], 2, 'USAGE', "'drp' is not one of"],
    ['no size', ['cap', 'lo', '--buffer', '5000', '-w', 'x'], 2, 'USAGE', 'not a power of two'],
    ['JSON beside packets', ['cap', 'lo', '--json', '-w', '-'], 2, 'USAGE', 'does not go together with -w -'],
    ['files that do not turn', ['cap', 'lo', '--files', '3', '-w', 'x'], 2, 'USAGE', '--files needs'],
    ['a pipe that turns', ['cap', 'lo', '--rotate-size', '1MB', '-w', '-'], 2, 'USAGE', 'no files to rotate'],
  ])('%s', async (_, args, exit, code, message) => {
    const { code: status, stderr } = await sluice(...args);
    expect(status).toBe(exit);
    expect(stderr).toContain(`error[${code}]`);
    expect(stderr).toContain(message);
  });

  kernelTest('of the gate, the hook, the expression and the file', ['xdpFrags'], async () => {
    using files = new Captures();
    using foreign = new Foreign('test_frags', 0);
    const wrong = async (...args: string[]): Promise<unknown[]> => {
      const { code, stderr } = await sluice('cap', ...args);
      return [code, /error\[(\w+)\]/.exec(stderr)?.[1]];
    };
    const file = files.at('x');
    expect(await wrong('lo', '-w', file)).toEqual([1, 'GATE_DOWN']);
    expect(await wrong('nowhere', '-w', file)).toEqual([2, 'INTERFACE_UNKNOWN']);
    expect(await wrong('lo,lo', '-w', file)).toEqual([2, 'USAGE']);
    expect(await wrong('/sys/fs/bpf/sluice-test-none', '-w', file)).toEqual([1, 'NOT_FOUND']);
    expect(await wrong(foreign.hook, 'prot 53', '-w', file)).toEqual([2, 'FILTER_INVALID']);
    expect(await wrong(foreign.hook, '-w', files.at('no/such/x'))).toEqual([1, 'FILE']);
    const hook = foreign.object.map('test_hook');
    for (let slot = 0; slot < 5; slot++) expect(programIn(hook, slot)).toBeUndefined();
  });

  kernelTest('without privileges', [], (context) => {
    const nobody = { uid: 65_534, gid: 65_534, cwd: '/', encoding: 'utf8' } as const;
    if (spawnSync('test', ['-r', SLUICE], nobody).status !== 0)
      context.skip('this checkout is not readable by other users');
    const { status, stdout } = spawnSync(
      process.execPath,
      [SLUICE, 'cap', 'lo', '-w', '/tmp/sluice-none', '--json'],
      nobody,
    );
    expect(status).toBe(3);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'PRIVILEGE' } });
    expect(existsSync('/tmp/sluice-none')).toBe(false);
  });
});
