import { describe, expect, it } from 'vitest';
import { attackOf, Random } from '../../bench/attack-traffic.ts';
import { usualTraffic } from '../../bench/usual-traffic.ts';
import { BATCH_ROWS, BatchWriter } from '../../src/detect/batch.ts';
import type { CarriedRule } from '../../src/detect/carried-rule.ts';
import { partitionOf } from '../../src/detect/partition.ts';
import { PartitionDetector, SECOND } from '../../src/detect/partition-detector.ts';
import { SampleColumns, SampleReader, type Told } from '../../src/mitigation/index.ts';
import { eth } from '../../src/packet/build.ts';
import { Packet } from '../../src/packet/packet.ts';

const PARTITIONS = 4;
const EVERY = 20;
const START = 1_700_000_000_000;
const STEP = 100;

type Packets = () => Uint8Array;

/** One edge, all partitions and the second stage, in time that is made up. */
class Simulation {
  now = START;
  readonly told: (Told & { name: string })[] = [];
  readonly over: string[] = [];
  readonly detectors = new Map<string, PartitionDetector>();
  /** Milliseconds that the edge's clock is ahead. */
  ahead = 0;
  readonly #writers = Array.from({ length: PARTITIONS }, () => new BatchWriter());
  readonly #sequences = Array.from({ length: PARTITIONS }, () => 0);
  readonly #columns = new SampleColumns(1);
  readonly #reader = new SampleReader();
  readonly #packet = new Packet();
  #summaries: Uint8Array[] = [];
  #due = 0;

