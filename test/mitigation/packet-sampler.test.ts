import { describe, expect, it } from 'vitest';
import { usualTraffic } from '../../bench/usual-traffic.ts';
import { expressionOf } from '../../src/mitigation/expression.ts';
import { SampleColumns, SampleReader } from '../../src/mitigation/index.ts';
import { KINDS } from '../../src/mitigation/kinds.ts';
import { PacketSampler } from '../../src/mitigation/packet-sampler.ts';
import { matchedRows } from '../../src/mitigation/synthesis.ts';
import { eth } from '../../src/packet/build.ts';
import { LinkType } from '../../src/packet/decode.ts';
import { Packet } from '../../src/packet/packet.ts';

const packetOf = (frame: Uint8Array): Packet => {
  const packet = new Packet();
  packet.u8 = frame;
  packet.caplen = frame.length;
  packet.wirelen = frame.length;
  packet.ts = 1_700_000_000;
  return packet;
};
const weights = (columns: SampleColumns | undefined): number =>
  columns === undefined ? 0 : columns.weight.subarray(0, columns.count).reduce((sum, each) => sum + each, 0);

describe('a sampler of packets', () => {
  const [frame] = [usualTraffic(1, '198.51.100').packet(0)];
  const packet = packetOf(frame);

  it('takes all of few', () => {
    const sampler = new PacketSampler(100, 1024, 1);
    for (let turn = 0; turn < 5; turn++) {
      for (let i = 0; i < 60; i++) sampler.look(packet);
      sampler.turn();
    }
    expect(sampler.every).toBe(1);
    expect(sampler.take()?.count).toBe(300);
    expect(sampler.take()).toBeUndefined();
  });

  it('keeps to its budget, and says how many packets a sample stands for', () => {
    const sampler = new PacketSampler(100, 1024, 1);
    for (let i = 0; i < 5000; i++) sampler.look(packet);
    // All that one turn may have: what comes of a sudden is not known before.
    expect(sampler.take()?.count).toBe(200);
    expect(sampler.lost).toBe(4800);
    let sum = 0;
    for (let turn = 0; turn < 40; turn++) {
      sampler.turn();
      for (let i = 0; i < 5000; i++) sampler.look(packet);
      sum += weights(sampler.take());
    }
    expect(sampler.every).toBe(50);
    expect(sampler.lost).toBe(4800);
    expect(sum / (40 * 5000)).toBeCloseTo(1, 1);
  });

  it('comes back to one of one', () => {
    const sampler = new PacketSampler(100, 1024, 1);
    for (let i = 0; i < 5000; i++) sampler.look(packet);
    for (let turn = 0; turn < 60; turn++) sampler.turn();
    expect(sampler.every).toBe(1);
  });

  it('says when a batch is full, and takes no more then', () => {
    const sampler = new PacketSampler(1000, 16, 1);
    const full = Array.from({ length: 20 }, () => sampler.look(packet));
    expect(full).toEqual([...Array(15).fill(false), ...Array(5).fill(true)]);
    expect(sampler.take()?.count).toBe(16);
  });
});

describe('a packet without a link header, or a tag, of its own', () => {
  const ip = eth()
    .ipv4({ src: '192.0.2.1', dst: '198.51.100.7', ttl: 57 })
    .udp({ sport: 123, dport: 4001 })
    .payload(200);
  const kind = KINDS.findIndex(({ name }) => name === 'ntp-amplification');
  const read = (change: (packet: Packet) => void): { columns: SampleColumns; tags: number } => {
    const packet = packetOf(ip.bytes());
    change(packet);
    const columns = new SampleColumns(1);
    expect(new SampleReader().read(packet, 1, columns, 0)).toBe(true);
    columns.count = 1;
    return { columns, tags: columns.tags[0] };
  };
  const matches = ({ columns, tags }: { columns: SampleColumns; tags: number }): boolean[] =>
    matchedRows(
      expressionOf({ kind, family: 4, target: undefined, terms: [], vetoes: [], tags }),
      'tcpdump',
      { columns, rows: [0] },
    );

  it.each([
    ['as it is', 0, () => {}],
    [
      'whose tag was taken out',
      1,
      (packet: Packet) => {
        packet.vlanTci = 0x6007;
      },
    ],
    [
      'of a raw link',
      0,
      (packet: Packet) => {
        packet.linkType = LinkType.raw;
        packet.offset = 14;
        packet.caplen -= 14;
        packet.wirelen -= 14;
      },
    ],
  ])('%s is read as a frame', (_, tags, change) => {
    const plain = read(() => {});
    const row = read(change);
    expect(row.tags).toBe(tags);
    expect([row.columns.length[0] - 4 * tags, row.columns.sport[0], row.columns.dport[0]]).toEqual([
      plain.columns.length[0],
      123,
      4001,
    ]);
    expect(row.columns.captured[0]).toBe(128);
    expect(row.columns.number(0, row.columns.payloadAt[0], 4)).toBe(
      plain.columns.number(0, plain.columns.payloadAt[0], 4),
    );
    expect(matches(row)).toEqual([true]);
  });
});
