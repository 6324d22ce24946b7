import { expect } from 'vitest';
import { findPlace } from '../../src/gate/control-places.ts';
import { ZeekBridge, zeekUrl } from '../../src/gate/zeek-bridge.ts';
import { eth } from '../../src/packet/build.ts';
import { eventually, UpGate } from '../gate/daemon-support.ts';
import { declared, ZeekServer } from '../gate/zeek-server.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, until } from '../support/kernel.ts';

ownNetns();

/** However slow the machine. */
const SECONDS = 60;

const FEATURES = ['xdpFrags', 'syscallProgram', 'xdpLink', 'xdpNativeVeth'] as const;
const A = { addr: '2001:db8::1', port: 51_000 };
const B = { addr: '2001:db8::2', port: 443 };

const tcp = (forth: boolean, flags = 'A', payload = 0) =>
  eth()
    .ipv6(forth ? { src: A.addr, dst: B.addr } : { src: B.addr, dst: A.addr })
    .tcp({
      sport: forth ? A.port : B.port,
      dport: forth ? B.port : A.port,
      seq: 1000,
      ack: 1000,
      flags,
      window: 100,
    })
    .payload(payload);

const request = (key: string, proto = 'tcp', port = A.port): [string, unknown][] => [
  ['string', 'worker-1'],
  ['string', key],
  ['address', '2001:DB8:0::1'],
  ['port', `${port}/${proto}`],
  ['address', B.addr],
  ['port', `${B.port}/${proto}`],
  // Without VLANs in the key of the gate they do not matter.
  ['count', 7],
  ['count', 0],
  ['string', 'tls'],
];

/** What has been told to the node, without the rest. */
const told = (zeek: ZeekServer, name: string): unknown[][] =>
  zeek.events.filter((event) => event[1] === name).map(([topic, , ...args]) => [topic, ...args]);