  constructor() {
    for (const name of [...this.#writers.map((_, at) => String(at)), SECOND]) this.begin(name);
  }

  begin(name: string): void {
    const options = { minPps: 1000, factor: 4, learning: 2, vetoes: [], partitions: PARTITIONS };
    const detector = new PartitionDetector(name, options, {
      told: (told) => this.told.push({ ...told, name }),
      over: (rule) => this.over.push(rule),
      summary: (bytes) => this.#summaries.push(bytes),
    });
    this.detectors.set(name, detector);
  }

  partitionOf(frame: Uint8Array): number {
    return this.#read(frame) ? partitionOf(this.#columns, 0, PARTITIONS) : -1;
  }

  #read(frame: Uint8Array): boolean {
    const packet = this.#packet;
    packet.u8 = frame;
    packet.caplen = frame.length;
    packet.wirelen = frame.length;
    packet.ts = (this.now + this.ahead) / 1000;
    return this.#reader.read(packet, EVERY, this.#columns, 0);
  }

  #send(partition: number): void {
    const bytes = this.#writers[partition].take({
      streamHigh: 0,
      streamLow: 0,
      sequence: ++this.#sequences[partition],
      lost: 0,
      clock: this.now + this.ahead,
    });
    this.detectors.get(String(partition))?.batch(bytes, this.now + 5);
  }

  /** Packets a second of each, for so long. */
  run(seconds: number, ...traffic: readonly (readonly [pps: number, packets: Packets])[]): void {
    for (const end = this.now + seconds * 1000; this.now < end; this.now += STEP) {
      for (const [pps, packets] of traffic)
        for (this.#due += (pps * STEP) / 1000 / EVERY; this.#due >= 1; this.#due--) {
          if (!this.#read(packets())) continue;
          const partition = partitionOf(this.#columns, 0, PARTITIONS);
          this.#writers[partition].add(this.#columns, 0, EVERY);
          if (this.#writers[partition].rows === BATCH_ROWS) this.#send(partition);
        }
      for (const [partition, writer] of this.#writers.entries()) if (writer.rows > 0) this.#send(partition);
      this.#tick();
    }
  }

  /** Nothing comes from any edge. */
  silent(seconds: number): void {
    for (const end = this.now + seconds * 1000; this.now < end; this.now += STEP) this.#tick();
  }

  #tick(): void {
    for (const detector of this.detectors.values()) detector.tick(this.now + 50);
    for (const bytes of this.#summaries.splice(0)) this.detectors.get(SECOND)?.batch(bytes, this.now + 60);
  }

  attacks(): string[] {
    return [
      ...new Set(
        this.told.filter(({ attack }) => attack).map(({ name, kind, target }) => `${name} ${kind} ${target}`),
      ),
    ];
  }
}

/** Usual traffic whose servers are spread over a /16. */
function usual(): Packets {
  const { packet } = usualTraffic(11, '198.51.100');
  let at = 0;
  return () => {
    const frame = packet(0);
    if (frame[30] === 198 && frame[31] === 51) frame[32] = at++ % 64;
    return frame;
  };
}

/** A flood of datagrams that is spread over 64 prefixes of a /16. */
function carpet(): Packets {
  const { packet } = attackOf('udp-flood', 3, '198.51.100.1');
  let at = 0;
  return () => {
    const frame = packet(0);
    frame[32] = at++ % 64;
    frame[33] = (at * 7) % 256;
    return frame;
  };
}

describe('what is spread over many prefixes', () => {
  it('is found by the second stage alone, and its rule is for no more than that', () => {
    const simulation = new Simulation();
    const before = usual();
    simulation.run(6, [4000, before]);
    expect(simulation.attacks()).toEqual([]);
    simulation.run(4, [4000, before], [12_000, carpet()]);
    expect(simulation.attacks()).toEqual([`${SECOND} udp-flood 198.51.0.0/16`]);
    const [rule] = simulation.told.findLast(({ rules }) => rules.length > 0)?.rules ?? [];
    expect(rule.expr).toContain('dst net 198.51.0.0/18');
    expect(rule.covers).toBeGreaterThan(0.9);
  });

  it('is found in IPv6 too, where it is wider than the /48 of a partition', () => {
    const simulation = new Simulation();
    const before = usual();
    const random = new Random(2);
    const hex = (): string => random.int(0, 0xffff).toString(16);
    const spread = (): Uint8Array =>
      eth()
        .ipv6({
          src: `2a00:${hex()}::1`,
          dst: `2001:db8:${random.int(0, 255).toString(16)}:${hex()}::${hex()}`,
        })
        .udp({ sport: random.int(1024, 65_535), dport: random.int(1, 65_535) })
        .payload(64)
        .bytes();
    simulation.run(6, [4000, before]);
    simulation.run(4, [4000, before], [12_000, spread]);
    expect(simulation.attacks()).toEqual([`${SECOND} udp-flood 2001:db8::/32`]);
    const [rule] = simulation.told.findLast(({ rules }) => rules.length > 0)?.rules ?? [];
    expect(rule.expr).toContain('dst net 2001:db8::/40');
    expect(rule.covers).toBeGreaterThan(0.9);
  });

  it('is none when it is for one target: whose partition it is finds it', () => {
    const simulation = new Simulation();
    const before = usual();
    const { packet } = attackOf('udp-flood', 3, '198.51.7.1');
    simulation.run(6, [4000, before]);
    simulation.run(3, [4000, before], [12_000, () => packet(0)]);
    const partition = simulation.partitionOf(packet(0));
    expect(simulation.attacks()).toEqual([`${partition} udp-flood 198.51.7.1`]);
  });
});

/** A flood of answers to one target. */
function answers(): Packets {
  const { packet } = attackOf('ntp-amplification', 5, '198.51.7.1');
  return () => packet(0);
}

describe('a partition', () => {
  it('whose edges fall silent concludes nothing from it', () => {
    const simulation = new Simulation();
    const [before, flood] = [usual(), answers()];
    simulation.ahead = 7_200_000;
    simulation.run(6, [4000, before]);
    simulation.run(3, [4000, before], [12_000, flood]);
    expect(simulation.attacks()).toHaveLength(1);
    const ended = () => simulation.told.filter(({ change }) => change === 'ended').length;
    simulation.silent(40);
    simulation.run(2, [4000, before], [12_000, flood]);
    expect(ended()).toBe(0);
    // Traffic without the attack says that it is over; so does it that nobody is there for long.
    simulation.run(14, [4000, before]);
    expect(ended()).toBe(1);
    simulation.run(3, [4000, before], [12_000, flood]);
    simulation.silent(55);
    expect(ended()).toBe(1);
    simulation.silent(20);
    expect(ended()).toBe(2);
  });

  it('goes on with a rule of who had it before for as long as what it matches comes', () => {
    const simulation = new Simulation();
    const [before, flood] = [usual(), answers()];
    const name = String(simulation.partitionOf(flood()));
    const rule: CarriedRule = { id: 'auto-x-1', expr: 'udp src port 123', lang: 'tcpdump' };
    simulation.detectors.get(name)?.carry([rule, { ...rule, id: 'auto-y-1', expr: 'no such thing' }]);
    expect(simulation.over).toEqual(['auto-y-1']);
    simulation.run(12, [4000, before], [3000, flood]);
    expect(simulation.over).toEqual(['auto-y-1']);
    simulation.run(13, [4000, before]);
    expect(simulation.over).toEqual(['auto-y-1', 'auto-x-1']);
  });

  it('that another one takes over in the middle knows what was usual there', () => {
    const simulation = new Simulation();
    const [before, flood] = [usual(), answers()];
    const name = String(simulation.partitionOf(flood()));
    simulation.run(6, [4000, before]);
    const known = simulation.detectors.get(name)?.learned(simulation.now);
    expect(known?.length).toBeGreaterThan(100);
    // Who begins to learn would take an attack that is less than five times the least for usual.
    for (const inherited of [undefined, 'no baseline', known]) {
      simulation.begin(name);
      if (inherited !== undefined) simulation.detectors.get(name)?.inherit(inherited, simulation.now);
      simulation.run(1.5, [4000, before], [4000, flood]);
      const found = simulation.attacks();
      expect(found).toEqual(inherited === known ? [`${name} ntp-amplification 198.51.7.1`] : []);
    }
  });

  it('counts what it makes nothing of', () => {
    const simulation = new Simulation();
    simulation.detectors.get('0')?.batch(Uint8Array.of(1, 2, 3), START);
    expect(simulation.detectors.get('0')?.status()).toMatchObject({ batches: 1, malformed: 1, samples: 0 });
  });
});
