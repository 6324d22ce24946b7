import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { readSigningKey } from '../../src/fleet/keys.ts';
import { NatsDesk } from '../../src/fleet/nats-desk.ts';
import { natsPlace } from '../../src/fleet/nats-place.ts';
import { type PublishOutcome, publishStaged } from '../../src/fleet/staged-publish.ts';
import { signStatement } from '../../src/fleet/statement.ts';
import { eth } from '../../src/packet/build.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { sluice } from '../support/command.ts';
import { Desk, LONGEST } from '../support/desk.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { NatsServer } from '../support/nats-server.ts';

ownNetns();

const directory = mkdtempSync(join(tmpdir(), 'sluice-canary-'));
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20 }));

const packet = eth().ipv4({ src: '10.9.0.1', dst: '10.9.0.2' }).udp({ sport: 5000, dport: 53 }).payload('x');

const ids = async (gate: UpGate): Promise<string> =>
  (await gate.rules())
    .map(({ id }) => id)
    .sort()
    .join();

kernelTest(
  'a rule goes to its canary site first: good ones to all, bad ones nowhere else, with their names',
  [],
  async () => {
    const desk = await Desk.open(directory);
    await using server = new NatsServer(directory);
    await server.start();
    const url = server.url('flood');
    const nats = new NatsDesk(natsPlace(url));
    const follow = (site: string): string[] => [...desk.options(url), '--site', site];
    await using canary = await UpGate.up(...follow('fra1'));
    await using other = await UpGate.up(...follow('ams1'));
    // Of a fleet that has none of the two there are no results.
    await desk.publish([], url);

    const publish = async (
      lines: string,
      ...more: string[]
    ): Promise<PublishOutcome & { error?: { message: string } }> => {
      writeFileSync(desk.rules, lines);
      const { stdout } = await sluice('rule', 'publish', desk.rules, '--to', url, '--json', ...more);
      return JSON.parse(stdout) as PublishOutcome;
    };
    const inForce = (gate: UpGate, wanted: string): Promise<true> =>
      eventually(
        async () => ((await ids(gate)) === wanted ? true : undefined),
        `not exactly ${wanted} in force on ${gate.ifname}`,
        LONGEST,
      );

    // Only tried so far, and stopped: the same file goes on with it.
    const good = await desk.sign('good', 'tcp dst port 7', '--canary', 'fra1');
    const stop = new AbortController();
    const seen: string[] = [];
    const stopped = await publishStaged(nats, good.trim().split('\n'), {
      seconds: LONGEST,
      mostDropped: undefined,
      stop: stop.signal,
      told: (id, { site, state }) => {
        seen.push(`${id} ${site} ${state}`);
        if (state === 'in force') stop.abort();
      },
    });
    expect(seen.at(-1)).toBe('good fra1 in force');
    expect(stopped).toMatchObject({
      published: [],
      canary: [{ id: 'good', why: expect.stringContaining('stopped') as string }],
    });
    await inForce(canary, 'fleet-good');
    expect(await ids(other)).toBe('');
    expect(await publish(good, '--canary-for', '10s')).toMatchObject({
      published: ['good'],
      canary: [
        { id: 'good', sites: ['fra1'], edges: [{ site: 'fra1', state: 'in force', dropped: 0 }], why: null },
      ],
    });
    await inForce(other, 'fleet-good');
    expect(await publish(good)).toMatchObject({ published: [], older: ['good'], canary: [] });

    // One that no edge can run, as a desk without our checks might sign it; those beside it go their way.
    const key = readSigningKey(readFileSync(`${desk.key}.key`, 'utf8'), 'key');
    const issued = Math.floor(Date.now() / 1000);
    const [first, second] = [{ sites: ['fra1'] }, {}].map((scope, at) =>
      signStatement(
        {
          version: 1,
          id: 'bad',
          revision: 1 + at,
          author: 'desk',
          issued,
          expires: issued + 600,
          rule: { expr: 'no such thing', action: { kind: 'drop' }, scope },
        },
        key,
      ),
    );
    const plain = await desk.sign('plain', 'tcp dst port 9');
    const bad = await publish(`${first}\n${second}\n${plain}`, '--canary-for', `${LONGEST}s`);
    expect(bad).toMatchObject({
      published: ['plain'],
      canary: [{ id: 'bad', why: expect.stringMatching(/^refused at .*syntax error/) as string }],
      error: { message: expect.stringContaining('rule bad stays at its canary sites') as string },
    });
    await inForce(other, 'fleet-good,fleet-plain');

    // One that drops more than it may, and one for a site that does not answer.
    const rude = await desk.sign('rude', 'udp dst port 53', '--canary', 'fra1');
    const traffic = setInterval(() => canary.send(packet, 100), 20);
    const dropping = await publish(rude, '--canary-for', `${LONGEST}s`, '--canary-max-dropped', '5%').finally(
      () => clearInterval(traffic),
    );
    expect(dropping.canary[0].why).toMatch(/^it drops \d+\.\d % of what comes at .*\(fra1\)$/);
    const nowhere = await desk.sign('nowhere', 'tcp dst port 8', '--canary', 'lon1');
    expect((await publish(nowhere, '--canary-for', '1s')).canary[0].why).toBe('no edge of site lon1 has it');

    // The desk takes out what stayed; nothing of it has been at the other site.
    await desk.publish([await desk.withdraw('rude'), await desk.withdraw('bad')], url);
    await inForce(canary, 'fleet-good,fleet-plain');
    expect(
      other.audit().filter(({ op, key: id }) => op === 'fleet.live' && id !== 'good' && id !== 'plain'),
    ).toEqual([]);
    expect(other.audit().some(({ op }) => op === 'fleet.bad')).toBe(false);
  },
);
