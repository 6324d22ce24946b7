import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { AfPacketSource } from '../../src/capture/afpacket.ts';
import {
  attachXdp,
  BpfProgram,
  interfaceInfo,
  loadObject,
  openPacketRing,
  xdpAttachment,
} from '../../src/kernel/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { bpfObject, kernelTest, ownNetns, sh, until, vethPair } from '../support/kernel.ts';
import {
  documentOf,
  type ErrorDocument,
  Feed,
  LogDir,
  mixed,
  pause,
  places,
  Run,
  runOn,
  sumOf,
} from './run.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const POLICY = ['--policy', 'bulk=100kB'];
const RATE = 2500;
const LACKING = join(import.meta.dirname, '..', 'support', 'lacking.c');
/** bpf(2) by its number on x86-64 and arm64, and its command that attaches. */
const BPF = process.arch === 'arm64' ? 280 : 321;
const LINK_CREATE = 28;
const EOPNOTSUPP = 95;

ownNetns();

function downloads(count: number): Uint8Array[] {
  return mixed(
    Array.from({ length: count }, (_, i) =>
      conversation({
        client: { address: '192.0.2.8', port: 9000 + i },
        server: { address: '192.0.2.9', port: 80 },
        turns: [{ from: 'server', data: 1_200_000 }],
        mss: 1400,
      }),
    ),
  );
}

const without = (names: string): string[] => ['setpriv', `--bounding-set=${names}`];

/** A run whose gate is a filter on its sockets, from its start to its end: everything shunted, and the books right. */
async function expectShunting(b: string, run: Run, logs: LogDir, why: RegExp | undefined): Promise<void> {
  const frames = downloads(4);
  await new Feed(b, frames, 2 * RATE, {
    from: frames.length >> 2,
    to: frames.length >> 1,
    until: () => logs.shunts('start') >= 4,
    what: 'not all are shunted',
  }).done;
  const { ledger, ...summary } = documentOf(await run.stop());
  expect(summary).toMatchObject({ connections: 4, shuntedConnections: 4, latePackets: 0, refused: 0 });
  expect(summary.interfaces).toMatchObject([{ mode: 'socket' }]);
  expect(ledger?.seen.pkts).toBe(frames.length);
  expect(ledger?.shunted.pkts).toBeGreaterThan(frames.length / 4);
  expect(summary.ring).toMatchObject({ packets: ledger?.passed.pkts, drops: 0 });
  const conn = logs.read('conn');
  expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(frames.length);
  expect(sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts')).toBe(ledger?.shunted.pkts);
  const said = logs.read('notice').filter((notice) => notice['note'] === 'Sluice::Socket_Filter');
  expect(said.map(({ msg }) => msg)).toEqual(why === undefined ? [] : [expect.stringMatching(why)]);
}

kernelTest(
  "beside somebody else's XDP program a run filters its own sockets, and says so; others see every packet",
  [...FEATURES],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    using foreign = loadObject(bpfObject('lab_pass'));
    const { index } = interfaceInfo(a);
    const link = attachXdp({ program: foreign.program('lab_pass'), ifindex: index, mode: 'native' });
    const other = new AfPacketSource(openPacketRing({ interface: a, retireMs: 1 }), a);
    try {
      const before = xdpAttachment(index);
      await using run = await runOn(a, logs, ...POLICY, '--workers', '2').ready();
      await expectShunting(b, run, logs, /already has an XDP program: lab_pass/);
      expect(other.counts().packets).toBe(sumOf(logs.read('conn'), 'orig_pkts', 'resp_pkts'));
      expect(xdpAttachment(index)).toEqual(before);
      const { pins, lock } = places(index);
      expect(existsSync(pins) || existsSync(lock)).toBe(false);
    } finally {
      other.close();
      link.close();
      remove();
    }
  },
);

kernelTest('where the kernel attaches no XDP program it is a filter too', [...FEATURES], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  try {
    const lacking = join(logs.path, 'lacking');
    sh('cc', '-O1', '-o', lacking, LACKING);
    const args = ['run', '-i', a, '--json', '--log-dir', logs.path, ...POLICY];
    const prefix = [lacking, ...[BPF, LINK_CREATE, EOPNOTSUPP].map(String)];
    await using run = await new Run(args, prefix).ready();
    await expectShunting(b, run, logs, /no XDP \(.*generic mode/);
  } finally {
    remove();
  }
});

kernelTest('it needs no CAP_NET_ADMIN', [...FEATURES], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  try {
    const args = ['run', '-i', a, '--json', '--log-dir', logs.path, ...POLICY];
    await using run = await new Run(args, without('-net_admin,-sys_admin')).ready();
    await expectShunting(b, run, logs, /lacks CAP_NET_ADMIN/);
    const refused = await new Run([...args, '--mode', 'socket'], without('-perfmon,-sys_admin')).ended;
    expect(refused.code).toBe(3);
    const { error } = JSON.parse(refused.stdout) as ErrorDocument;
    expect(error).toMatchObject({
      code: 'PRIVILEGE',
      message: expect.stringContaining('lacks CAP_PERFMON,'),
    });
  } finally {
    remove();
  }
});

/** Programs of this name that a process holds. */
function programsOf(pid: number, name: string): number[] {
  const directory = `/proc/${pid}/fdinfo`;
  const ids = readdirSync(directory).flatMap((fd) => {
    const id = /^prog_id:\s*(\d+)/m.exec(readFileSync(`${directory}/${fd}`, 'utf8'))?.[1];
    return id === undefined ? [] : [Number(id)];
  });
  return ids.filter((id) => nameOf(id) === name);
}

function nameOf(id: number): string | undefined {
  try {
    using program = BpfProgram.fromId(id);
    return program.name;
  } catch {
    return undefined;
  }
}

kernelTest(
  'the filter of a killed run goes with its socket; the next run goes on, whatever its gate is',
  [...FEATURES],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      const frames = downloads(1);
      const half = frames.length >> 1;
      const parts = [frames.slice(0, half), frames.slice(half)];
      for (const [i, mode] of ['socket', 'native'].entries()) {
        await using run = await runOn(a, logs, ...POLICY, '--mode', mode).ready();
        if (i > 0)
          expect(run.stderr).toContain(`goes on with 1 connections that an earlier run had shunted on ${a}`);
        await new Feed(b, parts[i], RATE, {
          from: half >> 1,
          to: half - 50,
          until: () => logs.shunts('start') > 0,
          what: 'nothing is shunted',
        }).done;
        // All that has passed is handled, and noted for the next one: nothing but time tells.
        await pause(2000);
        if (i === 0) {
          const ids = programsOf(run.process.pid as number, 'sluice_filter');
          expect(ids.length).toBe(1);
          await run.stop('SIGKILL');
          await until(() => ids.every((id) => nameOf(id) === undefined), 'the filter is still there');
        } else {
          const summary = documentOf(await run.stop());
          expect(summary).toMatchObject({ connections: 1, recovered: 1, latePackets: 0 });
        }
      }
      expect(sumOf(logs.read('conn'), 'orig_pkts', 'resp_pkts')).toBe(frames.length);
    } finally {
      remove();
    }
  },
);

kernelTest('other sensors have sockets of their own: not with `gate up`', [...FEATURES], async () => {
  const refused = await new Run(['gate', 'up', '-i', 'lo', '--tap', '--mode', 'socket', '--json']).ended;
  expect(refused.code).toBe(2);
  expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'USAGE' } });
});
