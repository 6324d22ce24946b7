import { NativeConnLines } from '../kernel/conn-lines.ts';
import { PacketBlock } from '../packet/block.ts';
import { Decoded, LinkType } from '../packet/decode.ts';
import { Packet } from '../packet/packet.ts';
import { Accounting } from './accounting.ts';
import { Loss } from './losses.ts';
import { DNS } from './opener.ts';
import type { FlowEngineOptions } from './options.ts';
import { INTERACTIVE } from './ports.ts';
import { completeOptions } from './settings.ts';
import { ShortWays } from './short-ways.ts';
import { Sighting } from './sighting.ts';
import { MOST_FETCHED } from './table.ts';
import { geneveId, vxlanId } from './tunnels.ts';
import type { FlowEngineApi, FlowHooks } from './types.ts';

/**
 * Tracks connections as Zeek's conn.log does; see FlowEngineApi. Here packets come in, one by one or in batches, and time
 * goes on.
 */
export class FlowEngine extends Accounting implements FlowEngineApi {
  readonly #sightings: readonly Sighting[];
  /** Made with the first batch; null where there is no addon. */
  #short: ShortWays | null | undefined;
  #lines: NativeConnLines | null | undefined;
  readonly #block = new PacketBlock();
  readonly #shown: readonly Packet[] = Array.from({ length: MOST_FETCHED }, () => new Packet());
  readonly #hashes = new Int32Array(MOST_FETCHED);

