import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import { captureState, programIn } from '../../src/gate/cap-slots.ts';
import { eth } from '../../src/packet/build.ts';
import { Captures, cap, Foreign, type Report, ready, shown, tcpdump } from '../gate/cap-support.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, until } from '../support/kernel.ts';

ownNetns();

const A = '10.1.0.1';
const B = '10.1.0.2';
const XDP_DROP = 1;
const shunted = eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport: 6000 }).payload('shunted');
const other = eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport: 53 }).payload('other');
const SLUICE = fileURLToPath(new URL('../support/sluice.ts', import.meta.url));
const FLOW = `udp ${A}:5000 ${B}:6000`;

const packet = (port: number): Uint8Array =>
  eth().ipv4({ src: A, dst: B }).udp({ sport: 1, dport: port }).bytes();

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
    const { seen } = await gate.status();
    gate.send(shunted, 5);
    expect((await gate.seen(seen.pkts + 5)).shunted.pkts).toBe(5);
    await eventually(
      async () => ((await gate.status()).slots.hook.length === 0 ? true : undefined),
      'the slots of a killed capture are still taken',
    );
    const file = files.at('second.pcapng');
    const { child, outcome } = await cap(gate.ifname, '-w', file);
    gate.send(shunted, 2);
    await gate.seen(seen.pkts + 7);
    child.kill('SIGINT');
    expect((await outcome).code).toBe(130);
    expect(shown(file).map((one) => one.interface)).toEqual(['XDPdrop', 'XDPdrop']);
  },
);

kernelTest(
  'a gate whose daemon is dead: captured from without reasons; what a killed capture leaves goes with the status',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using files = new Captures();
    await using gate = await UpGate.up();
    const { pid } = (await gate.status()).daemon;
    process.kill(pid ?? 0, 'SIGKILL');
    await eventually(
      async () => ((await gate.status()).daemon.alive ? undefined : true),
      'the daemon is still there',
    );
    const file = files.at('dead.pcapng');
    const first = await cap(gate.ifname, '-w', file);
    const { seen } = await gate.status();
    gate.send(other, 2);
    expect((await gate.seen(seen.pkts + 2)).slots.hook).toHaveLength(5);
    first.child.kill('SIGTERM');
    expect((await first.outcome).stderr).toContain('no comments');
    expect(shown(file)).toMatchObject(
      Array.from({ length: 2 }, () => ({ interface: 'XDPpass', comment: '' })),
    );
    const second = await cap(gate.ifname, '-w', file);
    second.child.kill('SIGKILL');
    await second.outcome;
    await eventually(
      async () => ((await gate.status()).slots.hook.length === 0 ? true : undefined),
      'the slots of a killed capture are still taken',
    );
  },
);

kernelTest('a gate that goes down ends its captures', ['xdpFrags'], async () => {
  using files = new Captures();
  await using gate = await UpGate.up();
  const file = files.at('down.pcapng');
  const { outcome } = await cap(gate.ifname, '-w', file, '--json');
  const { seen } = await gate.status();
  gate.send(other, 3);
  await gate.seen(seen.pkts + 3);
  await sluice('gate', 'down', '-i', gate.ifname);
  const { code, stdout } = await outcome;
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ packets: 3, error: { code: 'GATE_DOWN' } });
  expect(tcpdump(file)).toHaveLength(3);
});

kernelTest(
  'a killed capture at a hook of somebody else: a jump is left, until the next one',
  ['xdpFrags'],
  async () => {
    using files = new Captures();
    using foreign = new Foreign('test_plain', 37);
    const hook = foreign.object.map('test_hook');
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

kernelTest('of two captures that start at once, one has the hook', ['xdpFrags'], async () => {
  using files = new Captures();
  using foreign = new Foreign('test_frags', 37);
  for (let round = 0; round < 3; round++) {
    const started = await Promise.allSettled(
      ['a', 'b'].map((name) => cap(foreign.hook, '-w', files.at(name), '--json')),
    );
    const [winner] = started.filter((one) => one.status === 'fulfilled');
    const [loser] = started.filter((one) => one.status === 'rejected');
    expect(String(loser.reason)).toContain('INTERFACE_BUSY');
    for (const port of [0, 1, 2, 3]) expect(foreign.run(packet(port))).toBe(port);
    winner.value.child.kill('SIGTERM');
    const { code, stdout } = await winner.value.outcome;
    expect([code, (JSON.parse(stdout) as Report).packets]).toEqual([0, 4]);
  }
});

kernelTest('the gate of a sensor', ['xdpFrags', 'syscallProgram'], async () => {
  using files = new Captures();
  await using gate = UpGate.interfaces();
  const run = await ready('run', '-i', gate.ifname, '--tap', '--log-dir', files.at('logs'));
  const file = files.at('run.pcapng');
  const { child, outcome } = await cap(gate.ifname, '-w', file);
  const { seen } = await gate.status();
  gate.send(other, 2);
  await gate.seen(seen.pkts + 2);
  child.kill('SIGTERM');
  expect((await outcome).code).toBe(0);
  expect(shown(file).map((one) => [one.interface, one.comment])).toEqual([
    ['XDPpass', 'verdict=passNoEntry'],
    ['XDPpass', 'verdict=passNoEntry'],
  ]);
  run.child.kill('SIGTERM');
  expect((await run.outcome).code).toBe(0);
});

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
  // One packet for each file: the next is sent when that one has had its time.
  for (let number = 1; number <= 6; number++) {
    await until(() => existsSync(files.at(`turn-0000${number}.pcapng`)), `there is no file ${number}`);
    gate.send(other);
  }
  const { code, stdout } = await outcome;
  expect(code).toBe(0);
  const report = JSON.parse(stdout) as Report;
  expect(report.packets).toBe(6);
  expect(report.files).toHaveLength(2);
  expect(existsSync(files.at('turn-00001.pcapng'))).toBe(false);
  expect(report.files.flatMap((file) => tcpdump(file)).length).toBeGreaterThan(0);
});
