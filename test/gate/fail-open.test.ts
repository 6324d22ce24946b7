import { expect } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { Feed, LedgerReader, pause, suspend } from '../sensor/run.ts';
import { kernelTest, ownNetns, until } from '../support/kernel.ts';
import { eventually, UpGate } from './daemon-support.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth'] as const;
/** More than a busy machine keeps this process waiting. */
const LEASE_SECONDS = 6;
const FLOWS = 64;
const RATE = 40_000;

ownNetns();

const frames = (count: number): Uint8Array[] => {
  const kinds = Array.from({ length: FLOWS }, (_, i) =>
    eth()
      .ipv4({ src: '10.9.0.1', dst: '10.9.0.2' })
      .udp({ sport: 1000 + i, dport: 53 })
      .payload('x'.repeat(200))
      .bytes(),
  );
  return Array.from({ length: count }, (_, i) => kinds[i % FLOWS]);
};

for (const signal of ['SIGSTOP', 'SIGKILL'] as const) {
  kernelTest(
    `${signal} of daemon and owner at full load: within the lease everything passes`,
    [...XDP],
    async () => {
      await using gate = await UpGate.up();
      using ledger = new LedgerReader(gate.ifname);
      const sent = frames(RATE * 20);
      const client = await gate.connect();
      const { pid } = (await gate.status()).daemon;
      // An owner that renews by its own progress, here the turns of this process.
      await client.ask('owner.register', { name: 'me', lease: LEASE_SECONDS, idle: 'off' });
      const flows = Array.from({ length: FLOWS }, (_, i) => ({
        proto: 'udp',
        a: { addr: '10.9.0.1', port: 1000 + i },
        b: { addr: '10.9.0.2', port: 53 },
      }));
      await client.ask('add', { owner: 'me', flows });
      const renewal = setInterval(() => void client.ask('renew', { owner: 'me' }).catch(() => {}), 100);
      const feed = new Feed(gate.peer, sent, RATE);
      try {
        await until(() => ledger.read().shunted.pkts > 20_000, 'nothing is shunted');
        expect(ledger.read().passed.pkts).toBe(0);
        clearInterval(renewal);
        if (signal === 'SIGSTOP') await suspend(pid as number);
        else process.kill(pid as number, signal);
        await pause(LEASE_SECONDS * 1000 + 50);
        const before = ledger.read();
        await until(() => ledger.read().seen.pkts > before.seen.pkts + 1000, 'nothing comes');
        const after = ledger.read();
        const seen = after.seen.pkts - before.seen.pkts;
        expect(after.passed.pkts - before.passed.pkts).toBe(seen);
        // One packet of each flow has found the lease over; the rest of it had ended then.
        expect(after.reasons.passLease?.pkts).toBe(FLOWS);
        if (signal === 'SIGSTOP') process.kill(pid as number, 'SIGCONT');
        else expect((await gate.start()).code).toBe(0);
        const ends = await eventually(async () => {
          const lines = gate.audit().filter(({ op }) => op === 'end');
          return lines.length === FLOWS ? lines : undefined;
        }, 'the ends are not told');
        expect(ends.map(({ reason }) => reason)).toEqual(ends.map(() => 'lease'));
        const dropped = ends.reduce((sum, { pkts }) => sum + Number(pkts), 0);
        expect(dropped).toBe(after.shunted.pkts);
      } finally {
        clearInterval(renewal);
        await feed.stop();
        client[Symbol.dispose]();
      }
    },
  );
}
