import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import {
  back,
  fragmentsOf,
  numbered,
  packetOf,
  randomEnds,
  randomOf,
  WRAPPERS,
} from '../../bench/fanout-frames.ts';
import { sendAll } from '../../bench/fanout-rings.ts';
import type { FanoutStatus } from '../../src/gate/fanout-pins.ts';
import { packageRoot } from '../../src/kernel/index.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, privileged, sh, until, vethPair } from '../support/kernel.ts';

ownNetns();

const FLOWS = 120;
const SOCKETS = 4;
const PINS = `/sys/fs/bpf/sluice-test-${process.pid}`;
const dir = mkdtempSync(join(tmpdir(), 'sluice-fanout-'));
const client = join(dir, 'client');

beforeAll(() => {
  sh('cc', '-Wall', '-Werror', '-o', client, join(packageRoot(), 'examples/fanout-client.c'), '-lbpf');
});

afterAll(() => {
  rmSync(dir, { recursive: true });
  if (privileged()) rmSync(PINS, { recursive: true, force: true });
});

/** Both directions, in fragments and whole. */
const random = randomOf(77);
const frames = Array.from({ length: FLOWS }, (_, flow) => {
  const ends = { ...randomEnds(random), protocol: 'udp' as const };
  const before = WRAPPERS[flow % WRAPPERS.length].wrap(numbered(flow));
  return [
    ...fragmentsOf(before, ends, flow, 1300),
    packetOf(before, back(ends)).bytes(),
    packetOf(before, ends).bytes(),
  ];
}).flat();

class Client {
  readonly process: ChildProcess;
  stdout = '';
  stderr = '';

  constructor(...args: string[]) {
    this.process = spawn(client, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.process.stdout?.on('data', (data: Buffer) => (this.stdout += data.toString()));
    this.process.stderr?.on('data', (data: Buffer) => (this.stderr += data.toString()));
  }

  async ready(): Promise<void> {
    await until(() => this.stderr.includes('ready'), `the client is not ready: ${this.stderr}`);
  }

  /** Frames of each socket, and the sockets of each source address. */
  async end(): Promise<{ shares: number[]; sockets: Set<string>[] }> {
    await until(() => this.process.exitCode !== null, `the client has not all frames: ${this.stderr}`);
    await until(() => this.stdout.split('\n').length > frames.length, 'the client has not said all');
    const shares = Array.from({ length: SOCKETS }, () => 0);
    const flows = new Map<string, Set<string>>();
    for (const line of this.stdout.trim().split('\n')) {
      const [socket, source] = line.split(' ');
      shares[Number(socket)]++;
      flows.set(source, (flows.get(source) ?? new Set()).add(socket));
    }
    return { shares, sockets: [...flows.values()] };
  }

  [Symbol.dispose](): void {
    this.process.kill('SIGKILL');
  }
}

const numbersOf = (shares: readonly number[]): number => shares.filter((n) => n > 0).length;

kernelTest(
  'a sensor of somebody else balances by the pinned program: no flow is split',
  ['packetRing'],
  async () => {
    const { a, b, remove } = vethPair();
    try {
      const { code, stdout, stderr } = await sluice('fanout', 'pin', PINS, '--json');
      expect([code, stderr]).toEqual([0, '']);
      const { path } = JSON.parse(stdout) as FanoutStatus;
      using other = new Client(b, path, String(SOCKETS), String(frames.length));
      await other.ready();
      sendAll(a, frames);
      const { shares, sockets } = await other.end();
      expect(sockets).toHaveLength(FLOWS);
      expect(sockets.filter(({ size }) => size > 1)).toEqual([]);
      for (const share of shares) expect(share).toBeGreaterThan((0.4 * frames.length) / SOCKETS);
      const status = JSON.parse((await sluice('fanout', 'status', PINS, '--json')).stdout) as FanoutStatus;
      expect(status).toMatchObject({ path, fragments: { first: FLOWS, followed: 2 * FLOWS, unknown: 0 } });
      expect((await sluice('fanout', 'status', PINS)).stdout).toContain(`${FLOWS} first ones`);
    } finally {
      remove();
    }
  },
);

kernelTest('a sensor that cannot load one is given the program', ['packetRing'], async () => {
  const { a, b, remove } = vethPair();
  try {
    expect((await sluice('fanout', 'pin', PINS)).code).toBe(0);
    const missing = await sluice('fanout', 'give', PINS, '-i', b, '--id', '2323', '--json');
    expect(missing.code).toBe(1);
    expect(JSON.parse(missing.stdout)).toMatchObject({ error: { code: 'NOT_FOUND' } });
    {
      // Without a program all goes to the first socket.
      using other = new Client(b, 'none', String(SOCKETS), String(frames.length), '2323');
      await other.ready();
      sendAll(a, frames);
      expect(numbersOf((await other.end()).shares)).toBe(1);
    }
    using other = new Client(b, 'none', String(SOCKETS), String(frames.length), '2323');
    await other.ready();
    const given = await sluice('fanout', 'give', PINS, '-i', b, '--id', '2323');
    expect([given.code, given.stderr]).toEqual([0, `the group 2323 on ${b} has the program\n`]);
    sendAll(a, frames);
    const { shares, sockets } = await other.end();
    expect(numbersOf(shares)).toBe(SOCKETS);
    expect(sockets.filter(({ size }) => size > 1)).toEqual([]);
  } finally {
    remove();
  }
});

kernelTest('a pin is replaced in place, shared with a group, and removed', [], async () => {
  const first = JSON.parse((await sluice('fanout', 'pin', PINS, '--json')).stdout) as FanoutStatus;
  expect(statSync(first.path).mode & 0o777).toBe(0o600);
  const options = ['--fanout-key', 'pair', '--fanout-inner', '--pin-group', '12345', '--json'];
  const second = JSON.parse((await sluice('fanout', 'pin', PINS, ...options)).stdout) as FanoutStatus;
  expect(second.path).toBe(first.path);
  expect(second.programId).not.toBe(first.programId);
  expect([statSync(second.path).gid, statSync(second.path).mode & 0o777]).toEqual([12345, 0o660]);
  expect(statSync(PINS).mode & 0o777).toBe(0o750);
  expect((await sluice('fanout', 'unpin', PINS)).code).toBe(0);
  expect(existsSync(PINS)).toBe(false);
  expect((await sluice('fanout', 'unpin', PINS)).stderr).toMatch(/nothing was pinned/);
  expect((await sluice('fanout', 'status', PINS)).stderr).toMatch(/error\[NOT_FOUND\][^]*sluice fanout pin/);
  expect((await sluice('fanout', 'give', PINS, '-i', 'lo', '--id', '99999')).code).toBe(2);
  const elsewhere = await sluice('fanout', 'pin', join(dir, 'pins'), '--json');
  expect(JSON.parse(elsewhere.stdout)).toMatchObject({
    error: { help: expect.stringContaining('bpf') as string },
  });
});
