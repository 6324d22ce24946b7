import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { EventFeed, type Topic } from '../../src/api/events.ts';
import type { Tick } from '../../src/api/shapes.ts';
import { Stream } from '../../src/api/stream.ts';
import type { LineListener, LogWatch } from '../../src/log/log-watch.ts';
import type { LiveRun } from '../../src/sensor/live.ts';
import { until } from '../support/kernel.ts';

const ATTACK = {
  id: 'x-1',
  kind: 'udp',
  target: '192.0.2.9',
  began: 41,
  ended: null,
  peak: 5000,
  usual: 20,
  attack: true,
  surprise: null,
  why: 'more than ever',
  dryRun: false,
  evidence: { packets: 12 },
  rules: [],
};

/** A run of which nothing is there but what happens. */
function madeUp() {
  const state = {
    attacks: [ATTACK] as object[],
    skipped: 0,
    /** The logs that are watched now. */
    watched: [] as readonly string[],
    seen: (() => {}) as LineListener,
  };
  const run = {
    jsonLogs: true,
    gates: () => [{ name: 'eth1', attacks: async () => state.attacks }],
    watchLogs: (logs: readonly string[], seen: LineListener) => {
      state.watched = logs;
      state.seen = seen;
      const close = (): void => {
        state.watched = [];
      };
      return {
        get skipped() {
          return state.skipped;
        },
        close,
      } as LogWatch;
    },
  } as unknown as LiveRun;
  const sent: [string, unknown][] = [];
  const feed = new EventFeed(run, (topic, data) => sent.push([topic, JSON.parse(data)]));
  return {
    state,
    feed,
    want: (...topics: Topic[]) => feed.want(new Set(topics)),
    /** What has been sent since the last time. */
    news: () => sent.splice(0),
    /** A second goes by. */
    second: async () => {
      feed.look();
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

test('records of the logs that somebody wants, and of no others', () => {
  const { state, want, news } = madeUp();
  want('flows');
  expect(state.watched).toEqual(['conn']);
  state.seen('conn', Buffer.from('{"uid":"C1"}\n{"uid":"C2"}\n'), 2);
  expect(news()).toEqual([['flows', [{ uid: 'C1' }, { uid: 'C2' }]]]);
  want('flows', 'shunts', 'notices');
  expect(state.watched).toEqual(['conn', 'shunt', 'notice']);
  state.seen('shunt', Buffer.from('{"event":"start"}\n'), 1);
  state.seen('notice', Buffer.from('{"note":"n"}\n'), 1);
  expect(news()).toEqual([
    ['shunts', [{ event: 'start' }]],
    ['notices', [{ note: 'n' }]],
  ]);
  want('attacks');
  expect(state.watched).toEqual([]);
});

test('an attack is told of when it begins and when something about it changes, and to who comes later', async () => {
  const { state, feed, want, news, second } = madeUp();
  await second();
  expect(news()).toEqual([]);
  want('attacks');
  expect(feed.attacks).toBeUndefined();
  await second();
  await second();
  expect(news()).toEqual([['attacks', [{ ...ATTACK, interface: 'eth1' }]]]);
  state.attacks = [{ ...ATTACK, id: 'x-2', began: 50 }, { ...ATTACK, ended: 99 }, { not: 'one' }];
  await second();
  expect(news()).toMatchObject([
    [
      'attacks',
      [
        { id: 'x-2', ended: null },
        { id: 'x-1', ended: 99 },
      ],
    ],
  ]);
  expect(JSON.parse(feed.attacks ?? '')).toMatchObject([{ id: 'x-2' }, { id: 'x-1' }]);
});

test('what is more than a second may bring is left out, and counted with what the log thread left out', async () => {
  const { state, want, news, second } = madeUp();
  want('flows');
  const chunk = Buffer.from(`{"x":"${'y'.repeat(300_000)}"}\n`);
  for (let n = 0; n < 3; n++) state.seen('conn', chunk, 1);
  expect(news()).toHaveLength(1);
  state.skipped = 5;
  await second();
  expect(news()).toEqual([['skipped', { records: 7 }]]);
  state.seen('conn', chunk, 1);
  await second();
  expect(news().map(([topic]) => topic)).toEqual(['flows']);
});

test('who reads too slowly is let go of, and who reads hears everything', async () => {
  const stream = new Stream();
  const tick = { seconds: 1 } as Tick;
  const server = createServer((_, response) => stream.add(response, tick, new Set<Topic>(['flows'])));
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  let heard = 0;
  const slow = get({ port }, (response) => {
    response.pause().on('error', () => {});
  }).on('error', () => {});
  const quick = get({ port }, (response) => response.on('data', (data: Buffer) => (heard += data.length)));
  try {
    await until(() => stream.clients === 2 && heard > 0, 'they are not let in');
    const text = `"${'x'.repeat(100_000)}"`;
    let sent = 0;
    while (stream.dropped === 0) {
      stream.publish('flows', text);
      sent += text.length;
      // No more than the quick one takes.
      await until(() => heard >= sent, 'who reads is not told');
    }
    expect([stream.clients, stream.dropped]).toEqual([1, 1]);
    stream.publish('flows', text);
    await until(() => heard >= sent + text.length, 'who reads is not told any more');
  } finally {
    slow.destroy();
    quick.destroy();
    server.closeAllConnections();
    server.close();
  }
});
