import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kvm } from '@nats-io/kv';
import { afterAll, expect } from 'vitest';
import { readSigningKey } from '../../src/fleet/keys.ts';
import type { EdgeResult } from '../../src/fleet/nats-desk.ts';
import { connectOnce, natsPlace } from '../../src/fleet/nats-place.ts';
import { putBundle } from '../../src/fleet/nats-programs.ts';
import { readBundle, signBundle } from '../../src/fleet/program-bundle.ts';
import type { RuleRow } from '../../src/gate/control-protocol.ts';
import type { FleetStatus } from '../../src/gate/daemon-fleet.ts';
import { SlPacket } from '../../src/gate/layout.gen.ts';
import { eth } from '../../src/packet/build.ts';
import { compilerAbi, compileSet } from '../../src/rules/taken/program-set.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { sluice } from '../support/command.ts';
import { Desk, fleetStatus, LONGEST } from '../support/desk.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { NatsServer } from '../support/nats-server.ts';

ownNetns();

const directory = mkdtempSync(join(tmpdir(), 'sluice-programs-'));
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20 }));
const FRAME_LENGTH = SlPacket.members.frame_len;

const udp = (host: number, dport: number) =>
  eth()
    .ipv4({ src: '10.9.0.1', dst: `10.9.0.${host}` })
    .udp({ sport: 5000, dport })
    .payload('x'.repeat(100));

const without = (line: string, name: string): object =>
  Object.fromEntries(Object.entries(JSON.parse(line) as object).filter(([member]) => member !== name));

const runs = (gate: UpGate, taken: number, here: number): Promise<FleetStatus> =>
  fleetStatus(
    gate,
    ({ programs }) => programs?.taken === taken && programs.here === here,
    `not ${taken} rules taken and ${here} compiled on ${gate.ifname}`,
  );
const drops = (gate: UpGate, id: string, port: number): Promise<RuleRow> =>
  eventually(async () => {
    gate.send(udp(2, port));
    return (await gate.rules()).find((row) => row.id === id && row.dropped.pkts > 0);
  }, `${id} drops nothing on ${gate.ifname}`);

