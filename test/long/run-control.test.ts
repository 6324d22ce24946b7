import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { ControlClient } from '../../src/gate/control-client.ts';
import { findPlace } from '../../src/gate/control-places.ts';
import type { HoldRow, ShuntRow, StatusReport, WatchEvent } from '../../src/gate/control-protocol.ts';
import type { LossTable } from '../../src/gate/losses/index.ts';
import { eth } from '../../src/packet/build.ts';
import { eventually } from '../gate/daemon-support.ts';
import { halves } from '../sensor/download.ts';
import { documentOf, Feed, LedgerReader, LogDir, type Run, runOn } from '../sensor/run.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { total } from './losses-support.ts';

ownNetns();

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const HOST = '10.2.0.1';

const CLIENT = '10.1.0.1';
const downloads = (ports: readonly number[]) => ports.map((port) => halves(port, CLIENT));

/** What a test that fails would leave behind by a kill, the next one would go on with. */
const stopping = (run: Run): AsyncDisposable => ({
  [Symbol.asyncDispose]: async () => {
    if (run.running) await run.stop();
  },
});

/** Of so many flows that no policy wants one. */
const noise = Array.from({ length: 600 }, (_, i) =>
  eth()
    .ipv4({ src: '10.9.9.1', dst: '10.9.9.2' })
    .udp({ sport: 1000 + i, dport: 9 })
    .payload(20)
    .bytes(),
);
const flow = (port: number) => ({ proto: 'tcp', a: { addr: HOST, port }, b: { addr: CLIENT, port } });
const named = (port: number): string => `tcp ${HOST}:${port} ${CLIENT}:${port}`;

interface Results {
  results: { released?: boolean; error?: { code: string } }[];
}
const told = ({ results }: Results): unknown[] =>
  results.map(({ released, error }) => error?.code ?? released ?? 'ok');
const portOf = ({ a, b }: { a: { port: number }; b: { port: number } }): number => Math.min(a.port, b.port);

/** Until a question is answered by yes. */
const untilTrue = (ask: () => Promise<boolean>, what: string): Promise<true> =>
  eventually(async () => ((await ask()) ? true : undefined), what);

/** Shunts and holds take steps when packets come, which they do until it is disposed. */
class Trickle {
  readonly #done: Promise<void>;
  #feed: Feed | undefined;
  #stopped = false;

  constructor(ifname: string) {
    this.#done = this.#run(ifname);
    this.#done.catch(() => {});
  }

  async #run(ifname: string): Promise<void> {
    while (!this.#stopped) {
      this.#feed = new Feed(ifname, noise, 64 * 30);
      await this.#feed.done;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await this.#feed?.stop();
    await this.#done;
  }
}

/** Until the worker has handled all that has passed the gate so far: it knows those connections from then on. */
async function handled(ifname: string): Promise<void> {
  using ledger = new LedgerReader(ifname);
  const { pkts } = ledger.read().passed;
  await untilTrue(async () => {
    const { stdout } = await sluice('gate', 'status', '-i', ifname, '--json');
    const { losses } = JSON.parse(stdout) as { losses: LossTable };
    return total(losses, 'worker', 'handled') >= pkts;
  }, `${pkts} packets to be handled`);
}

async function rowsOf(client: ControlClient): Promise<ShuntRow[]> {
  const rows: ShuntRow[] = [];
  await client.ask('list', {}, (page) => rows.push(...(page as ShuntRow[])));
  return rows;
}

