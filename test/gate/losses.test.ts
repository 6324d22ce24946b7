import { describe, expect, it } from 'vitest';
import { adder, type CounterReading, GAUGE, LossLedger, OURS } from '../../src/gate/losses/index.ts';
import { growth } from '../../src/gate/losses/ledger.ts';
import { driverCounterList, nicCounters } from '../../src/gate/losses/nic-counters.ts';
import { hasBacklog } from '../../src/gate/losses/path.ts';
import { snmp, snmp6, softnet } from '../../src/kernel/index.ts';

import { CARD_LISTINGS, countersOf } from './fixtures/card-counters.ts';

/** Drivers with one list. */
const SAME = [['i40e', 'ice']];
const NO_LINK = { rxMissed: 0, rxDropped: 0, rxErrors: 0 };

/** Sums by where in the card, as the ledger has them. */
function lossesOf(driver: string, counters: Record<string, number>, link = NO_LINK): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { loss, value } of nicCounters(driver, counters, link))
    if (loss !== undefined) sums[loss] = (sums[loss] ?? 0) + value;
  return sums;
}

describe("a card's counters", () => {
  it.each(CARD_LISTINGS.map((one) => [one.card, one] as const))('%s', (_, one) => {
    const counters = countersOf(one);
    expect(lossesOf(one.driver, counters)).toEqual(one.losses);
    const warned = nicCounters(one.driver, counters, NO_LINK).filter(({ loss }) => loss === undefined);
    expect(Object.fromEntries(warned.map(({ name, value }) => [name, value]))).toEqual(one.warnings);
  });

  it.each(driverCounterList().flatMap(({ driver, names }) => names.map((name) => [driver, name] as const)))(
    '%s: some card says %s',
    (driver, name) => {
      const pattern = new RegExp(
        `^${name
          .replaceAll('.', '\\.')
          .replace(/\{(.*)\}/, '(?:$1)')
          .replaceAll('*', '(?:_?queue_)?\\d+')}$`,
      );
      const kin = SAME.find((each) => each.includes(driver)) ?? [driver];
      const said = CARD_LISTINGS.filter((one) => kin.includes(one.driver)).flatMap((one) =>
        Object.keys(countersOf(one)),
      );
      // Of ena from the counters of all interfaces, below.
      if (`${driver} ${name}` === 'ena rx_dropped') return;
      expect(said.some((each) => pattern.test(each))).toBe(true);
    },
  );

  it('virtio: counters that are read a moment apart', () => {
    expect(lossesOf('virtio_net', { rx0_drops: 10, rx0_xdp_drops: 11 })).toEqual({ discarded: 0 });
  });

  it('veth: what AF_XDP sockets had no room for they tell themselves', () => {
    expect(nicCounters('veth', { rx_queue_0_drops: 3 }, NO_LINK, true)).toEqual([
      { name: 'rx_queue_*_drops', value: 3, loss: undefined },
    ]);
  });

  it('ena: what the kernel counts of all interfaces is from the card', () => {
    expect(lossesOf('ena', {}, { ...NO_LINK, rxDropped: 4 })).toEqual({ discarded: 4 });
  });

  it('others have what the kernel keeps of all; rx_dropped may be the backlog’s, and warns', () => {
    const link = { rxMissed: 1, rxDropped: 2, rxErrors: 4 };
    expect(lossesOf('bnxt_en', {}, link)).toEqual({ missed: 1, errors: 4 });
    expect(nicCounters('bnxt_en', {}, link)).toContainEqual({
      name: 'rx_dropped',
      value: 2,
      loss: undefined,
    });
    // Names of the engine's own objects are no drivers.
    expect(lossesOf('constructor', {}, link)).toEqual({ missed: 1, errors: 4 });
  });
});

