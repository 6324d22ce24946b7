import { expect, test } from 'vitest';
import { type ConnLines, connLines } from '../../src/log/conn-lines.ts';
import {
  type ConnExtras,
  type ConnLogOptions,
  type ConnLogRecord,
  connSchema,
} from '../../src/log/conn-log.ts';
import { jsonWriter, lineOf } from '../../src/log/json-format.ts';
import { idsOf, type LogSettings } from '../../src/log/log-setup.ts';
import { LogWriter } from '../../src/log/log-writer.ts';
import { eth } from '../../src/packet/build.ts';
import { CommunityIds } from '../../src/packet/community-id.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { Harness } from '../flow/support/harness.ts';

const SETTINGS: LogSettings = {
  logFormat: 'json',
  jsonTimestamps: 'epoch',
  vlan: false,
  vlanKey: false,
  vni: false,
  tunnelKey: false,
  gwlb: false,
  communityId: true,
  communityIdSeed: 7,
};

const SHUNTED = { origPkts: 4, origIpBytes: 3e9, respPkts: 0, respIpBytes: 0, trigger: 'tls "é" \\ 1' };
const EXTRAS: readonly ConnExtras[] = [
  {},
  { shunted: SHUNTED },
  { shunted: SHUNTED, recovered: true },
  // Longer than the engine has room for.
  { shunted: { ...SHUNTED, trigger: 'é'.repeat(900) } },
];

const text = (of: string) => Buffer.from(of);

/** Connections with a service and without, over IPv4 and IPv6; and what the engine leaves to the schema. */
function feed(harness: Harness): void {
  const talks = [
    { client: { address: '10.0.0.1', port: 1 }, server: { address: '192.0.2.9', port: 80 } },
    { client: { address: '2001:db8::1', port: 2 }, server: { address: '2001:db8::9', port: 80 } },
    { client: { address: '10.0.0.9', port: 3 }, server: { address: '10.0.0.1', port: 9999 } },
  ].flatMap((ends) =>
    conversation({
      ...ends,
      turns: [
        { from: 'client', data: text('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n') },
        { from: 'server', data: text('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok') },
      ],
    }),
  );
  for (const { bytes, ts } of talks) harness.feed(bytes, ts);
  const ends = { src: '10.0.0.4', dst: '10.0.0.5' };
  harness.feed(eth().ipv4(ends).udp({ sport: 40_000, dport: 4000 }).payload(text('?')), 5);
  harness.feed(eth().ipv4(ends).icmp({ type: 8, code: 0 }).payload(text('ping')), 6);
}

function linesOf(
  settings: LogSettings,
  given: ConnExtras,
  options: ConnLogOptions = { shunts: true },
): { own: string[]; expected: string[] } {
  let written = '';
  const writer = new LogWriter({
    lost: 0,
    append: (_log, lines) => (written += Buffer.from(lines).toString()),
  });
  const line = connLines(writer, settings, options) as ConnLines;
  const idOf = idsOf(settings);
  const ids = new CommunityIds(settings.communityIdSeed);
  const { communityId } = settings;
  const write = jsonWriter(connSchema({ ...options, communityId }));
  const expected: string[] = [];
  const harness = new Harness(
    {},
    {
      closed: (slot) => {
        const { engine } = harness;
        const record: ConnLogRecord = { ...engine.record(slot), ...given };
        if (communityId) record.communityId = ids.of(record);
        if (line(engine, slot, { ...given, communityId: idOf(engine, slot) }))
          expected.push(lineOf(write, record));
      },
    },
  );
  feed(harness);
  harness.finish();
  writer.flush();
  return { own: written.split('\n').slice(0, -1), expected };
}

test.each([true, false])(
  'lines that the engine makes are those of the schema; community ids: %s',
  (communityId) => {
    for (const given of EXTRAS) {
      const { own, expected } = linesOf({ ...SETTINGS, communityId }, given);
      expect(own).toEqual(expected);
      // All but ICMP; none that is too long.
      expect(own).toHaveLength((given.shunted?.trigger.length ?? 0) > 500 ? 0 : 4);
    }
  },
);

test.each<[string, ConnLogOptions]>([
  ['no shunts, as of capture files', {}],
  ['packets are those of the whole connection', { shunts: true, shuntFields: 'within' }],
])('lines that the engine makes are those of the schema: %s', (_name, options) => {
  const { own, expected } = linesOf(SETTINGS, { shunted: SHUNTED }, options);
  expect(own).toEqual(expected);
  expect(own).toHaveLength(4);
});

test.each<[string, Partial<LogSettings>]>([
  ['another format', { logFormat: 'zeek' }],
  ['other times', { jsonTimestamps: 'iso' }],
  ['VLANs', { vlan: true }],
  ['VLANs in the key', { vlanKey: true }],
  ['network identifiers', { vni: true }],
  ['tunnels in the key', { tunnelKey: true }],
  ['the load balancer', { gwlb: true }],
])('none for columns that the engine does not make: %s', (_name, settings) => {
  const writer = new LogWriter({ lost: 0, append: () => {} });
  expect(connLines(writer, { ...SETTINGS, ...settings })).toBeUndefined();
});

test('none where packets are those that the sensor saw', () => {
  const writer = new LogWriter({ lost: 0, append: () => {} });
  expect(connLines(writer, SETTINGS, { shunts: true, shuntFields: 'added' })).toBeUndefined();
});
