import { spawn } from 'node:child_process';
import { mkdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect } from 'vitest';
import {
  attachTcx,
  attachXdp,
  BpfLink,
  type BpfObject,
  BpfProgram,
  ensureBpffs,
  findInterface,
  interfaceInfo,
  LinkType,
  loadObject,
  PacketSender,
  programInfo,
  xdpAttachment,
} from '../../src/kernel/index.ts';
import { bpfObject, kernelTest, ownNetns, privileged, until, vethPair } from '../support/kernel.ts';

ownNetns();

let object: BpfObject;
let pair: ReturnType<typeof vethPair>;

beforeEach(() => {
  if (!privileged()) return;
  object = loadObject(bpfObject('test_kernel'), { constants: { test_verdict: 1 } });
  pair = vethPair();
});

afterEach(() => {
  if (!privileged()) return;
  object.close();
  pair.remove();
});

function counter(index: number): number {
  const value = new Uint8Array(8);
  object.map('counters').get(new Uint8Array(Uint32Array.of(index).buffer), value);
  return Number(new BigUint64Array(value.buffer)[0]);
}

function sendTo(name: string, count: number): void {
  using sender = new PacketSender(name);
  const frames = new Uint8Array(60 * count).fill(0xff);
  const offsets = Uint32Array.from({ length: count + 1 }, (_, i) => i * 60);
  expect(sender.send(frames, offsets)).toBe(count);
}

function thrown(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('XDP links', () => {
  for (const mode of ['native', 'generic'] as const) {
    kernelTest(
      `attach, count and go away with the descriptor: ${mode}`,
      ['xdpLink', 'xdpNativeVeth'],
      async () => {
        const { index } = interfaceInfo(pair.b);
        expect(xdpAttachment(index)).toBeUndefined();
        const program = object.program('test_xdp');
        const link = attachXdp({ program, ifindex: index, mode });
        expect(xdpAttachment(index)).toEqual({ mode, programId: program.id });
        expect(link.info()).toEqual({
          type: LinkType.xdp,
          id: link.id,
          programId: program.id,
          ifindex: index,
        });
        sendTo(pair.a, 10);
        await until(() => counter(0) >= 10, 'frames do not reach the program');
        expect(counter(0)).toBe(10);
        link.close();
        link.close();
        expect(link.closed).toBe(true);
        expect(xdpAttachment(index)).toBeUndefined();
      },
    );
  }

  kernelTest('a second program is INTERFACE_BUSY and leaves the first alone', ['xdpLink'], () => {
    const { index } = interfaceInfo(pair.b);
    using first = attachXdp({ program: object.program('test_xdp'), ifindex: index, mode: 'native' });
    using other = loadObject(bpfObject('test_kernel'));
    for (const mode of ['native', 'generic'] as const) {
      const error = thrown(() => attachXdp({ program: other.program('test_xdp'), ifindex: index, mode }));
      expect(error).toMatchObject({ code: 'INTERFACE_BUSY', exit: 1 });
    }
    expect(xdpAttachment(index)?.programId).toBe(first.info().programId);
  });

  kernelTest(
    'an interface that does not exist is INTERFACE_UNKNOWN, a driver without XDP is KERNEL_FEATURE',
    ['xdpLink'],
    () => {
      const program = object.program('test_xdp');
      expect(thrown(() => attachXdp({ program, ifindex: 4242, mode: 'native' }))).toMatchObject({
        code: 'INTERFACE_UNKNOWN',
        exit: 2,
      });
      expect(thrown(() => interfaceInfo('nowhere0'))).toMatchObject({ code: 'INTERFACE_UNKNOWN' });
      const { index } = interfaceInfo('lo');
      expect(thrown(() => attachXdp({ program, ifindex: index, mode: 'native' }))).toMatchObject({
        code: 'KERNEL_FEATURE',
        exit: 3,
      });
      expect(
        thrown(() => attachXdp({ program: object.program('test_tc'), ifindex: index, mode: 'generic' })),
      ).toMatchObject({
        exit: 3,
      });
    },
  );

  kernelTest('a pinned link outlives its handle and can be joined, detached and removed', ['xdpLink'], () => {
    const folder = `${ensureBpffs()}/sluice-test-${process.pid}-link`;
    mkdirSync(folder);
    try {
      const { index } = interfaceInfo(pair.b);
      const program = object.program('test_xdp');
      const link = attachXdp({ program, ifindex: index, mode: 'native' });
      link.pin(`${folder}/link`);
      program.pin(`${folder}/program`);
      link.close();
      expect(xdpAttachment(index)?.programId).toBe(program.id);
      using joined = BpfLink.openPinned(`${folder}/link`);
      using same = BpfProgram.openPinned(`${folder}/program`);
      expect(joined.info().programId).toBe(same.id);
      expect(thrown(() => BpfProgram.openPinned(`${folder}/link`))).toMatchObject({ code: 'PIN_FOREIGN' });
      joined.detach();
      expect(xdpAttachment(index)).toBeUndefined();
      expect(joined.info().ifindex).toBe(0);
    } finally {
      for (const name of ['link', 'program']) unlinkSync(`${folder}/${name}`);
      rmdirSync(folder);
    }
  });

  kernelTest('SIGKILL of the owner takes the program off', ['xdpLink'], async () => {
    const { index } = interfaceInfo(pair.b);
    // spawn puts the child into this thread's namespace.
    const child = spawn(
      process.execPath,
      [new URL('./fixtures/hold-link.ts', import.meta.url).pathname, pair.b],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    await new Promise((resolve) => child.stdout.once('data', resolve));
    expect(xdpAttachment(index)?.mode).toBe('native');
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('close', resolve));
    await until(() => xdpAttachment(index) === undefined, 'the program is still attached');
  });

  kernelTest('programs of others are described by their id', ['xdpLink'], () => {
    const program = object.program('test_xdp');
    expect(programInfo(program.id)).toMatchObject({ name: 'test_xdp', tag: program.tag });
    expect(thrown(() => programInfo(0x7fffffff))).toMatchObject({ errnoName: 'ENOENT' });
  });
});

describe('tcx links', () => {
  kernelTest('attach on both ways and go away with the descriptor', ['tcx'], async () => {
    const { index } = interfaceInfo(pair.b);
    const program = object.program('test_tc');
    const before = counter(1);
    {
      using link = attachTcx(program, index, 'ingress');
      expect(link.info()).toMatchObject({ type: LinkType.tcx, ifindex: index, programId: program.id });
      sendTo(pair.a, 5);
      await until(() => counter(1) - before >= 5, 'frames do not reach the program');
    }
    const after = counter(1);
    sendTo(pair.a, 5);
    using egress = attachTcx(program, index, 'egress');
    sendTo(pair.b, 3);
    await until(() => counter(1) - after >= 3, 'frames do not reach the program');
    expect(counter(1) - after).toBe(3);
    expect(egress.info().ifindex).toBe(findInterface(pair.b)?.index);
  });
});
