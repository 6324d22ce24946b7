import { expect } from 'vitest';
import { conversation } from '../../src/packet/conversation.ts';
import type { FrameToWrite } from '../../src/packet/pcap.ts';
import { eventually } from '../gate/daemon-support.ts';
import { documentOf, Feed, LedgerReader, LogDir, mixed, pause, runOn, suspend } from '../sensor/run.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { total } from './losses-support.ts';

/** Shunts that begin, end and are refused, each for its reason: the ledger has them as shunt.log tells them. */

ownNetns();

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;

type Close = 'client-fin' | 'client-rst' | 'none';
/** Two of a port, as the same would be anew. */
const download = (port: number, close: Close): FrameToWrite[] =>
  conversation({
    client: { address: '10.1.0.1', port },
    server: { address: '10.2.0.1', port: 80 },
    turns: [{ from: 'server', data: 400_000 }],
    mss: 1400,
    close,
  });
const bytesOf = (frames: readonly FrameToWrite[]): Uint8Array[] => frames.map(({ bytes }) => bytes);
const PORTS = { fin: 4000, rst: 4001, syn: 4002, lease: 4003, asked: 4004 };
const REASONS = ['syn', 'fin', 'rst', 'lease', 'idle', 'log_full', 'asked', 'limit', 'tunnel'];

kernelTest(
  'a shunt ends by a SYN, FIN or RST, as its lease is over, and at the end of the run',
  [...FEATURES],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      const options = ['--tap', '--policy', 'bulk=20kB', '--lease', '5s'];
      await using run = await runOn(a, logs, ...options).ready();
      const ends = (reason: string): number =>
        logs.read('shunt').filter((line) => line['event'] === 'end' && line['reason'] === reason).length;
      const open = Object.fromEntries(
        Object.entries(PORTS).map(([name, port]) => [name, download(port, 'none')]),
      );
      const frames = mixed(Object.values(open));
      await new Feed(b, frames, 3000, {
        from: 600,
        to: frames.length,
        until: () => logs.shunts('start') >= 5,
        what: 'not all are shunted',
      }).done;
      const last = (port: number, close: Close, count: number): Uint8Array[] =>
        bytesOf(download(port, close).slice(-count));
      await new Feed(b, [...last(PORTS.fin, 'client-fin', 3), ...last(PORTS.rst, 'client-rst', 1)]).done;
      // The same ports again.
      await new Feed(b, bytesOf(download(PORTS.syn, 'none').slice(0, 1))).done;
      await until(() => ends('fin') > 0 && ends('rst') > 0 && ends('syn') > 0, 'three ends');
      // Nobody renews the lease: when it is over the next packet of one passes.
      using ledger = new LedgerReader(a);
      await suspend(run.process.pid as number);
      const passed = ledger.read().passed.pkts;
      await eventually(async () => {
        await new Feed(b, bytesOf(open['lease'].slice(-1))).done;
        return ledger.read().passed.pkts > passed ? true : undefined;
      }, 'a lease that nobody renews is not over');
      run.process.kill('SIGCONT');
      await until(() => ends('lease') > 0, 'the end of a lease');
      const { losses } = documentOf(await run.stop());
      for (const reason of REASONS)
        expect([reason, total(losses, 'gate', `shunts.ended.${reason}`)]).toEqual([reason, ends(reason)]);
      expect(ends('asked')).toBeGreaterThan(0);
      expect(total(losses, 'gate', 'shunts.started')).toBe(logs.shunts('start'));
      expect(total(losses, 'gate', 'shunts.live')).toBe(0);
      const ended = REASONS.reduce((sum, reason) => sum + total(losses, 'gate', `shunts.ended.${reason}`), 0);
      expect(total(losses, 'gate', 'shunts.started')).toBe(ended);
      expect(losses.rows.filter(({ counter }) => ['late', 'notesLost'].includes(counter))).toMatchObject([
        { total: 0 },
        { total: 0 },
      ]);
    } finally {
      remove();
    }
  },
);

kernelTest('a shunt ends as nothing comes, and is refused as there is no room', [...FEATURES], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  try {
    const options = ['--tap', '--policy', 'bulk=20kB', '--lease', 'off', '--shunt-idle', '1s'];
    await using run = await runOn(a, logs, ...options, '--max-shunts4', '2').ready();
    const flows = [5000, 5001, 5002].map((port) => download(port, 'none'));
    const sent = mixed(flows);
    await new Feed(b, sent, 3000, {
      from: 400,
      to: sent.length,
      until: () => logs.shunts('start') >= 2 && logs.shunts('refused') > 0,
      what: 'not two shunts and a refusal',
    }).done;
    const again = flows.flatMap((frames) => bytesOf(frames.slice(-100)));
    // Nobody looks after them meanwhile: what comes then passes, and tells the worker.
    await suspend(run.process.pid as number);
    await pause(1200);
    await new Feed(b, again).done;
    run.process.kill('SIGCONT');
    const inSilence = (): number => logs.read('shunt').filter((line) => line['reason'] === 'idle').length;
    await until(() => inSilence() >= 2, 'two ends in silence');
    const { losses } = documentOf(await run.stop());
    expect(total(losses, 'gate', 'shunts.ended.idle')).toBe(inSilence());
    expect(total(losses, 'gate', 'shunts.started')).toBe(logs.shunts('start'));
    expect(total(losses, 'gate', 'shunts.live')).toBe(0);
    expect(total(losses, 'gate', 'shunts.refused')).toBe(logs.shunts('refused'));
    expect(losses.rows.find(({ counter }) => counter === 'shunts.refused')?.kind).toBe('warning');
  } finally {
    remove();
  }
});
