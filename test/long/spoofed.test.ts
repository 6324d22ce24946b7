import { expect } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { documentOf, Feed, LedgerReader, LogDir, mixed, runOn, sumOf } from '../sensor/run.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const RATE = 4000;
const CLIENT_SEQ = 1_000_000;
const PORTS = [9101, 9102, 9103];

ownNetns();

/** A RST in the client's name, by somebody who does not know where the sequence is. */
const reset = (port: number, n: number): Uint8Array =>
  eth()
    .ipv4({ src: '192.0.2.1', dst: '192.0.2.2' })
    .tcp({ sport: port, dport: 80, seq: (CLIENT_SEQ + 2 ** 31 + n * 4096) >>> 0, flags: 'R' })
    .bytes();

kernelTest('after a flood of spoofed RSTs what goes on is shunted again', [...XDP], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  try {
    const transfers = mixed(
      PORTS.map((port) =>
        conversation({
          client: { address: '192.0.2.1', port },
          server: { address: '192.0.2.2', port: 80 },
          clientSeq: CLIENT_SEQ,
          turns: [{ from: 'server', data: 30_000_000 }],
          mss: 1400,
          close: 'none',
        }),
      ),
    );
    await using run = await runOn(a, logs, '--policy', 'bulk=200kB').ready();
    using ledger = new LedgerReader(a);
    // One second in peace, two with as many RSTs as there are other packets, and then peace again.
    const frames = transfers.flatMap((frame, i) =>
      i < RATE || i >= 2 * RATE ? [frame] : [frame, reset(PORTS[i % PORTS.length], i)],
    );
    const feed = new Feed(b, frames, RATE);
    await until(() => feed.sent >= 3 * RATE, 'the flood is not over');
    await until(() => logs.shunts('start') >= PORTS.length, 'not all were shunted');
    const flooded = ledger.read();
    // A RST ends a connection, to Zeek whatever its sequence number is: 5 s later what goes on is another one.
    await until(() => ledger.read().shunted.pkts > flooded.shunted.pkts + RATE, 'not shunted again');
    await feed.stop();
    const summary = documentOf(await run.stop());
    expect(summary).toMatchObject({ latePackets: 0 });
    expect(summary.ring.drops).toBe(0);
    expect(sumOf(logs.read('conn'), 'orig_pkts', 'resp_pkts')).toBe(summary.ledger?.seen.pkts);
    // The work that a flood makes is bounded.
    expect(logs.shunts('start')).toBeLessThan(PORTS.length * 12);
  } finally {
    remove();
  }
});
