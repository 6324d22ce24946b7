import { DECODED_REASONS, Decoded, IpProto } from '../packet/decode.ts';
import { Packet } from '../packet/packet.ts';
import { Absorber, addPayload } from './absorb.ts';
import { FlowsBySlot } from './by-slot.ts';
import { Carriers, type InnerHost } from './carriers.ts';
import { coldOf, endpointOf } from './endpoint.ts';
import { isRecorded } from './history.ts';
import { KEY4_BYTES, KEY6_BYTES } from './keys.ts';
import { CEP_BAD_CHECKSUMS, DOUBLES, F_DEADLINE, F_LAST, FLAGS, Flag, Seen, WORDS } from './layout.ts';
import { Lifetimes } from './lifetimes.ts';
import { Loss } from './losses.ts';
import { Opener } from './opener.ts';
import { INTERACTIVE } from './ports.ts';
import { connRecord, flipped, peerSide, portOf } from './record.ts';
import { restoreFlow } from './saved.ts';
import type { FlowSettings } from './settings.ts';
import type { Sighting } from './sighting.ts';
import { TcpTracker } from './tcp.ts';
import { TcpFlag, type TcpHost } from './tcp-states.ts';
import { setTimeoutClass, Timeout } from './timeouts.ts';
import type { ConnRecord, FlowHooks, ShuntEvent, Side, SideDelta } from './types.ts';

/** How many of a full table are looked at for the one that has been silent for longest. */
const EVICTION_SAMPLE = 16;
const LETTER_C = 0x43;
const LETTER_D = 0x44;

/** What the engine has counted. */
export interface FlowStats {
  /** Packets that belong to a flow. */
  packets: number;
  /** Packets that belong to none, by reason: indices are those of `Decoded`. */
  ignored: Float64Array;
  opened: number;
  /** Ended early because the table was full. */
  evicted: number;
  /** Counted of bypassed flows since they were, and their IP bytes. */
  bypassedPackets: number;
  bypassedBytes: number;
}

/** A DNS server's answer by its port: domain, mDNS. */
function isDns(u8: Uint8Array, udp: number): boolean {
  const source = (u8[udp] << 8) | u8[udp + 1];
  return source === 53 || source === 5353;
}

/** Opens the flows of packets that were looked at, accounts them by protocol, and ends flows. */
export class Accounting extends FlowsBySlot implements TcpHost, InnerHost {
  readonly stats: FlowStats = {
    packets: 0,
    ignored: new Float64Array(DECODED_REASONS),
    opened: 0,
    evicted: 0,
    bypassedPackets: 0,
    bypassedBytes: 0,
  };

  protected readonly lifetimes: Lifetimes;
  protected readonly carriers: Carriers;
  protected readonly keyed: boolean;
  /** The packet that came in, whatever of what is in it is in work. */
  protected arrived = new Packet();
  protected now = Number.NEGATIVE_INFINITY;
  readonly #tcp: TcpTracker;
  readonly #absorber: Absorber;
  readonly #opener: Opener;
  /** Where the search for a flow to end goes on. */
  #hand = 0;

  constructor(settings: FlowSettings, hooks: FlowHooks) {
    super(settings, hooks);
    const { table, histories, endpoints, gaps, services } = this;
    this.#tcp = new TcpTracker(endpoints, gaps, histories, settings, this);
    this.lifetimes = new Lifetimes(
      table,
      this.#tcp,
      settings.timeouts,
      hooks,
      (slot) => this.end(slot),
      (slot) => services.isInteractive(slot),
    );
    this.#absorber = new Absorber(endpoints, gaps, this.counts, histories, this.#tcp);
    this.carriers = new Carriers(this, table, this.tunnels, settings.fragmentBytes, settings.tunnelPorts);
    this.#opener = new Opener(table, settings, histories, this.#tcp, services, this.uids);
    this.keyed = settings.tunnelInKey;
  }