kernelTest(
  'clients add, hold and let go at a gate that the sensor drives, and records stay whole',
  [...FEATURES],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      await using run = await runOn(a, logs, '--policy', 'bulk=90kB').ready();
      await using _stop = stopping(run);
      using client = await ControlClient.connect(findPlace(a));
      const events: WatchEvent[] = [];
      await client.watch(0, (event) => events.push(event));
      const parts = downloads([8000, 8001, 8002, 8003]);
      await using _ = new Trickle(b);
      // One of them is needed from before its first packet.
      expect(told(await client.ask<Results>('hold.add', { flows: [flow(8002)] }))).toEqual([false]);
      await new Feed(
        b,
        parts.flatMap(([first]) => first),
      ).done;
      await handled(a);

      // The sensor knows these two, and nobody a third.
      await client.ask('owner.register', { name: 'script', lease: 60 });
      const added = await client.ask<Results>('add', {
        owner: 'script',
        flows: [flow(8000), { ...flow(8001), trigger: 'by script' }, flow(9999), flow(8002)],
      });
      expect(told(added)).toEqual(['ok', 'ok', 'ok', 'HELD']);
      await until(() => logs.shunts('start') === 3, 'three shunts');
      expect(told(await client.ask<Results>('add', { flows: [flow(8000)] }))).toEqual(['EXISTS']);
      expect(
        (await rowsOf(client))
          .map((row) => [portOf(row), row.owner, row.trigger])
          .toSorted(([x], [y]) => Number(x) - Number(y)),
      ).toEqual([
        [8000, 'script', 'script'],
        [8001, 'script', 'by script'],
        [9999, 'script', 'script'],
      ]);
      const status = JSON.parse((await sluice('gate', 'status', '-i', a, '--json')).stdout) as StatusReport;
      expect(status).toMatchObject({
        daemon: { alive: true, driven: true, pid: run.process.pid },
        owners: [{ name: 'script', entries: 3, lapsed: false }],
        tables: { flows4: { entries: 3 } },
        holds: { live: 1, kept: 1 },
      });

      // A hold ends the shunt, and says so; the policy then wants the connection in vain.
      expect(told(await client.ask<Results>('hold.add', { flows: [flow(8001)], why: 'a file' }))).toEqual([
        true,
      ]);
      await until(
        () => events.some((e) => e.event === 'end' && portOf(e.shunt) === 8001),
        'the end of a shunt',
      );
      await new Feed(
        b,
        parts.flatMap(([, second]) => second),
      ).done;
      const holds: HoldRow[] = [];
      await untilTrue(async () => {
        // As long as its last counts are being taken in nobody asks the policies.
        await new Feed(b, parts[1][1].slice(-1)).done;
        holds.length = 0;
        await client.ask('hold.list', {}, (page) => holds.push(...(page as HoldRow[])));
        return holds.length === 2 && holds.every(({ kept }) => kept > 0);
      }, 'two flows that are held and were wanted');
      await until(
        () => events.some((e) => e.event === 'start' && portOf(e.shunt) === 8003 && e.shunt.owner === 'run'),
        'a shunt by a policy that is told',
      );
      // Let go of, it is shunted with the next packets.
      const rest = await sluice('hold', 'rm', '-i', a, '--flow', named(8002), '--json');
      expect(rest.code).toBe(0);
      await untilTrue(async () => {
        await new Feed(b, parts[2][1].slice(-2)).done;
        return (await rowsOf(client)).some((row) => portOf(row) === 8002);
      }, 'a shunt after a hold');
      const down = await sluice('gate', 'down', '-i', a, '--json');
      expect(down.stdout).toContain('"REFUSED"');
      expect(told(await client.ask<Results>('remove', { flows: [flow(9999), flow(8003)] }))).toEqual([
        'ok',
        'ok',
      ]);

      const { ended, conns } = await (async () => {
        const end = await run.stop();
        return { ended: end, conns: logs.read('conn').filter((line) => Number(line['id.resp_p']) >= 8000) };
      })();
      expect(ended).toMatchObject({ code: 0 });
      await client.closed;
      const summary = documentOf(ended);
      expect(summary.policies['bulk'].spared?.['hold']).toBeGreaterThan(0);
      for (const port of [8000, 8001, 8003]) {
        const line = conns.find((each) => each['id.resp_p'] === port);
        // Whole, whoever asked for the shunt.
        expect(line, `${port}`).toMatchObject({
          orig_bytes: 100,
          resp_bytes: 120_000,
        });
        if (port !== 8003) expect(line?.['is_shunted']).toBe(port === 8000 ? true : undefined);
        const shunts = logs.read('shunt').filter((each) => each['uid'] === line?.['uid']);
        expect(shunts.length).toBeGreaterThan(1);
        for (const each of shunts) expect(each['community_id']).toBe(line?.['community_id']);
      }
      expect(conns.find((each) => each['id.resp_p'] === 8000)).toMatchObject({ shunt_trigger: 'script' });
      const direct = logs
        .read('shunt')
        .filter((each) => each['id.orig_p'] === 9999 || each['id.resp_p'] === 9999);
      expect(direct.map((each) => [each['event'], each['uid']])).toEqual([
        ['start', undefined],
        ['end', undefined],
      ]);
      expect((await sluice('gate', 'status', '-i', a, '--json')).stdout).toContain('"GATE_DOWN"');
    } finally {
      remove();
    }
  },
);

kernelTest(
  'leases, time limits and exceptions of clients hold at a gate that the sensor drives',
  [...FEATURES],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      await using run = await runOn(a, logs, '--policy', 'none').ready();
      await using _stop = stopping(run);
      using client = await ControlClient.connect(findPlace(a));
      await using _ = new Trickle(b);
      const ports = [8000, 8001, 8002];
      const parts = downloads(ports);
      await new Feed(
        b,
        parts.flatMap(([first]) => first),
      ).done;
      await handled(a);
      await client.ask('owner.register', { name: 'short', lease: 5 });
      const added = await client.ask<Results>('add', { owner: 'short', flows: [flow(8000)] });
      expect(told(added)).toEqual(['ok']);
      expect(
        told(await client.ask<Results>('add', { flows: [{ ...flow(8001), ttl: 1 }, flow(8002)] })),
      ).toEqual(['ok', 'ok']);
      await untilTrue(
        async () => (await rowsOf(client)).map(portOf).join() === '8002',
        'a lease and a time to be over',
      );
      expect(await client.ask('exception.add', { prefix: '10.2.0.0/16' })).toMatchObject({});
      await untilTrue(async () => (await rowsOf(client)).length === 0, 'the end of what an exception covers');
      expect(told(await client.ask<Results>('add', { flows: [flow(8002)] }))).toEqual(['REFUSED']);
      expect(await run.stop()).toMatchObject({ code: 0 });
      const audit = logs.read('audit').filter(({ op }) => op === 'end');
      expect(new Set(audit.map(({ reason }) => reason))).toEqual(new Set(['exception', 'lease', 'limit']));
      expect(audit).toHaveLength(3);
    } finally {
      remove();
    }
  },
);

