import { spawnSync } from 'node:child_process';
import { mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import {
  attachXdp,
  type BpfProgram,
  ensureBpffs,
  interfaceInfo,
  loadInstructions,
  ProgramFlag,
  ProgramType,
} from '../../src/kernel/index.ts';
import { bpfObject, kernelTest, ownNetns, vethPair } from '../support/kernel.ts';
import { TestGate } from './support.ts';

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

kernelTest('libxdp finds in our object when the gate is to run, and loads it', [...FEATURES], (context) => {
  if (!installed()) context.skip('xdp-loader is not installed (Debian: xdp-tools)');
  const pair = vethPair();
  try {
    const loaded = xdpLoader('load', '-v', pair.a, bpfObject('gate'), '-n', 'sluice_gate');
    expect(loaded.text).toContain('Run prio: 20. Chain call actions: XDP_PASS');
    expect(loaded.status, loaded.text).toBe(0);
    const { index: ifindex } = interfaceInfo(pair.a);
    // Alone where the kernel takes no programs that replace functions, else behind a dispatcher.
    using gate = new TestGate({ ifname: pair.a, ifindex });
    expect(() => gate.gate.attach('auto')).toThrow(
      expect.objectContaining({
        code: 'INTERFACE_BUSY',
        message: expect.stringMatching(/sluice_gate \(id \d+\)|XDP programs of libxdp/),
      }),
    );
    expect(xdpLoader('unload', pair.a, '--all').status).toBe(0);
  } finally {
    pair.remove();
  }
});

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
