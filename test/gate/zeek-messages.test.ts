import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { zeekUrl } from '../../src/gate/zeek-bridge.ts';
import {
  broker,
  eventMessage,
  nodeOf,
  parseMessage,
  TOPIC,
  triggerOf,
  wishOf,
} from '../../src/gate/zeek-messages.ts';
import { packageRoot } from '../../src/kernel/index.ts';
import { declared } from './zeek-server.ts';

/** From the documentation of Zeek's WebSocket. */
const DOCUMENTED =
  '{"type":"data-message","topic":"zeek.test","@data-type":"vector","data":[{"@data-type":"count","data":1},{"@data-type":"count","data":1},{"@data-type":"vector","data":[{"@data-type":"string","data":"hello"},{"@data-type":"vector","data":[{"@data-type":"count","data":3}]},{"@data-type":"vector","data":[]}]}]}';

const shunt = (...changed: [number, unknown][]) => {
  const args = [
    { '@data-type': 'string', data: 'worker-1' },
    { '@data-type': 'string', data: 'CHhAvVGS1DHFjwGM9' },
    { '@data-type': 'address', data: '10.0.0.1' },
    { '@data-type': 'port', data: '51000/tcp' },
    { '@data-type': 'address', data: '10.0.0.2' },
    { '@data-type': 'port', data: '443/tcp' },
    { '@data-type': 'count', data: 0 },
    { '@data-type': 'count', data: 0 },
    { '@data-type': 'string', data: 'tls' },
  ];
  for (const [at, value] of changed) args[at] = value as (typeof args)[number];
  return wishOf(args);
};

test('messages as they are documented', () => {
  expect(parseMessage(DOCUMENTED)).toEqual({
    kind: 'event',
    topic: 'zeek.test',
    name: 'hello',
    args: [{ '@data-type': 'count', data: 3 }],
  });
  expect(parseMessage('{"type":"ack","endpoint":"d955d990","version":"8.0.0-dev.684"}')).toEqual({
    kind: 'ack',
    version: '8.0.0-dev.684',
  });
  expect(parseMessage('{"type":"error","code":"deserialization_failed","context":"input #1"}')).toEqual({
    kind: 'error',
    code: 'deserialization_failed',
    context: 'input #1',
  });
  // What is written can be read, and without metadata as in Broker's own documentation.
  const message = eventMessage('/foo/bar', 'event_1', broker.count(42), broker.timestamp(1_649_574_000));
  expect(JSON.parse(message)).toEqual({
    type: 'data-message',
    topic: '/foo/bar',
    '@data-type': 'vector',
    data: [
      { '@data-type': 'count', data: 1 },
      { '@data-type': 'count', data: 1 },
      {
        '@data-type': 'vector',
        data: [
          { '@data-type': 'string', data: 'event_1' },
          {
            '@data-type': 'vector',
            data: [
              { '@data-type': 'count', data: 42 },
              { '@data-type': 'timestamp', data: '2022-04-10T07:00:00.000' },
            ],
          },
        ],
      },
    ],
  });
  expect(parseMessage(message)).toMatchObject({ kind: 'event', name: 'event_1' });
});

test('what a request has to look like', () => {
  expect(shunt()).toEqual({
    node: 'worker-1',
    key: 'CHhAvVGS1DHFjwGM9',
    proto: 'tcp',
    orig: { addr: '10.0.0.1', port: 51_000 },
    resp: { addr: '10.0.0.2', port: 443 },
    vlan: 0,
    innerVlan: 0,
  });
  for (const changed of [
    [0, { '@data-type': 'string', data: '../x' }],
    [0, { '@data-type': 'string', data: 'a'.repeat(40) }],
    [1, { '@data-type': 'count', data: 1 }],
    [1, { '@data-type': 'string', data: 'a'.repeat(1000) }],
    [2, { '@data-type': 'address', data: '10.0.0' }],
    [2, { '@data-type': 'address', data: 'fe80::1%eth0' }],
    [3, { '@data-type': 'port', data: '8/icmp' }],
    [3, { '@data-type': 'port', data: '70000/tcp' }],
    [5, { '@data-type': 'port', data: '443/udp' }],
    [6, { '@data-type': 'count', data: 4096 }],
    [7, { '@data-type': 'count', data: -1 }],
    [7, undefined],
  ] satisfies [number, unknown][])
    expect(shunt(changed), JSON.stringify(changed)).toBeUndefined();
});

test('nothing that comes in throws', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      parseMessage(text);
    }),
  );
  const mutated = fc.tuple(fc.nat(DOCUMENTED.length - 1), fc.nat(40), fc.string({ maxLength: 12 }));
  fc.assert(
    fc.property(mutated, ([at, length, text]) => {
      parseMessage(DOCUMENTED.slice(0, at) + text + DOCUMENTED.slice(at + length));
    }),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const message = parseMessage(
        JSON.stringify({ type: 'data-message', topic: 'x', '@data-type': 'vector', data: value }),
      );
      if (message?.kind === 'event') wishOf(message.args);
    }),
  );
  const args = fc.array(
    fc.record({ '@data-type': fc.constantFrom('string', 'address', 'port', 'count'), data: fc.jsonValue() }),
  );
  fc.assert(
    fc.property(args, (values) => {
      wishOf(values);
      nodeOf(values[0]);
    }),
  );
  expect(parseMessage(`{"type":"ack","version":"${'x'.repeat(20_000)}"}`)).toBeUndefined();
  expect(parseMessage('[[[['.repeat(4000))).toBeUndefined();
});

test('where Zeek is', () => {
  expect(zeekUrl('ws://127.0.0.1:27759')).toBe('ws://127.0.0.1:27759/v1/messages/json');
  expect(zeekUrl('ws://[::1]:9/v1/messages/json')).toBe('ws://[::1]:9/v1/messages/json');
  expect(zeekUrl('wss://zeek.example.org:27759')).toBe('wss://zeek.example.org:27759/v1/messages/json');
  for (const url of [
    'ws://10.0.0.1:27759',
    'ws://127.example.org',
    'http://127.0.0.1',
    '127.0.0.1:27759',
    '',
  ])
    expect(() => zeekUrl(url), url).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

test('the events of the script package have the arguments that are read here', () => {
  const samples: Readonly<Record<string, unknown[]>> = {
    string: ['worker-1', 'Cone', 'tls'],
    address: ['10.0.0.1', '2001:db8::1'],
    port: ['51000/tcp', '443/tcp'],
    count: [0, 7],
  };
  for (const event of ['shunt', 'unshunt']) {
    const next: Record<string, number> = {};
    const args = declared(event).map((type) => {
      next[type] = (next[type] ?? -1) + 1;
      return { '@data-type': type, data: samples[type]?.[next[type]] };
    });
    expect(wishOf(args), event).toEqual({
      node: 'worker-1',
      key: 'Cone',
      proto: 'tcp',
      orig: { addr: '10.0.0.1', port: 51_000 },
      resp: { addr: '2001:db8::1', port: 443 },
      vlan: 0,
      innerVlan: 7,
    });
    expect(triggerOf(args)).toBe(event === 'shunt' ? 'tls' : '');
  }
  expect(declared('alive')).toEqual(['string']);
  const script = readFileSync(join(packageRoot(), 'clients', 'zeek', 'scripts', 'main.zeek'), 'utf8');
  for (const topic of [TOPIC.requests, TOPIC.all, `${TOPIC.reply}%s.`])
    expect(script).toContain(`"${topic}"`);
});