/** A node that lives says so, or its shunts lapse. */
function living(zeek: ZeekServer): Disposable {
  const alive = (): void => zeek.event('Sluice::alive', ['string', 'worker-1']);
  alive();
  const timer = setInterval(alive, 1000);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

kernelTest('a script shunts over the WebSocket, and is told what was counted', [...FEATURES], async () => {
  await using zeek = await ZeekServer.listen();
  await using gate = await UpGate.up('--zeek', zeek.url);
  await until(() => told(zeek, 'Sluice::bridge_up').length === 1, 'the gate has not come', SECONDS);
  expect(zeek.subscriptions).toEqual([['sluice.request']]);
  expect([zeek.path, zeek.headers['x-application-name']]).toEqual(['/v1/messages/json', 'sluice']);
  using _alive = living(zeek);
  zeek.event('Sluice::shunt', ...request('Cone'));
  await until(() => told(zeek, 'Sluice::shunted').length === 1, 'not shunted', SECONDS);
  expect(told(zeek, 'Sluice::shunted')).toEqual([['sluice.reply.worker-1.', 'Cone']]);
  const [row] = await gate.rows();
  expect(row).toMatchObject({ proto: 'tcp', a: A, b: B, owner: 'zeek-worker-1', trigger: 'tls Cone' });
  gate.send(tcp(true, 'A', 100), 3);
  gate.send(tcp(false), 2);
  gate.send(tcp(false, 'FA'));
  await until(() => told(zeek, 'Sluice::unshunted').length === 1, 'its end was not told', SECONDS);
  const [[topic, key, reason, start, last, ...counts]] = told(zeek, 'Sluice::unshunted');
  expect([topic, key, reason]).toEqual(['sluice.reply.worker-1.', 'Cone', 'fin']);
  expect(counts).toEqual([3, 3 * 160, 2, 2 * 60]);
  expect(Date.parse(`${String(last)}Z`)).toBeGreaterThanOrEqual(Date.parse(`${String(start)}Z`) - 1000);
  for (const [name, types] of zeek.types) expect(types, name).toEqual(declared(name.replace('Sluice::', '')));
  const { zeek: status } = await gate.status();
  expect(status).toMatchObject({ connected: true, nodes: ['worker-1'], shunted: 1, ended: 1, lost: 0 });
});

kernelTest(
  'what is asked in the wrong way is refused, or passed over, and harms nothing',
  [...FEATURES],
  async () => {
    await using zeek = await ZeekServer.listen();
    await using gate = await UpGate.up('--zeek', zeek.url);
    await until(() => told(zeek, 'Sluice::bridge_up').length === 1, 'the gate has not come', SECONDS);
    using _alive = living(zeek);
    zeek.raw('no JSON');
    zeek.raw('[]');
    zeek.raw(
      JSON.stringify({
        type: 'data-message',
        topic: 'sluice.request',
        '@data-type': 'vector',
        data: [1, 2, 3],
      }),
    );
    zeek.event('Sluice::shunt');
    zeek.event('Sluice::shunt', ['string', '../..'], ...request('Cbad').slice(1));
    zeek.event('Other::shunt', ...request('Cother'));
    zeek.raw(`"${'x'.repeat(1 << 20)}"`);
    zeek.event('Sluice::shunt', ...request('Cone', 'udp'));
    zeek.event('Sluice::shunt', ...request('Ctwo', 'udp'));
    zeek.event('Sluice::shunt', ...request('Cone', 'udp'));
    zeek.event('Sluice::unshunt', ...request('Cnone', 'tcp', 9));
    await until(() => told(zeek, 'Sluice::refused').length === 2, 'not refused', SECONDS);
    expect(told(zeek, 'Sluice::shunted').map(([, key]) => key)).toEqual(['Cone', 'Cone']);
    expect(told(zeek, 'Sluice::refused').map(([, key, code]) => [key, code])).toEqual([
      ['Ctwo', 'EXISTS'],
      ['Cnone', 'NOT_FOUND'],
    ]);
    zeek.event('Sluice::unshunt', ...request('Cone', 'udp'));
    await until(() => told(zeek, 'Sluice::unshunted').length === 1, 'its end was not told', SECONDS);
    expect(told(zeek, 'Sluice::unshunted')[0].slice(1, 3)).toEqual(['Cone', 'asked']);
    await eventually(async () => ((await gate.rows()).length === 0 ? true : undefined), 'left');
  },
);

kernelTest('many at once, in order and with none forgotten', [...FEATURES], async () => {
  await using zeek = await ZeekServer.listen();
  await using gate = await UpGate.up('--zeek', zeek.url);
  await until(() => told(zeek, 'Sluice::bridge_up').length === 1, 'the gate has not come', SECONDS);
  using _alive = living(zeek);
  const keys = Array.from({ length: 3000 }, (_, i) => `C${i}`);
  for (const [i, key] of keys.entries()) zeek.event('Sluice::shunt', ...request(key, 'udp', 1 + i));
  const answered = (): unknown[][] => [...told(zeek, 'Sluice::shunted'), ...told(zeek, 'Sluice::refused')];
  await until(() => zeek.messages.length > keys.length, 'not all were answered', SECONDS);
  expect(answered().map(([, key]) => key)).toEqual(keys);
  expect(told(zeek, 'Sluice::refused')).toEqual([]);
  expect((await gate.status()).tables.flows6.entries).toBe(keys.length);
});

kernelTest('what is shunted when the gate goes is told with its counts', [...FEATURES], async () => {
  await using zeek = await ZeekServer.listen();
  await using gate = await UpGate.up('--zeek', zeek.url);
  await until(() => told(zeek, 'Sluice::bridge_up').length === 1, 'the gate has not come', SECONDS);
  using _alive = living(zeek);
  const keys = Array.from({ length: 1000 }, (_, i) => `C${i}`);
  for (const [i, key] of keys.entries())
    zeek.event('Sluice::shunt', ...request(key, 'tcp', i === 0 ? A.port : i));
  await until(() => told(zeek, 'Sluice::shunted').length === keys.length, 'not shunted', SECONDS);
  gate.send(tcp(true, 'A', 100), 5);
  gate.send(tcp(false), 2);
  await eventually(
    async () => ((await gate.status()).shunted.pkts === 7 ? true : undefined),
    'they were not shunted',
    SECONDS,
  );
  expect((await sluice('gate', 'down', '-i', gate.ifname)).code).toBe(0);
  await until(() => told(zeek, 'Sluice::unshunted').length === keys.length, 'not all were told', SECONDS);
  const ends = told(zeek, 'Sluice::unshunted');
  expect(new Set(ends.map(([, , reason]) => reason))).toEqual(new Set(['down']));
  const mine = ends.find(([, key]) => key === 'C0');
  expect(mine?.slice(5)).toEqual([5, 5 * 160, 2, 2 * 60]);
  const end = gate.audit().find(({ op, pkts }) => op === 'end' && pkts === 7);
  expect(end).toMatchObject({ owner: 'zeek-worker-1', reason: 'down', trigger: 'tls C0' });
});

kernelTest('a Zeek that goes and comes again is found again', [...FEATURES], async () => {
  const zeek = await ZeekServer.listen();
  const { port } = zeek;
  await using gate = await UpGate.up();
  const warnings: string[] = [];
  const place = findPlace(gate.ifname);
  const bridge = await ZeekBridge.start({
    url: zeekUrl(zeek.url),
    place,
    vlanKey: false,
    warn: (text) => warnings.push(text),
  });
  try {
    await until(() => bridge.status().connected, 'not connected', SECONDS);
    zeek.event('Sluice::shunt', ...request('Cone', 'udp'));
    await until(() => told(zeek, 'Sluice::shunted').length === 1, 'not shunted', SECONDS);
    await zeek.close();
    await until(() => !bridge.status().connected, 'still connected', SECONDS);
    await using again = await ZeekServer.listen(port);
    // Its end is kept for Zeek while that is not there.
    await gate.shunt('rm', '--flow', `udp [${A.addr}]:${A.port} [${B.addr}]:${B.port}`);
    await until(() => told(again, 'Sluice::unshunted').length === 1, 'not found again', SECONDS);
    const [first] = told(zeek, 'Sluice::bridge_up');
    expect(told(again, 'Sluice::bridge_up')).toEqual([first]);
    expect(warnings.map((text) => /is not there|is there again/.exec(text)?.[0])).toEqual([
      'is not there',
      'is there again',
    ]);
    await eventually(
      async () => ((await gate.status()).tables.flows6.entries === 0 ? true : undefined),
      'left',
    );
  } finally {
    await bridge.close();
  }
});
