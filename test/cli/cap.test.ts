import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { programIn } from '../../src/gate/cap-slots.ts';
import type { StatusReport } from '../../src/gate/control-protocol.ts';
import { eth } from '../../src/packet/build.ts';
import { Captures, cap, Foreign, type Report, tcpdump, tshark } from '../gate/cap-support.ts';
import { UpGate } from '../gate/daemon-support.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

const A = '10.1.0.1';
const B = '10.1.0.2';
const shunted = eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport: 6000 }).payload('shunted');
const other = eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport: 53 }).payload('other');
const SLUICE = fileURLToPath(new URL('../support/sluice.ts', import.meta.url));
const to = (dport: number) => eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport });
const FLOW = `udp ${A}:5000 ${B}:6000`;

/** Packets that a gate has dropped. */
const dropped = ({ shunted, ruleDropped, rateLimited }: StatusReport): number =>
  shunted.pkts + ruleDropped.pkts + rateLimited.pkts;

/** Exit and code of a capture that cannot begin. */
async function wrong(...args: string[]): Promise<unknown[]> {
  const { code, stderr } = await sluice('cap', ...args);
  return [code, /error\[(\w+)\]/.exec(stderr)?.[1]];
}

kernelTest(
  'a gate that is up: reasons, what tshark and tcpdump read, a clean end, the ledger',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using files = new Captures();
    await using gate = await UpGate.up();
    expect((await gate.shunt('add', '--flow', FLOW)).code).toBe(0);
    const file = files.at('gate.pcapng');
    for (const [id, port, action] of [
      ['ntp', 123, 'drop'],
      ['slow', 124, 'limit=1pps'],
    ]) {
      const words = ['--id', `${id}`, '--action', `${action}`, '-i', gate.ifname];
      const rule = await sluice('rule', 'add', `udp dst port ${port}`, ...words);
      expect(rule.code).toBe(0);
    }
    const before = await gate.status();
    const { child, outcome } = await cap(gate.ifname, '-w', file, '--json', '--buffer', '64KiB');
    expect((await gate.status()).slots.hook).toHaveLength(5);
    gate.send(to(123));
    gate.send(to(124), 2);
    gate.send(shunted);
    gate.send(other);
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
    expect(drop.seen).toBe(dropped(after) - dropped(before));
    expect(pass.seen).toBe(after.passed.pkts - before.passed.pkts);
    for (const one of [drop, pass]) expect(one.captured + one.lost).toBe(one.seen);
    expect(packets).toBe(drop.captured + pass.captured);
    const packetsShown = tshark(file);
    expect(packetsShown).toHaveLength(packets);
    expect(packetsShown.slice(0, 5).map((one) => [one.interface, one.comment])).toEqual([
      ['XDPdrop', 'verdict=ruleDropped rule=ntp'],
      ['XDPpass', 'verdict=passNoEntry'],
      ['XDPdrop', 'verdict=rateLimited rule=slow'],
      ['XDPdrop', 'verdict=shunted owner=hand'],
      ['XDPpass', 'verdict=passNoEntry'],
    ]);
    expect(tcpdump(file)).toHaveLength(packets);
  },
);

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
    const file = files.at('x');
    expect(await wrong('lo', '-w', file)).toEqual([1, 'GATE_DOWN']);
    expect(await wrong('nowhere', '-w', file)).toEqual([2, 'INTERFACE_UNKNOWN']);
    expect(await wrong('lo,lo', '-w', file)).toEqual([2, 'USAGE']);
    expect(await wrong('/sys/fs/bpf/sluice-test-none', '-w', file)).toEqual([1, 'NOT_FOUND']);
    expect(await wrong(foreign.hook, 'prot 53', '-w', file)).toEqual([2, 'FILTER_INVALID']);
    expect(await wrong(foreign.hook, '-w', files.at('no/such/x'))).toEqual([1, 'FILE']);
    expect(await wrong(foreign.hook, '-w', '/dev/full', '--duration', '100ms')).toEqual([1, 'FILE']);
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
