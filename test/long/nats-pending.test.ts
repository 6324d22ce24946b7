import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Kvm } from '@nats-io/kv';
import { afterAll, expect, it } from 'vitest';
import { keysOf } from '../../src/fleet/nats-keys.ts';
import { connectOnce, natsPlace } from '../../src/fleet/nats-place.ts';
import { NatsSource } from '../../src/fleet/nats-source.ts';
import { eventually } from '../gate/daemon-support.ts';
import { ownNetns } from '../support/kernel.ts';
import { NatsServer } from '../support/nats-server.ts';

// The port is that of other tests, and of a server that somebody may have on this machine.
ownNetns();

const directory = mkdtempSync(join(tmpdir(), 'sluice-pending-'));
afterAll(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20 }));

const ROUNDS = 20;
const QUIET = 5;
/** About as long as it takes to connect and to begin to watch. */
const WRITES = 40;

it('what is written while somebody begins to watch keeps no rule from an edge, and no list of keys from its end', async () => {
  await using server = new NatsServer(directory);
  await server.start();
  const place = natsPlace(server.url('busy'));
  const connection = await connectOnce(place);
  const bucket = await new Kvm(connection).create(place.rules, { history: 1 });
  for (let i = 0; i < QUIET; i++) await bucket.put(`quiet${i}`, 'x');
  for (let round = 0; round < ROUNDS; round++) {
    const got = new Map<string, string>();
    const source = new NatsSource(place, 'edge.eth1');
    source.start({
      lines: async (lines) => {
        for (const { where, text } of lines) got.set(where, text);
      },
      heard: () => {},
      failed: () => {},
    });
    const last = `${round} ${WRITES}`;
    for (let i = 1; i <= WRITES; i++) await bucket.put('busy', `${round} ${i}`);
    await eventually(
      async () => (got.size === QUIET + 1 && got.get('busy') === last ? true : undefined),
      'a rule does not come',
      60,
    );
    await source.close();
    expect((await keysOf(connection, place.rules)).length).toBe(QUIET + 1);
  }
  await connection.close();
});