kernelTest(
  'a hold keeps the address pair of a policy from being set, and ends one that is',
  [...FEATURES],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    const file = join(directory, 'policies.yaml');
    writeFileSync(
      file,
      'policies: [{ name: peers, when: resp.port == 8000 and bytes >= 10kB, action: pair, for: 1h }]',
    );
    try {
      await using run = await runOn(a, logs, '--policy', 'none', '--policy-file', file).ready();
      await using _stop = stopping(run);
      using client = await ControlClient.connect(findPlace(a));
      const pairs = (event: string) =>
        logs.read('shunt').filter((line) => line['proto'] === 'pair' && line['event'] === event);
      // Needed is another connection between the same addresses.
      expect(told(await client.ask<Results>('hold.add', { flows: [flow(8001)] }))).toEqual([false]);
      const [wanting, [first, second]] = downloads([8000, 8001]);
      await new Feed(b, wanting[0]).done;
      const rows: HoldRow[] = [];
      await untilTrue(async () => {
        rows.length = 0;
        await client.ask('hold.list', {}, (page) => rows.push(...(page as HoldRow[])));
        return rows[0]?.kept === 1;
      }, 'a hold that kept a pair from being set');
      await new Feed(b, [...first, ...second]).done;
      expect(pairs('start')).toEqual([]);
      await client.ask('hold.remove', { flows: [flow(8001)] });
      await until(() => pairs('start').length === 1, 'a pair that nothing holds any more');
      // And the other way round.
      expect(told(await client.ask<Results>('hold.add', { flows: [flow(8002)] }))).toEqual([true]);
      await until(() => pairs('end').length === 1, 'the end of a pair');
      expect(pairs('end')).toMatchObject([{ reason: 'hold', shunt_trigger: 'peers' }]);
      await client.ask('hold.remove', { flows: [flow(8002)] });
      await until(() => pairs('start').length === 2, 'the pair again');
      expect(await run.stop()).toMatchObject({ code: 0 });
      expect(pairs('end').map((line) => line['reason'])).toEqual(['hold', 'asked']);
      const held = logs.read('conn').find((line) => line['id.resp_p'] === 8001);
      expect(held).toMatchObject({ orig_bytes: 100, resp_bytes: 120_000 });
    } finally {
      remove();
      rmSync(directory, { recursive: true });
    }
  },
);

kernelTest(
  'a hold ends an entry that waits for its threshold in the kernel: all of the flow passes until it is let go of',
  [...FEATURES],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    const file = join(directory, 'policies.yaml');
    writeFileSync(file, 'policies: [{ name: burst, when: bytes >= 10kB, action: arm, after: 100kB }]');
    try {
      await using run = await runOn(a, logs, '--policy', 'none', '--policy-file', file).ready();
      await using _stop = stopping(run);
      using client = await ControlClient.connect(findPlace(a));
      await using _ = new Trickle(b);
      const [[first, second], wanted] = downloads([8000, 8001]);
      const states = async () => (await rowsOf(client)).map((row) => `${portOf(row)} ${row.state}`);
      await new Feed(b, first).done;
      await untilTrue(async () => (await states()).join() === '8000 armed', 'an entry that waits');
      expect(told(await client.ask<Results>('hold.add', { flows: [flow(8000)] }))).toEqual([true]);
      await untilTrue(async () => (await states()).length === 0, 'the end of the entry');
      // Ten times the threshold: retransmissions count as well as others.
      for (let i = 0; i < 10; i++) await new Feed(b, second).done;
      const kept = async (): Promise<number> =>
        (JSON.parse((await sluice('gate', 'status', '-i', a, '--json')).stdout) as StatusReport).holds
          ?.kept ?? 0;
      await untilTrue(async () => {
        await new Feed(b, second.slice(-1)).done;
        return (await kept()) > 0;
      }, 'a hold that kept a policy from its flow');
      // Another connection goes its way meanwhile.
      await new Feed(b, wanted[0]).done;
      await untilTrue(async () => (await states()).join() === '8001 armed', 'another entry that waits');
      const { stdout } = await sluice('gate', 'status', '-i', a, '--json');
      expect(JSON.parse(stdout)).toMatchObject({ shunted: { pkts: 0 }, holds: { live: 1, released: 1 } });
      await client.ask('hold.remove', { flows: [flow(8000)] });
      await untilTrue(async () => {
        await new Feed(b, second.slice(-1)).done;
        return (await states()).toSorted().join() === '8000 armed,8001 armed';
      }, 'an entry that waits again');
      expect(await run.stop()).toMatchObject({ code: 0 });
      expect(logs.read('conn').find((line) => line['id.resp_p'] === 8000)).toMatchObject({
        orig_bytes: 100,
        resp_bytes: 120_000,
      });
    } finally {
      remove();
      rmSync(directory, { recursive: true });
    }
  },
);