describe('text of the kernel', () => {
  const UDP = 'Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors MemErrors\nUdp: 10 2 3 9 1 4\n';
  it('snmp and snmp6', () => {
    expect(snmp(`Ip: Forwarding\nIp: 1\n${UDP}UdpLite: InErrors\nUdpLite: 7\n`, 'Udp')).toEqual({
      InDatagrams: 10,
      NoPorts: 2,
      InErrors: 3,
      OutDatagrams: 9,
      RcvbufErrors: 1,
      MemErrors: 4,
    });
    expect(snmp6('Udp6RcvbufErrors\t5\nUdpLite6InErrors 9\nIp6InReceives 1\n', 'Udp6')).toEqual({
      RcvbufErrors: 5,
    });
  });

  it('whatever it is, there is an answer', () => {
    for (const text of ['', '\n\n', 'Udp:', 'Udp: a\nUdp:', '\u0000 zz', 'Udp6'])
      for (const read of [snmp, snmp6])
        for (const value of Object.values(read(text, 'Udp'))) expect(value).toBe(0);
    expect(softnet('zz')).toMatchObject([{ processed: 0, dropped: 0, squeezed: 0 }]);
  });
});

const none = (): undefined => undefined;
const queues = (): string[] => ['rx-0'];
const rps =
  (mask: string, index = '2\n') =>
  (path: string): string =>
    path.endsWith('ifindex') ? index : mask;

describe('a backlog is in the way', () => {
  const veth = { name: 'v0', index: 3, kind: 'veth', loopback: false };
  const card = { name: 'eth1', index: 2, kind: '', loopback: false };
  it('of a veth without native XDP, of the loopback, of a card with RPS only', () => {
    expect(hasBacklog(veth, 'none', none)).toBe(true);
    expect(hasBacklog(veth, 'generic', none)).toBe(true);
    expect(hasBacklog(veth, 'native', none)).toBe(false);
    expect(hasBacklog({ ...card, loopback: true }, 'none', none)).toBe(true);
    expect(hasBacklog(card, 'native', rps('00000000,00000002\n'), queues)).toBe(true);
    expect(hasBacklog(card, 'native', rps('0\n'), queues)).toBe(false);
    // Sysfs of another namespace tells of another card.
    expect(hasBacklog(card, 'native', rps('3\n', '7\n'), queues)).toBe(false);
  });
});

const reading = (ring: number, softnet: number, shunted: number, live = 0): CounterReading[] => {
  const out: CounterReading[] = [];
  adder(out, 'capture', 'eth1')('ringFull', 'loss', 'packets', ring, OURS);
  adder(out, 'softnet', '')('dropped', 'loss', 'packets', softnet, { bits: 32 });
  adder(out, 'softnet', '')('squeezed', 'warning', 'events', softnet * 10);
  adder(out, 'gate', 'eth1')('shunted', 'wanted', 'packets', shunted, OURS);
  adder(out, 'gate', 'eth1')('shunts.live', 'count', 'entries', live, GAUGE);
  adder(out, 'log', '')('queueFull', 'loss', 'lines', ring * 100, OURS);
  return out;
};

describe('the ledger', () => {
  it('ours count from the start, the kernel’s from the first look; wanted drops and lines are in no sum of lost packets', () => {
    const ledger = new LossLedger();
    ledger.take(100, reading(2, 1000, 50));
    expect(ledger.table()).toMatchObject({
      seconds: 0,
      lost: { packets: 2, rate: 0 },
      wanted: { packets: 50 },
    });
    ledger.take(102, reading(6, 1010, 150, 7));
    const table = ledger.table();
    expect(table).toMatchObject({
      at: 102,
      seconds: 2,
      interval: 2,
      lost: { packets: 16, rate: 7 },
      wanted: { packets: 150, rate: 50 },
    });
    expect(table.rows.map(({ stage }) => stage)).toEqual([
      'softnet',
      'softnet',
      'gate',
      'gate',
      'capture',
      'log',
    ]);
    expect(table.rows).toContainEqual({
      stage: 'softnet',
      where: '',
      counter: 'squeezed',
      kind: 'warning',
      unit: 'events',
      total: 100,
      rate: 50,
    });
    expect(table.rows.find(({ counter }) => counter === 'shunts.live')).toMatchObject({ total: 7, rate: 0 });
  });

  it('a counter that is not told of any more keeps its total', () => {
    const ledger = new LossLedger();
    ledger.take(1, reading(1, 0, 0));
    ledger.take(2, []);
    expect(ledger.table()).toMatchObject({ lost: { packets: 1, rate: 0 } });
  });

  it('counters wrap, or begin anew', () => {
    expect(growth(5, 8)).toBe(3);
    expect(growth(2 ** 32 - 2, 3, 32)).toBe(5);
    expect(growth(100, 3, 32)).toBe(3);
    expect(growth(2 ** 32 - 2, 3)).toBe(3);
  });
});
