import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns, PATIENCE, until, vethPair } from '../support/kernel.ts';
import { halves } from './download.ts';
import { documentOf, Feed, LogDir, runOn } from './run.ts';

ownNetns();

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const POLICIES = `
sets:
  talk: { suricata: some.rules }
policies:
  - { name: talk, when: signature in @talk }
  - { name: keep, when: resp.port == 8000, action: never }
  - { name: watch, when: resp.port == 8001 and bytes >= 10kB, dryRun: true, priority: 9 }
  - { name: near, when: resp.port == 8002 and bytes >= 10kB, action: bypass, priority: 8 }
  - { name: peers, when: resp.port == 8003 and bytes >= 10kB, action: pair, for: 1h, priority: 7 }
  - { preset: bulk=20kB }
`;

kernelTest(
  'a policy file: veto, dry run, local bypass, address pair and bulk each do theirs, and are loaded anew while it runs',
  [...FEATURES],
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    const file = join(directory, 'policies.yaml');
    writeFileSync(file, POLICIES);
    writeFileSync(
      join(directory, 'some.rules'),
      'alert tcp any any -> any any (content:"x"; bypass; sid:1;)\n',
    );
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      // A lease that is over would let packets pass.
      const options = ['--policy', 'none', '--policy-file', file, '--lease', '60s'] as const;
      await using run = await runOn(a, logs, ...options).ready();
      await until(
        () => run.stderr.includes('1 of 1 signatures with bypass are not taken'),
        'a warning of signatures that are left out',
      );
      const parts = [8000, 8001, 8002, 8003, 8004].map((port) => halves(port, `10.1.0.${port - 7990}`));
      await new Feed(
        b,
        parts.flatMap(([first]) => first),
      ).done;
      const started = (port: number) =>
        logs.read('shunt').some((line) => line['event'] === 'start' && line['id.resp_p'] === port);
      // A shunt takes steps when packets come.
      // Of so many flows that no policy wants one.
      const kinds = Array.from({ length: 600 }, (_, i) =>
        eth()
          .ipv4({ src: '10.9.9.1', dst: '10.9.9.2' })
          .udp({ sport: 1000 + i, dport: 9 })
          .payload(20)
          .bytes(),
      );
      const noise = Array.from({ length: 64 * 30 * PATIENCE }, (_, i) => kinds[i % kinds.length]);
      const trickle = new Feed(b, noise, 64 * 30);
      await until(
        () => started(8001) && started(8004) && logs.shunts('start') === 3,
        'two shunts and a pair',
      );
      await trickle.stop();
      await new Feed(
        b,
        parts.flatMap(([, second]) => second),
      ).done;

      const told = (text: RegExp) => () => logs.read('notice').some((line) => text.test(String(line['msg'])));
      writeFileSync(file, POLICIES.replace('8000', '8000x'));
      run.process.kill('SIGUSR2');
      await until(told(/from before go on: .*policy 'keep'/), 'a refusal to load');
      writeFileSync(file, 'policies: [{ name: other, when: bytes >= 1kB }]');
      run.process.kill('SIGUSR2');
      await until(told(/1 policies were loaded anew/), 'new policies');
      const ended = await run.stop();
      expect(ended).toMatchObject({ code: 0, signal: null });
      const { policies, localBypass, ledger } = documentOf(ended);
      const second = (port: number) => parts[port - 8000][1].length;
      expect(policies).toMatchObject({
        keep: { connections: 0, spared: { never: 1 } },
        watch: { connections: 0, noted: 1 },
        near: { connections: 0, pkts: 0 },
        peers: { connections: 1, pkts: 0 },
        bulk: { connections: 2 },
        other: { noted: 0 },
      });
      expect(localBypass.connections).toBe(1);
      expect(localBypass.pkts).toBeGreaterThanOrEqual(second(8002));
      const [pair] = logs.read('shunt').filter((line) => line['proto'] === 'pair' && line['event'] === 'end');
      expect(pair).toMatchObject({
        'id.orig_h': '10.1.0.13',
        'id.resp_h': '10.2.0.1',
        shunt_trigger: 'peers',
        reason: 'asked',
      });
      const inPair = Number(pair['orig_shunted_pkts']) + Number(pair['resp_shunted_pkts']);
      expect(inPair).toBe(second(8003));
      expect(policies['bulk'].pkts).toBe(second(8001) + second(8004));
      expect(ledger?.shunted.pkts).toBe(inPair + policies['bulk'].pkts);
      expect(logs.read('shunt').filter((line) => line['event'] === 'noted')).toMatchObject([
        { 'id.resp_p': 8001, shunt_trigger: 'watch' },
      ]);
    } finally {
      remove();
      rmSync(directory, { recursive: true });
    }
  },
);
