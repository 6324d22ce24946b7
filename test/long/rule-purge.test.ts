import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KV, Kvm } from '@nats-io/kv';
import { afterAll, expect, test } from 'vitest';
import { Lifeline } from '../../src/detect/connected.ts';
import { RuleIssuer } from '../../src/detect/rule-issuer.ts';
import { generateKeys, readSigningKey } from '../../src/fleet/keys.ts';
import { NatsDesk } from '../../src/fleet/nats-desk.ts';
import { connectOnce, natsPlace } from '../../src/fleet/nats-place.ts';
import { readStatement, signStatement } from '../../src/fleet/statement.ts';
import { eventually } from '../gate/daemon-support.ts';
import { ownNetns } from '../support/kernel.ts';
import { NatsServer } from '../support/nats-server.ts';

ownNetns();

const directory = mkdtempSync(join(tmpdir(), 'sluice-purge-'));
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20 }));

const key = readSigningKey(generateKeys('detectors').privatePem, 'detectors.key');
const HOUR = 3600;

/** A statement that is over since so many seconds, or lasts for so many. */
function line(id: string, seconds: number, rule: 'rule' | 'withdrawn' = 'rule'): string {
  const now = Math.floor(Date.now() / 1000);
  const body = rule === 'rule' ? ({ expr: 'udp', action: { kind: 'drop' } } as const) : null;
  const issued = Math.min(now, now + seconds) - 120;
  return signStatement(
    { version: 1, id, revision: issued * 1000, author: 'd', issued, expires: now + seconds, rule: body },
    key,
  );
}

const keysOf = async (bucket: KV): Promise<string[]> => {
  const keys: string[] = [];
  for await (const each of await bucket.keys()) keys.push(each);
  return keys.sort();
};

test('rules of detectors that have been over for long leave the bucket without a trace, and can come again', async () => {
  await using server = new NatsServer(directory);
  await server.start();
  const place = natsPlace(server.url('flood'));
  const many = Array.from({ length: 40 }, (_, at) => line(`auto-ntp-192.0.2.${at}-1`, -2 * HOUR));
  await new NatsDesk(place).publish([
    ...many,
    line('auto-gone-1', -2 * HOUR, 'withdrawn'),
    line('auto-late-1', -HOUR / 2),
    line('auto-now-1', 60),
    line('desk-old', -2 * HOUR),
    line('desk', HOUR),
  ]);
  const connection = await connectOnce(place);
  const bucket = await new Kvm(connection).open(place.rules);
  const warnings: string[] = [];
  const issuers = [1, 2].map(
    () =>
      new RuleIssuer({
        bucket: place.rules,
        key,
        author: 'd',
        log: () => {},
        warn: (text) => warnings.push(text),
      }),
  );
  const lifeline = new Lifeline(connection);
  const followed = await Promise.all(
    issuers.map(
      (issuer) =>
        new Promise<{ done: Promise<void> }>((ready) => {
          const done = issuer.follow(lifeline, bucket, () => queueMicrotask(() => ready({ done })));
        }),
    ),
  );
  const [issuer, other] = issuers;
  expect(await issuer.purge()).toBe(41);
  expect(await issuer.purge()).toBe(0);
  expect(await keysOf(bucket)).toEqual(['auto-late-1', 'auto-now-1', 'desk', 'desk-old']);
  // No marks of what is gone either.
  expect((await bucket.status()).values).toBe(4);
  // The same attack comes again, at a detector that has purged and at one that has not been told of it.
  for (const [at, each] of [issuer, other].entries()) {
    const id = `auto-ntp-192.0.2.${at}-1`;
    each.want(
      '0',
      `attack ${at}`,
      '',
      new Map([[id, { expr: 'udp', lang: 'tcpdump', action: { kind: 'drop' } }]]),
    );
    const back = await eventually(async () => {
      each.check();
      return (await bucket.get(id.replaceAll('.', '='))) ?? undefined;
    }, `${id} does not come back`);
    expect(readStatement(back.string())).toMatchObject({ id, author: 'd' });
  }
  // The second one found out by being refused once.
  expect(warnings).toHaveLength(1);
  await connection.close();
  await Promise.all(followed.map(({ done }) => done));
});
