import { describe, expect, it } from 'vitest';
import { adder, type CounterReading, GAUGE, LossLedger, OURS } from '../../src/gate/losses/index.ts';
import { growth } from '../../src/gate/losses/ledger.ts';
import { nicCounters } from '../../src/gate/losses/nic-counters.ts';
import { hasBacklog } from '../../src/gate/losses/path.ts';
import { snmp, snmp6, softnet } from '../../src/kernel/index.ts';

const NO_LINK = { rxMissed: 0, rxDropped: 0, rxErrors: 0 };

/** Sums by where in the card, as the ledger has them. */
function lossesOf(driver: string, counters: Record<string, number>, link = NO_LINK): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { loss, value } of nicCounters(driver, counters, link))
    if (loss !== undefined) sums[loss] = (sums[loss] ?? 0) + value;
  return sums;
}

describe("a card's counters", () => {
  it('i40e: zept’s imissed and ierrors', () => {
    const counters = {
      rx_packets: 1000,
      rx_dropped: 1,
      rx_missed_errors: 2,
      rx_alloc_fail: 4,
      rx_pg_alloc_fail: 8,
      'port.rx_dropped': 2,
      'port.rx_crc_errors': 16,
      'port.illegal_bytes': 32,
      'port.rx_length_errors': 64,
      'port.rx_oversize': 128,
      'port.rx_undersize': 256,
    };
    // rx_missed_errors says the same as port.rx_dropped.
    expect(lossesOf('i40e', counters)).toEqual({ missed: 2, noBuffer: 13, errors: 496 });
  });

  it('ice names what the port counts with .nic', () => {
    const counters = { rx_dropped: 1, 'rx_dropped.nic': 2, 'rx_crc_errors.nic': 4, 'rx_jabber.nic': 8 };
    expect(lossesOf('ice', counters)).toEqual({ missed: 2, noBuffer: 1, errors: 12 });
  });

  it('ixgbe', () => {
    const counters = {
      rx_missed_errors: 1,
      rx_no_dma_resources: 2,
      alloc_rx_page_failed: 4,
      rx_crc_errors: 8,
      rx_csum_offload_errors: 99,
    };
    expect(lossesOf('ixgbe', counters)).toEqual({ missed: 1, noBuffer: 6, errors: 8 });
    expect(nicCounters('ixgbe', counters, NO_LINK)).toContainEqual({
      name: 'rx_csum_offload_errors',
      value: 99,
      loss: undefined,
    });
  });

  it('mlx5: rx_dropped where there is no rx_out_of_buffer', () => {
    const counters = {
      rx_out_of_buffer: 1,
      rx_dropped: 1,
      outbound_pci_buffer_overflow: 2,
      rx_discards_phy: 4,
      rx_buff_alloc_err: 8,
      rx_crc_errors_phy: 16,
      rx_symbol_err_phy: 32,
      rx_steer_missed_packets: 64,
    };
    expect(lossesOf('mlx5_core', counters)).toEqual({
      missed: 6,
      noBuffer: 9,
      errors: 48,
      discarded: 64,
    });
    expect(lossesOf('mlx5_core', { rx_dropped: 5 })).toEqual({ noBuffer: 5 });
  });

  it('virtio and veth: all queues', () => {
    expect(
      lossesOf('virtio_net', {
        rx0_drops: 1,
        rx1_drops: 2,
        rx_queue_2_drops: 4,
        rx0_hw_drops: 8,
        rx0_hw_drop_overruns: 8,
        rx0_xdp_drops: 99,
        tx0_drops: 99,
      }),
    ).toEqual({ missed: 8, discarded: 7 });
    expect(lossesOf('veth', { rx_queue_0_drops: 1, rx_queue_1_drops: 2, rx_queue_0_xdp_drops: 99 })).toEqual({
      discarded: 3,
    });
  });

  it('ena: an exceeded allowance is a warning, as it may be a delay', () => {
    const counters = { bw_in_allowance_exceeded: 5, rx_overruns: 1, queue_0_rx_bad_desc_num: 2 };
    expect(lossesOf('ena', counters, { ...NO_LINK, rxDropped: 4 })).toEqual({
      missed: 1,
      errors: 2,
      discarded: 4,
    });
    expect(nicCounters('ena', counters, NO_LINK)).toContainEqual({
      name: 'bw_in_allowance_exceeded',
      value: 5,
      loss: undefined,
    });
  });

  it('others have what the kernel keeps of all; rx_dropped may be the backlog’s, and warns', () => {
    const link = { rxMissed: 1, rxDropped: 2, rxErrors: 4 };
    expect(lossesOf('igb', {}, link)).toEqual({ missed: 1, errors: 4 });
    expect(nicCounters('igb', {}, link)).toContainEqual({ name: 'rx_dropped', value: 2, loss: undefined });
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
