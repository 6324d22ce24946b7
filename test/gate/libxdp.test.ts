import { spawnSync } from 'node:child_process';
import { mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { checkLibxdp } from '../../src/gate/components.ts';
import {
  attachXdp,
  type BpfProgram,
  ensureBpffs,
  interfaceInfo,
  libxdpMissing,
  loadInstructions,
  PacketSender,
  ProgramFlag,
  ProgramType,
  probeComponents,
  xdpAttachment,
} from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { sluice } from '../support/command.ts';
import { bpfObject, kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { gateKey, TestGate } from './support.ts';

ownNetns();

const FEATURES = ['xdpFrags', 'xdpLink', 'xdpNativeVeth'] as const;

function passing(name: string): BpfProgram {
  const code = Uint8Array.of(0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
  return loadInstructions(code, { type: ProgramType.xdp, name, flags: ProgramFlag.xdpHasFrags });
}

kernelTest('programs of libxdp on an interface are named, with what takes them off', [...FEATURES], () => {
  const pair = vethPair();
  const pins: string[] = [];
  try {
    const { index: ifindex } = interfaceInfo(pair.a);
    using dispatcher = passing('xdp_dispatcher');
    using link = attachXdp({ program: dispatcher, ifindex, mode: 'native' });
    expect(link.info().ifindex).toBe(ifindex);
    const directory = join(ensureBpffs(), 'xdp', `dispatch-${ifindex}-${dispatcher.id}`);
    mkdirSync(directory, { recursive: true });
    pins.push(directory);
    for (const [slot, name] of ['first_filter', 'second'].entries()) {
      using program = passing(name);
      program.pin(join(directory, `prog${slot}-prog`));
    }
    using gate = new TestGate({ ifname: pair.a, ifindex });
    expect(() => gate.gate.attach('auto')).toThrow(
      expect.objectContaining({
        code: 'INTERFACE_BUSY',
        message: `${pair.a} already has XDP programs of libxdp (first_filter, second), native mode`,
        help: expect.stringContaining(`xdp-loader unload ${pair.a} --all`),
      }),
    );
    // Pins that are gone, or somebody else's business, are no reason to say less.
    rmSync(directory, { recursive: true });
    expect(() => gate.gate.attach('native')).toThrow(
      expect.objectContaining({ message: `${pair.a} already has XDP programs of libxdp, native mode` }),
    );
  } finally {
    for (const pin of pins) rmSync(pin, { recursive: true, force: true });
    try {
      rmdirSync(join(ensureBpffs(), 'xdp'));
    } catch {
      // Of others.
    }
    pair.remove();
  }
});

/** In a mount namespace with a bpffs of its own: what libxdp pins and locks is seen by nobody else. */
function xdpLoader(...args: string[]): { status: number | null; text: string } {
  const script = 'mount -t bpf bpf /sys/fs/bpf && exec xdp-loader "$@"';
  const result = spawnSync('unshare', ['-m', 'sh', '-c', script, 'sh', ...args], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
    timeout: 30_000,
  });
  return { status: result.status, text: `${result.stdout}${result.stderr}` };
}

/** A shell says 127 of what it does not find. */
const installed = (): boolean => xdpLoader('help').status !== 127;

kernelTest(
  'libxdp finds in our component when the gate is to run, and loads it',
  [...FEATURES],
  (context) => {
    if (!installed()) context.skip('xdp-loader is not installed (Debian: xdp-tools)');
    const pair = vethPair();
    try {
      const loaded = xdpLoader('load', '-v', pair.a, bpfObject('component'), '-n', 'sluice_entry');
      expect(loaded.text).toContain('Run prio: 20. Chain call actions: XDP_PASS');
      expect(loaded.status, loaded.text).toBe(0);
      const { index: ifindex } = interfaceInfo(pair.a);
      // Alone where the kernel takes no programs that replace functions, else behind a dispatcher.
      using gate = new TestGate({ ifname: pair.a, ifindex });
      expect(() => gate.gate.attach('auto')).toThrow(
        expect.objectContaining({
          code: 'INTERFACE_BUSY',
          message: expect.stringMatching(/sluice_entry \(id \d+\)|XDP programs of libxdp/),
        }),
      );
      expect(xdpLoader('unload', pair.a, '--all').status).toBe(0);
    } finally {
      pair.remove();
    }
  },
);

kernelTest(
  'libxdp takes our gate for somebody else’s program and leaves it alone',
  [...FEATURES],
  (context) => {
    if (!installed()) context.skip('xdp-loader is not installed (Debian: xdp-tools)');
    const pair = vethPair();
    try {
      const { index: ifindex } = interfaceInfo(pair.a);
      using gate = new TestGate({ ifname: pair.a, ifindex });
      gate.gate.attach('native');
      const refused = xdpLoader('load', pair.a, bpfObject('lab_pass'), '-n', 'lab_pass');
      expect(refused.text).toMatch(/unload first|busy|Busy/);
      expect(refused.status).not.toBe(0);
      expect(gate.gate.program.info().id).toBe(gate.gate.program.id);
      expect(xdpLoader('status', pair.a).text).toContain('sluice_gate');
    } finally {
      pair.remove();
    }
  },
);

const WITHOUT = 'libxdp1 is not installed';

kernelTest(
  'a kernel without components is refused, and the interface left as it was',
  [...FEATURES],
  (context) => {
    if (libxdpMissing() !== undefined) context.skip(WITHOUT);
    if (probeComponents().state === 'supported') {
      checkLibxdp();
      return;
    }
    expect(() => checkLibxdp()).toThrow(
      expect.objectContaining({
        code: 'KERNEL_FEATURE',
        exit: 3,
        help: expect.stringContaining('Linux 5.10'),
      }),
    );
    const pair = vethPair();
    try {
      const { index: ifindex } = interfaceInfo(pair.a);
      using gate = new TestGate({ ifname: pair.a, ifindex, libxdp: { priority: 20 } });
      expect(() => gate.gate.attach('native')).toThrow(expect.objectContaining({ code: 'KERNEL_FEATURE' }));
      expect(xdpAttachment(ifindex)).toBeUndefined();
    } finally {
      pair.remove();
    }
  },
);

kernelTest(
  'by libxdp: the gate counts and drops, is exchanged in its slot, and leaves',
  [...FEATURES],
  async (context) => {
    if (libxdpMissing() !== undefined) context.skip(WITHOUT);
    // Where the kernel has no components, libxdp's other way: without a dispatcher.
    const single = probeComponents().state !== 'supported';
    const pair = vethPair();
    try {
      const { index: ifindex } = interfaceInfo(pair.a);
      const [a, b] = [
        { addr: '10.0.0.1', port: 5000 },
        { addr: '10.0.0.2', port: 6000 },
      ];
      const frame = eth()
        .ipv4({ src: a.addr, dst: b.addr })
        .udp({ sport: a.port, dport: b.port })
        .payload(40)
        .bytes();
      using sender = new PacketSender(interfaceInfo(pair.b).index);
      const send = (): void => {
        expect(sender.send(frame, Uint32Array.of(0, frame.length))).toBe(1);
      };
      const gate = new TestGate({ ifname: pair.a, ifindex, libxdp: { priority: 7, single } });
      try {
        expect(gate.gate.frags).toBe(single);
        expect(gate.gate.attach('native')).toEqual([{ ifindex, ifname: pair.a, mode: 'native' }]);
        const attached = xdpAttachment(ifindex);
        const before = gate.gate.ledger();
        send();
        await until(() => gate.gate.ledger().passed.pkts === before.passed.pkts + 1, 'a packet passes');
        gate.shunt(gateKey(17, a, b));
        send();
        await until(() => gate.gate.ledger().shunted.pkts === before.shunted.pkts + 1, 'shunted packets: 1');
        // Another program of the gate, and the same component.
        gate.gate.enable({ pairs: true });
        expect(xdpAttachment(ifindex)).toEqual(attached);
        send();
        await until(() => gate.gate.ledger().shunted.pkts === before.shunted.pkts + 2, 'shunted packets: 2');
      } finally {
        gate[Symbol.dispose]();
      }
      expect(xdpAttachment(ifindex)).toBeUndefined();
    } finally {
      pair.remove();
    }
  },
);

kernelTest(
  'gate up --libxdp says what does not go with it, and what is not there',
  [...FEATURES],
  async () => {
    const pair = vethPair();
    try {
      const up = (...args: string[]) => sluice('gate', 'up', '-i', pair.a, '--libxdp', ...args, '--json');
      for (const args of [['--steer', '0'], ['--mode', 'offload'], ['70000']]) {
        const { code, stdout } = await up(...args);
        expect([code, stdout]).toEqual([2, expect.stringContaining('"USAGE"')]);
      }
      if (libxdpMissing() === undefined && probeComponents().state === 'supported') return;
      const { code, stdout } = await up();
      expect([code, stdout]).toEqual([3, expect.stringContaining('"KERNEL_FEATURE"')]);
      expect(xdpAttachment(interfaceInfo(pair.a).index)).toBeUndefined();
    } finally {
      pair.remove();
    }
  },
);

kernelTest(
  'a program that is not a dispatcher stays, and is named, whoever asks by libxdp',
  [...FEATURES],
  () => {
    const pair = vethPair();
    try {
      const { index: ifindex } = interfaceInfo(pair.a);
      using other = passing('somebody');
      using link = attachXdp({ program: other, ifindex, mode: 'native' });
      using gate = new TestGate({ ifname: pair.a, ifindex, libxdp: { priority: 20 } });
      expect(() => gate.gate.attach('auto')).toThrow(
        expect.objectContaining({ code: 'INTERFACE_BUSY', message: expect.stringContaining('somebody (id') }),
      );
      expect(link.info().programId).toBe(other.id);
    } finally {
      pair.remove();
    }
  },
);