  /** InnerHost. */
  inner(packet: Packet, sighting: Sighting): number {
    sighting.see(packet, this.keyed ? this.tunnels.vxlan : 0, this.keyed ? this.tunnels.geneve : 0);
    return this.#enter(packet, sighting);
  }

  /** InnerHost. */
  whole(packet: Packet, sighting: Sighting): number {
    sighting.seeWhole(packet, this.keyed ? this.tunnels.vxlan : 0, this.keyed ? this.tunnels.geneve : 0);
    return this.#enter(packet, sighting);
  }

  /** InnerHost. */
  get network(): number {
    return this.keyed ? this.tunnels.vxlan * 2 ** 25 + this.tunnels.geneve : 0;
  }

  #enter(packet: Packet, sighting: Sighting): number {
    return sighting.verdict === Decoded.ok
      ? this.account(packet, sighting)
      : this.carriers.other(packet, sighting);
  }

  /** Accounts a packet of a flow; its slot, or that of the innermost flow inside. */
  protected account(packet: Packet, sighting: Sighting): number {
    const { protocol } = sighting.decoder;
    let slot = this.#lookUp(packet.u8, sighting);
    if (slot < 0) {
      slot = this.#open(packet, sighting);
      const inside = this.#onProtocol(packet, slot, protocol, sighting);
      // A flow that the packet inside has brought to an end (the table was full) has no timers any more.
      if (this.table.isOpen(slot)) this.lifetimes.timerSet(slot);
      return inside;
    }
    if (this.tunnels.depth > 0 || (this.words[slot * WORDS + FLAGS] & Flag.tunnelled) !== 0)
      this.tunnels.seen(slot, sighting.side, this.now);
    return this.#onProtocol(packet, slot, protocol, sighting);
  }

  #onProtocol(packet: Packet, slot: number, protocol: number, sighting: Sighting): number {
    switch (protocol) {
      case IpProto.tcp:
        this.#onTcp(packet, slot, sighting);
        return slot;
      case IpProto.udp:
        return this.#onUdp(packet, slot, sighting);
      case IpProto.icmp:
      case IpProto.icmpv6:
        this.#onIcmp(packet, slot, sighting);
        return slot;
      default:
        this.doubles[slot * DOUBLES + F_LAST] = packet.ts;
        this.counts.count(slot, sighting.side, sighting.decoder.ipBytes);
        return slot;
    }
  }

  /** The slot of the packet's flow, or -1 when it begins one: also when it ends the one that was there. */
  #lookUp(u8: Uint8Array, { decoder, key, size, hash, side }: Sighting): number {
    let slot = this.table.find(key, 0, size, hash);
    if (slot < 0) {
      if (this.hooks.returning === undefined || !this.#returns(key, size)) return -1;
      slot = this.table.find(key, 0, size, hash);
      if (slot < 0) return -1;
    }
    // The wheel may be late by a fraction of a second; here it has to be to the point.
    if (this.doubles[slot * DOUBLES + F_DEADLINE] <= this.now && !this.lifetimes.look(slot, this.now))
      return -1;
    const tcpFlags = decoder.protocol === IpProto.tcp ? u8[decoder.transport + 13] : 0;
    if ((this.words[slot * WORDS + FLAGS] & Flag.marked) !== 0)
      this.hooks.beforePacket(slot, side, tcpFlags, this.now);
    if ((tcpFlags & TcpFlag.syn) !== 0 && this.#tcp.isReuse(slot, u8, decoder.transport)) {
      this.end(slot);
      return -1;
    }
    return slot;
  }

  /** Whether the flow of the packet in work has been restored just now. */
  #returns(key: Int32Array, size: number): boolean {
    const bytes = new Uint8Array(key.buffer, 0, size * 4);
    return this.hooks.returning?.(size === KEY4_BYTES / 4 ? 4 : 6, bytes) ?? false;
  }

  #open(packet: Packet, sighting: Sighting): number {
    const slot = this.#take(sighting.key, sighting.size, sighting.hash);
    this.stats.opened++;
    this.#opener.open(slot, packet, sighting, this.now);
    this.gwlb.opened(slot, this.arrived);
    const tunnels = this.tunnels;
    if ((tunnels.depth | tunnels.vxlan | tunnels.geneve) !== 0) tunnels.opened(slot, sighting.side, this.now);
    return slot;
  }

  /** A fresh record with this key, if need be in place of another one. */
  #take(key: Int32Array, size: number, hash: number): number {
    const slot = this.table.insert(key, 0, size, hash);
    if (slot >= 0) return slot;
    this.#evict();
    return this.table.insert(key, 0, size, hash);
  }

  /**
   * The table is full: ends the flow that has been silent for longest among the next few, rather one without a mark. All
   * slots have their turn, one neighbour after the other, which costs less memory access than a choice by chance.
   */
  #evict(): void {
    let worst = -1;
    let since = Number.POSITIVE_INFINITY;
    for (let i = 0; i < EVICTION_SAMPLE; i++) {
      const slot = this.#hand;
      this.#hand = slot + 1 === this.table.capacity ? 0 : slot + 1;
      const last = this.isMarked(slot) ? Number.MAX_VALUE : this.lastTime(slot);
      if (last < since) {
        worst = slot;
        since = last;
      }
    }
    this.stats.evicted++;
    this.end(worst);
  }

  protected end(slot: number): void {
    this.hooks.closed(slot);
    if ((this.words[slot * WORDS + FLAGS] & (Flag.carrier | Flag.tunnelled)) !== 0)
      this.carriers.ended(slot, this.now);
    this.#tcp.close(slot);
    this.services.release(slot);
    this.histories.release(slot);
    this.lifetimes.wheel.clear(slot);
    this.table.remove(slot);
  }

  #onTcp(packet: Packet, slot: number, sighting: Sighting): void {
    const { decoder, side } = sighting;
    const header = (packet.u8[decoder.transport + 12] >>> 4) * 4;
    if (header < 20 || header > decoder.captured) {
      this.#tcp.checkExpiry(slot);
      return;
    }
    const bypassed = (this.words[slot * WORDS + FLAGS] & Flag.bypassed) !== 0;
    if (bypassed) {
      if (this.#tcp.inStep(slot, side, decoder, packet, header)) {
        this.counts.count(slot, side, decoder.ipBytes);
        this.#countBypassed(decoder.ipBytes);
        return;
      }
    }
    if (this.settings.checksums && !decoder.checksumHolds(packet)) {
      this.#corrupt(slot, side);
      this.#tcp.checkExpiry(slot);
      return;
    }
    this.#tcp.segment(slot, side, decoder, packet, header);
    this.counts.count(slot, side, decoder.ipBytes);
    if (bypassed) this.#countBypassed(decoder.ipBytes);
    const { dataSeq } = this.#tcp;
    if (dataSeq > 0 && this.services.wants(slot, side)) {
      const at = decoder.transport + header;
      const bytes = decoder.transportBytes - header;
      this.services.segment(slot, side, dataSeq, packet.u8, at, bytes, this.now);
    }
  }

  #onUdp(packet: Packet, slot: number, sighting: Sighting): number {
    const { decoder, side } = sighting;
    const u8 = packet.u8;
    const bypassed = (this.words[slot * WORDS + FLAGS] & (Flag.bypassed | Flag.carrier)) === Flag.bypassed;
    if (bypassed) this.#countBypassed(decoder.ipBytes);
    else if (this.settings.checksums && !decoder.checksumHolds(packet)) {
      this.#corrupt(slot, side);
      return slot;
    }
    const isOrig = this.origSide(slot) === side;
    this.doubles[slot * DOUBLES + F_LAST] = packet.ts;
    this.histories.once(slot, Seen.data, LETTER_D, isOrig);
    const at = decoder.transport;
    const bytes = ((u8[at + 4] << 8) | u8[at + 5]) - 8;
    addPayload(this.doubles, endpointOf(slot, side), bytes);
    this.counts.count(slot, side, decoder.ipBytes);
    if (this.dnsNames !== undefined && isDns(u8, at) && bytes > 0)
      this.dnsNames.learn(u8, at + 8, Math.min(bytes, decoder.captured - 8), this.now);
    if (bytes > 0 && decoder.captured > 8 && this.services.wants(slot, side)) {
      // What a short capture has cut off is missing, but the beginning often tells.
      const there = Math.min(bytes, decoder.captured - 8);
      this.services.datagram(slot, side, u8, at + 8, there, this.now);
    }
    const respPort = portOf(this.table, slot, peerSide(this.origSide(slot)));
    const inner = this.carriers.udp(slot, packet, sighting, this.origSide(slot) === side, respPort);
    return inner < 0 ? slot : inner;
  }

  #countBypassed(ipBytes: number): void {
    this.stats.bypassedPackets++;
    this.stats.bypassedBytes += ipBytes;
  }

  #onIcmp(packet: Packet, slot: number, { decoder, side }: Sighting): void {
    if (this.settings.checksums && !decoder.checksumHolds(packet)) {
      this.losses[Loss.badChecksums]++;
      return;
    }
    this.doubles[slot * DOUBLES + F_LAST] = packet.ts;
    addPayload(this.doubles, endpointOf(slot, side), decoder.transportBytes - 8);
    if (decoder.captured >= decoder.transportBytes) this.counts.count(slot, side, decoder.ipBytes);
  }

  #corrupt(slot: number, side: Side): void {
    this.losses[Loss.badChecksums]++;
    const { cold } = this.table;
    const at = coldOf(endpointOf(slot, side)) + CEP_BAD_CHECKSUMS;
    const count = (cold[at] + 1) | 0;
    cold[at] = count;
    if (isRecorded(count)) this.histories.add(slot, LETTER_C, this.origSide(slot) === side);
  }

  /** TcpHost. */
  flip(slot: number): void {
    flipped(this.table, slot);
  }

  /** TcpHost. */
  established(slot: number): void {
    const resp = peerSide(this.origSide(slot));
    if (INTERACTIVE[portOf(this.table, slot, resp)] === 1)
      setTimeoutClass(this.words, slot, Timeout.tcpInteractive);
  }

  /** TcpHost. */
  timerSet(slot: number): void {
    this.lifetimes.timerSet(slot);
  }

  absorb(slot: number, sides: readonly [SideDelta, SideDelta], events: readonly ShuntEvent[]): void {
    const protocol = this.proto(slot);
    if (protocol === IpProto.tcp) {
      this.#absorber.tcp(slot, sides, events);
      // The recognizer missed what was dropped.
      if (sides[0].pkts + sides[1].pkts > 0) this.services.stop(slot);
    } else {
      this.#absorber.other(slot, sides, events, protocol);
    }
  }

  idleTimeout(slot: number): number {
    return this.lifetimes.idleTimeout(slot);
  }

  record(slot: number): ConnRecord {
    const record = connRecord(
      this.table,
      slot,
      this.endpoints,
      this.counts,
      this.histories,
      this.settings.localNets,
      this.services.streams.service(slot),
    );
    if ((this.words[slot * WORDS + FLAGS] & (Flag.carrier | Flag.tunnelled)) !== 0)
      this.carriers.describe(slot, record);
    record.gwlb = this.gwlb.of(slot);
    return record;
  }

  restore(family: 4 | 6, key: Uint8Array, saved: Uint8Array): number {
    if (this.find(family, key, 0) >= 0) return -1;
    const size = (family === 4 ? KEY4_BYTES : KEY6_BYTES) / 4;
    const slot = this.#take(this.soughtWords, size, this.table.hash(this.soughtWords, 0, size));
    restoreFlow(this.table, slot, this.histories, this.services.streams, saved);
    this.gwlb.forget(slot);
    this.stats.opened++;
    this.lifetimes.schedule(slot);
    return slot;
  }
}