  /** Errors: USAGE for options out of range. */
  constructor(options: FlowEngineOptions, hooks: FlowHooks) {
    super(completeOptions(options), hooks);
    const { checksums, vlanInKey } = this.settings;
    this.#sightings = Array.from(
      { length: MOST_FETCHED },
      () => new Sighting(this.table, checksums, vlanInKey),
    );
  }

  process(packet: Packet): number {
    const sighting = this.#sightings[0];
    this.#see(packet, sighting);
    return this.#arrive(packet, sighting);
  }

  /** Looks at a packet as it comes in. */
  #see(packet: Packet, sighting: Sighting): void {
    if (this.keyed) sighting.see(packet, vxlanId(packet), geneveId(packet));
    else sighting.see(packet, 0, 0);
  }

  processBatch(packets: readonly Packet[], count: number): void {
    const block = this.#block;
    for (let from = 0; from < count; ) {
      const begin = from;
      block.count = 0;
      while (from < count && block.add(packets[from])) from++;
      if (from > begin) {
        this.processBlock(block);
        continue;
      }
      // What cannot stand in a block.
      do {
        block.count = 0;
        from++;
      } while (from < count && !block.add(packets[from]));
      this.#longWay(packets, begin, from);
    }
  }

  processBlock(block: PacketBlock): void {
    if (this.#short === undefined) this.#short = this.#shortWays() ?? null;
    const short = this.#short;
    const { count } = block;
    if (short === null || this.gwlb.isUsed || block.places[3] !== LinkType.ethernet) {
      this.#longBlock(block);
      return;
    }
    for (let at = 0; at < count; at++) {
      at = this.#takeShort(short, block, at);
      if (at === count) return;
      block.show(at, this.#shown[0]);
      this.process(this.#shown[0]);
    }
  }

  #shortWays(): ShortWays | undefined {
    // Datagrams are more than counted.
    if (this.dnsNames !== undefined) return undefined;
    return ShortWays.over({
      table: this.table,
      wheel: this.lifetimes.wheel,
      uids: this.uids,
      settings: this.settings,
      losses: this.endpoints.losses,
      interactive: INTERACTIVE,
      dnsPorts: DNS,
      tunnelPorts: this.carriers.isPort,
      asked: this.hooks.returning !== undefined,
    });
  }

  #takeShort(short: ShortWays, block: PacketBlock, from: number): number {
    const tunnels = this.tunnels;
    // The packet before came out of a mirror's tunnel.
    tunnels.vxlan = 0;
    tunnels.geneve = 0;
    const before = this.table.active;
    const due = Math.min(this.lifetimes.wheel.next, tunnels.sweepAt);
    const to = short.take(block, from, this.now, due);
    this.now = short.now;
    this.stats.packets += to - from;
    this.stats.opened += this.table.active - before;
    return to;
  }

  #longBlock(block: PacketBlock): void {
    const shown = this.#shown;
    for (let from = 0; from < block.count; from += MOST_FETCHED) {
      const size = Math.min(MOST_FETCHED, block.count - from);
      for (let i = 0; i < size; i++) block.show(from + i, shown[i]);
      this.#longWay(shown, 0, size);
    }
  }

  /** In batches whose memory is fetched together. */
  #longWay(packets: readonly Packet[], begin: number, end: number): void {
    const sightings = this.#sightings;
    const hashes = this.#hashes;
    for (let from = begin; from < end; from += MOST_FETCHED) {
      const size = Math.min(MOST_FETCHED, end - from);
      for (let i = 0; i < size; i++) {
        const sighting = sightings[i];
        this.#see(packets[from + i], sighting);
        hashes[i] = sighting.hash;
      }
      this.table.fetch(hashes, size);
      for (let i = 0; i < size; i++) this.#arrive(packets[from + i], sightings[i]);
    }
  }

  /** Accounts a packet that was looked at; the slot of its flow, or of the innermost one inside. */
  #arrive(packet: Packet, sighting: Sighting): number {
    const ts = packet.ts;
    if (ts > this.now) {
      this.now = ts;
      if (ts >= this.lifetimes.wheel.next || ts >= this.tunnels.sweepAt) this.#runTimers();
    } else if (ts < this.now) this.#late(ts);
    this.arrived = packet;
    const tunnels = this.tunnels;
    if ((packet.tunnel | tunnels.vxlan | tunnels.geneve) !== 0) tunnels.arrive(packet);
    if (sighting.verdict === Decoded.ok) {
      this.stats.packets++;
      return this.account(packet, sighting);
    }
    const { verdict } = sighting;
    const slot = this.carriers.other(packet, sighting);
    if (slot < 0) this.stats.ignored[verdict]++;
    else this.stats.packets++;
    return slot;
  }

  /** Packet time: the latest that a packet had, or that `advance` was told. */
  get time(): number {
    return this.now;
  }

  /** Open flows by the place (0 to 2) that `place` gives their protocol; below 0: not counted. */
  activeBy(place: (protocol: number) => number): Float64Array {
    const active = new Float64Array(3);
    for (let slot = 0; slot < this.table.used; slot++) {
      if (!this.table.isOpen(slot)) continue;
      const at = place(this.proto(slot));
      if (at >= 0) active[at]++;
    }
    return active;
  }

  advance(now: number): void {
    if (!(now > this.now)) return;
    this.now = now;
    this.#runTimers();
  }

  #runTimers(): void {
    const now = this.now;
    if (now >= this.lifetimes.wheel.next) this.lifetimes.wheel.advance(now);
    if (now >= this.tunnels.sweepAt) this.tunnels.sweep(now);
  }

  /** A packet with a time before that of one that has come. */
  #late(ts: number): void {
    const back = this.now - ts;
    if (back > this.settings.clockStep) {
      this.#stepBack(ts);
      return;
    }
    const { losses } = this;
    losses[Loss.outOfOrder]++;
    if (back > losses[Loss.outOfOrderDepth]) losses[Loss.outOfOrderDepth] = back;
  }

  /** The clock was set back: timers go by the new time. */
  #stepBack(now: number): void {
    this.now = now;
    this.lifetimes.wheel.rewind(now);
    for (let slot = 0; slot < this.table.used; slot++)
      if (this.table.isOpen(slot)) this.lifetimes.schedule(slot);
  }

  finish(): void {
    for (let slot = 0; slot < this.table.used; slot++) if (this.table.isOpen(slot)) this.end(slot);
  }

  line(slot: number, out: Uint8Array, at: number, more?: string): number {
    if (this.#lines === undefined)
      this.#lines =
        NativeConnLines.over({
          words: this.table.words,
          cold: this.table.cold,
          nets4: this.settings.localNets.packed(4),
          nets6: this.settings.localNets.packed(16),
        }) ?? null;
    if (this.#lines === null || this.gwlb.isUsed) return 0;
    return this.#lines.line(slot, out, at, this.services.streams.service(slot), more);
  }
}
