import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, type TestContext } from 'vitest';
import { statusShape } from '../../src/api/shapes.ts';
import { eth } from '../../src/packet/build.ts';
import { eventually } from '../gate/daemon-support.ts';
import { documentOf, Feed, LogDir, mixed, runOn } from '../sensor/run.ts';
import { asked } from '../support/ask.ts';
import { kernelTest, ownNetns, sh, until, vethPair } from '../support/kernel.ts';
import {
  count,
  FEATURES,
  feedShunted,
  ledgerOf,
  long,
  PATIENCE,
  ports,
  RATE,
  records,
  runInto,
  short,
} from './disk-support.ts';

/** Disks that fail in other ways than by being full: the gate goes on, and what was captured is in the logs or counted. */

ownNetns();

/** A file system in a file, mounted on a directory until the end of the scope; the test is skipped where there can be none. */
class LoopDisk {
  readonly #image: string;
  readonly #at: string;

  constructor(context: TestContext, at: string, make: readonly string[], bytes: number) {
    this.#at = at;
    this.#image = `${at}.img`;
    if (!existsSync('/dev/loop-control')) context.skip('there are no loop devices');
    writeFileSync(this.#image, '');
    truncateSync(this.#image, bytes);
    const [program, ...options] = make;
    try {
      sh(program, ...options, this.#image);
      this.mount(at);
    } catch (error) {
      rmSync(this.#image);
      context.skip(`no disk by ${program}: ${(error as Error).message}`);
    }
  }

  mount(at: string): void {
    sh('mount', '-o', 'loop', this.#image, at);
  }

  /** Whether it could be mounted there. */
  mounted(at: string): boolean {
    try {
      this.mount(at);
      return true;
    } catch {
      return false;
    }
  }

  /** Takes it off where it is, whoever has files open there. */
  leave(): void {
    sh('umount', '--lazy', this.#at);
  }

  [Symbol.dispose](): void {
    try {
      this.leave();
    } catch {
      // It has been taken off before.
    }
    rmSync(this.#image);
  }
}

/** As if the disk broke: from now on reading and writing fail (FS_IOC_SHUTDOWN, without the journal). */
const BREAK = `
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))
`;

kernelTest(
  'a disk that breaks: what was captured is on the one in its place, and the gate goes on',
  [...FEATURES],
  async (context) => {
    using at = new LogDir();
    const dir = at.path;
    using disk = new LoopDisk(context, dir, ['mkfs.ext4', '-q', '-F'], 16 * 2 ** 20);
    const { a, b, remove } = vethPair();
    try {
      await using run = await runInto(dir, a);
      const before = short(20_000, 100);
      await new Feed(b, mixed(before), RATE).done;
      await until(() => records('conn', dir).length === 100, 'no records', PATIENCE);
      sh('sync', '-f', dir);
      sh('python3', '-c', BREAK, dir);
      const during = [...short(30_000, 1000), long(50_000)];
      await feedShunted({ a, b }, during);
      const failed = (): boolean => /^the logs cannot be written: EIO/m.test(run.stderr);
      await until(failed, 'the broken disk is not told of', PATIENCE);
      expect(run.running).toBe(true);
      // What is below.
      disk.leave();
      await until(() => records('conn', dir).length === during.length, 'records that waited', PATIENCE);
      const again = (): boolean => /^the logs are being written again$/m.test(run.stderr);
      await until(again, 'nobody says so', PATIENCE);
      const after = short(40_000, 100);
      await new Feed(b, mixed(after), RATE).done;
      const ended = await run.stop();
      expect(ended.code).toBe(0);
      const ledger = ledgerOf(ended);
      expect(ledger.seen.pkts).toBe([...before, ...during, ...after].flat().length);
      expect(ledger.shunted.pkts).toBeGreaterThan(0);
      expect(ports(records('conn', dir))).toEqual([...count(30_000, 1000), ...count(40_000, 100), 50_000]);
      expect(records('stats', dir).at(-1)).toMatchObject({ log_lost: 0, pkts_dropped: 0 });
      const { losses } = documentOf(ended);
      expect(losses.rows.filter(({ stage, kind }) => stage === 'log' && kind === 'loss')).toMatchObject([
        { counter: 'queueFull', total: 0 },
        { counter: 'diskLost', total: 0 },
      ]);
      using old = new LogDir();
      // Its last file may be let go of a little later.
      await until(() => disk.mounted(old.path), 'the broken disk cannot be mounted', PATIENCE);
      try {
        expect(ports(records('conn', old.path))).toEqual(count(20_000, 100));
      } finally {
        sh('umount', old.path);
      }
    } finally {
      remove();
    }
  },
);

kernelTest(
  'a quota that is used up: what was captured waits for more of it, and the gate goes on',
  [...FEATURES],
  async (context) => {
    using at = new LogDir();
    const dir = at.path;
    using _ = new LoopDisk(context, dir, ['mkfs.btrfs', '-q'], 128 * 2 ** 20);
    const { a, b, remove } = vethPair();
    const logs = join(dir, 'logs');
    try {
      sh('btrfs', 'subvolume', 'create', logs);
      sh('btrfs', 'quota', 'enable', dir);
      sh('btrfs', 'qgroup', 'limit', '256k', logs);
      await using run = await runInto(logs, a);
      // Twice as much of records.
      const during = [...short(30_000, 2000), long(50_000)];
      await new Feed(b, mixed(during), RATE).done;
      const failed = (): boolean => /^the logs cannot be written: EDQUOT/m.test(run.stderr);
      await until(failed, 'the quota is not told of', PATIENCE);
      expect(run.running).toBe(true);
      sh('btrfs', 'qgroup', 'limit', 'none', logs);
      const again = (): boolean => /^the logs are being written again$/m.test(run.stderr);
      await until(again, 'the logs stay as they were', PATIENCE);
      const after = short(40_000, 100);
      await new Feed(b, mixed(after), RATE).done;
      const ended = await run.stop();
      expect(ended.code).toBe(0);
      expect(ledgerOf(ended).seen.pkts).toBe([...during, ...after].flat().length);
      expect(ports(records('conn', logs))).toEqual([...count(30_000, 2000), ...count(40_000, 100), 50_000]);
      expect(records('stats', logs).at(-1)).toMatchObject({ log_lost: 0, pkts_dropped: 0 });
    } finally {
      remove();
    }
  },
);

/** Frames that are sent at a time: the ring has room for them. */
const PIECE = 20_000;

/** Flows of one packet, each of other ports. */
function flows(amount: number): Uint8Array[] {
  const one = eth().ipv4({ src: '10.3.0.1', dst: '10.4.0.1' }).udp({ checksum: 0 }).payload(8).bytes();
  const at = 14 + 20;
  return Array.from({ length: amount }, (_, i) => {
    const frame = Uint8Array.from(one);
    new DataView(frame.buffer).setUint16(at, 1 + (i % 60_000));
    new DataView(frame.buffer).setUint16(at + 2, 10_000 + Math.floor(i / 60_000));
    return frame;
  });
}

kernelTest(
  'a disk that hangs: no packet waits for it; lines beyond what there is room for are counted, all others are written',
  ['packetRing'],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      // Nobody reads from there for now: a write waits for ever.
      const pipe = join(logs.path, 'conn.log');
      sh('mkfifo', pipe);
      const socket = join(logs.path, 'api.sock');
      const options = ['--no-gate', '--max-flows', '1024', '--api', `unix:${socket}`];
      await using run = await runOn(a, logs, ...options).ready();
      // More lines than 64 MiB, no faster than the worker comes to them.
      const frames = flows(300_000);
      const sent = frames.length;
      for (let from = 0; from < sent; from += PIECE) {
        await new Feed(b, frames.slice(from, from + PIECE), 50_000).done;
        await eventually(
          async () => {
            const { packets, losses } = statusShape.parse(JSON.parse(await asked(socket, '/v1/status')));
            return packets + losses.ring >= Math.min(sent, from + PIECE) ? true : undefined;
          },
          'the worker waits for the disk',
          PATIENCE,
        );
      }
      const copy = join(logs.path, 'copy');
      const reader = spawn('sh', ['-c', 'exec cat < "$1" > "$2"', 'sh', pipe, copy], { stdio: 'ignore' });
      const read = new Promise((resolve) => reader.once('close', resolve));
      const ended = await run.stop();
      expect(ended.code).toBe(0);
      await read;
      const { losses, connections } = documentOf(ended);
      const total = (stage: string, counter: string): number =>
        losses.rows
          .filter((row) => row.stage === stage && row.counter === counter)
          .reduce((sum, row) => sum + row.total, 0);
      expect(total('worker', 'handled') + total('capture', 'ringFull')).toBe(sent);
      expect(connections).toBe(total('worker', 'handled'));
      // More than could wait: the worker went on without the disk.
      expect(total('log', 'queueFull')).toBeGreaterThan(0);
      const lines = readFileSync(copy, 'latin1').split('\n').length - 1;
      expect(lines + total('log', 'queueFull')).toBe(connections);
      expect(losses.rows.find(({ counter }) => counter === 'queueFull')).toMatchObject({
        kind: 'loss',
        unit: 'lines',
      });
    } finally {
      remove();
    }
  },
);