kernelTest(
  'compiled once at the desk, over NATS to edges of two sites; rules beside; what may not be taken',
  [],
  async () => {
    const desk = await Desk.open(directory);
    const compiler = await Desk.open(directory);
    await using server = new NatsServer(directory);
    await server.start();
    const url = server.url('flood');
    const follow = (site: string): string[] => [
      ...desk.options(url),
      '--site',
      site,
      '--trust-programs',
      `${compiler.key}.pub`,
    ];
    await desk.publish(
      [
        await desk.sign('dns', 'udp dst port 53'),
        await desk.sign('web', 'udp dst port 80', '--site', 'fra1'),
        await desk.sign('ntp', 'udp dst port 123', '--site', 'ams1'),
      ],
      url,
    );
    const compile = async (...more: string[]): Promise<string> => {
      const how = ['--from', url, '--trust', `${desk.key}.pub`, '--key', `${compiler.key}.key`];
      const { code, stdout, stderr } = await sluice('rule', 'compile', ...how, ...more);
      if (code !== 0) throw new Error(stderr);
      return stdout;
    };
    const first = await compile();
    expect(await desk.publish([first], url)).toMatchObject({ published: ['(programs)'], older: [] });
    expect(await desk.publish([first], url)).toMatchObject({ published: [], older: ['(programs)'] });

    await using fra = await UpGate.up(...follow('fra1'));
    await using ams = await UpGate.up(...follow('ams1'));
    await using alone = await UpGate.up(...desk.options(url), '--site', 'fra1');
    const { programs } = await runs(fra, 2, 0);
    expect(programs).toMatchObject({ from: { key: 'desk', rules: 3 }, why: null });
    await runs(ams, 2, 0);
    await drops(fra, 'fleet-web', 80);
    await drops(ams, 'fleet-ntp', 123);
    ams.send(udp(2, 80));
    expect((await ams.rules()).map(({ id }) => id).sort()).toEqual(['fleet-dns', 'fleet-ntp']);
    expect(
      (await fleetStatus(alone, ({ inForce }) => inForce === 2, 'no rules without programs')).programs,
    ).toBeNull();
    expect((await sluice('gate', 'status', '-i', fra.ifname)).stdout).toMatch(
      /programs +of desk, [0-9a-f]{12} of revision \d+: 2 rules taken, 0 compiled here/,
    );

    // Beside it: a rule of somebody at the gate, and one that came later; a new expiry of one that is in it compiles nothing.
    expect((await sluice('rule', 'add', 'udp dst port 99', '--id', 'mine', '-i', fra.ifname)).code).toBe(0);
    await runs(fra, 2, 1);
    await drops(fra, 'mine', 99);
    await drops(fra, 'fleet-dns', 53);
    await desk.publish(
      [await desk.sign('late', 'udp dst port 98'), await desk.sign('dns', 'udp dst port 53')],
      url,
    );
    await runs(fra, 2, 2);
    await runs(ams, 2, 1);
    await drops(ams, 'fleet-late', 98);
    await desk.publish([await compile()], url);
    await runs(fra, 3, 1);
    await runs(ams, 3, 0);
    await drops(ams, 'fleet-late', 98);

    // What nobody may be made to run.
    const key = readSigningKey(readFileSync(`${compiler.key}.key`, 'utf8'), 'key');
    const stranger = readSigningKey(readFileSync(`${desk.key}.key`, 'utf8'), 'key');
    const set = [{ id: 'fleet-dns', revision: 1, lang: 'tcpdump', expr: 'udp' }] as const;
    const about = { revision: Date.now(), author: 'a', issued: Math.floor(Date.now() / 1000) };
    const abi = compilerAbi(FRAME_LENGTH);
    const bytes = compileSet(set, FRAME_LENGTH);
    const evil = bytes.program.slice();
    // Its last two instructions: XDP_DROP in the place of XDP_PASS.
    evil[evil.length - 12] = 1;
    const { code } = readBundle(await compile()) as { code: string };
    const said = (revision: number, version = abi) => ({
      ...about,
      revision: about.revision + revision,
      abi: version,
    });
    const good = signBundle(bytes, said(0), key);
    const attempts: readonly (readonly [string, string])[] = [
      ['unknown key', signBundle(bytes, said(1), stranger)],
      ['forged', good.replace(`"revision":${about.revision}`, `"revision":${about.revision + 2}`)],
      // The programs of another one, under a signature that is good.
      ['forged', JSON.stringify({ code, ...without(signBundle(bytes, said(3), key), 'code') })],
      ['other version', signBundle(bytes, said(4, '0-old'), key)],
      ['invalid', signBundle({ ...bytes, program: evil }, said(5), key)],
    ];
    const connection = await connectOnce(natsPlace(url));
    const bucket = await new Kvm(connection).open(natsPlace(url).programs);
    for (const [refused, text] of attempts) {
      await bucket.purge('head');
      expect(await putBundle(bucket, text)).toBe(true);
      await fleetStatus(
        fra,
        ({ lines }) => lines.at(-1)?.refused === refused,
        `what is ${refused} is not refused for it`,
      );
    }
    const kept = await fleetStatus(
      fra,
      ({ programs: now }) => now?.taken === 3 && now.here === 1 && now.why?.includes('instruction') === true,
      'not as it was, or not told why the last one was not taken',
    );
    expect(kept.programs?.why).toMatch('instruction');
    await drops(fra, 'fleet-dns', 53);
    // Signed by the right key, for another rule of that name: nothing of it is in force.
    await bucket.purge('head');
    await putBundle(bucket, signBundle(bytes, said(9), key));
    await runs(fra, 0, 4);
    await drops(fra, 'fleet-dns', 53);
    await connection.close();

    const edge = await eventually(
      async () => {
        const { stdout } = await sluice('rule', 'results', '--from', url, '--json');
        return (JSON.parse(stdout) as EdgeResult[]).find(
          ({ interface: name, programs: told, refused }) =>
            name === fra.ifname && told?.taken === 0 && refused.length >= attempts.length - 1,
        );
      },
      'it is not told at the desk',
      LONGEST,
    );
    expect(edge.programs).toMatchObject({ from: { key: 'desk', rules: 1 }, here: 4 });
  },
);

kernelTest('programs in a file of rules, for those who trust them', [], async () => {
  const desk = await Desk.open(directory);
  writeFileSync(desk.rules, await desk.sign('dns', 'udp dst port 53'));
  const trusted = ['--trust', `${desk.key}.pub`];
  const { stdout } = await sluice('rule', 'compile', desk.rules, ...trusted, '--key', `${desk.key}.key`);
  appendFileSync(desk.rules, stdout);
  expect((await sluice('rule', 'verify', desk.rules, ...trusted)).stdout).toMatch(/programs of 1 rules/);
  await using one = await UpGate.up(...desk.options(desk.rules), '--trust-programs', `${desk.key}.pub`);
  await runs(one, 1, 0);
  await drops(one, 'fleet-dns', 53);
  await using other = await UpGate.up(...desk.options(desk.rules));
  const status = await fleetStatus(other, ({ inForce }) => inForce === 1, 'not in force');
  expect(status).toMatchObject({ refused: 0, programs: null });
  const none = await sluice('rule', 'compile', desk.rules, '--key', `${desk.key}.key`, '--json');
  expect(JSON.parse(none.stdout)).toMatchObject({ error: { code: 'USAGE' } });
});
