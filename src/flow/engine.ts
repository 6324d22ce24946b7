import { PacketBlock } from '../packet/block.ts';
import { DECODED_REASONS, Decoded, IpProto, LinkType } from '../packet/decode.ts';
import { Packet } from '../packet/packet.ts';
import { Absorber, addPayload } from './absorb.ts';
import { Carriers, type InnerHost } from './carriers.ts';
import { Counts } from './counts.ts';
import { DnsNames } from './dns-names.ts';
import { coldOf, Endpoints, endpointOf, peerOf, Tcp } from './endpoint.ts';
import { FlowServices } from './flow-services.ts';
import { GapTracker } from './gaps.ts';
import { GwlbNotes } from './gwlb-notes.ts';
import { Histories, isRecorded } from './history.ts';
import { KEY4_BYTES, KEY6_BYTES } from './keys.ts';
import {
  C_HASH,
  CEP_BAD_CHECKSUMS,
  CF_START,
  COLD_BYTES,
  COLD_DOUBLES,
  COLD_WORDS,
  DOUBLES,
  EP_ACK,
  EP_LAST,
  EP_RETRANSMITS,
  EP_START,
  EP_ZERO_WINDOWS,
  F_DEADLINE,
  F_LAST,
  FLAGS,
  Flag,
  FlowFlag,
  PROTOCOL_SHIFT,
  Seen,
  WORDS,
} from './layout.ts';
import { Lifetimes } from './lifetimes.ts';
import { DNS, Opener } from './opener.ts';
import type { FlowEngineOptions } from './options.ts';
import { portSet } from './ports.ts';
import { RangePool } from './ranges.ts';
import { addressOf, connRecord, flipped, origOf, peerSide, portOf } from './record.ts';
import { restoreFlow, saveFlow } from './saved.ts';
import { completeOptions, type FlowSettings } from './settings.ts';
import { ShortWays } from './short-ways.ts';
import { Sighting } from './sighting.ts';
import { FlowTable, MOST_FETCHED } from './table.ts';
import { TcpTracker } from './tcp.ts';
import { TcpFlag, type TcpHost } from './tcp-states.ts';
import { tieOf } from './tie.ts';
import { setTimeoutClass, Timeout } from './timeouts.ts';
import { geneveId, Tunnels, vxlanId } from './tunnels.ts';
import type {
  ConnRecord,
  FlowAddress,
  FlowContent,
  FlowEngineApi,
  FlowHooks,
  GateKey,
  ShuntEvent,
  Side,
  SideDelta,
  TcpSideState,
  TlsInfo,
  TunnelsAround,
} from './types.ts';
import { UidSource, uidText } from './uid.ts';

/** How many of a full table are looked at for the one that has been silent for longest. */
const EVICTION_SAMPLE = 16;
const RANGE_NODES = 1 << 15;
const LETTER_C = 0x43;
const LETTER_D = 0x44;
const INTERACTIVE = portSet([21, 22, 23, 513]);

/** What `flags` shows. */
const FLOW_FLAGS = Object.values(FlowFlag).reduce((bits, bit) => bits | bit, 0);

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

/** Heard, and neither closed nor reset: also when it was there before us (partial). */
const isTalking = (state: number): boolean => state === Tcp.established || state === Tcp.partial;

/** Tracks connections as Zeek's conn.log does; see FlowEngineApi. */
export class FlowEngine implements FlowEngineApi, TcpHost, InnerHost {
  readonly stats: FlowStats = {
    packets: 0,
    ignored: new Float64Array(DECODED_REASONS),
    opened: 0,
    evicted: 0,
    bypassedPackets: 0,
    bypassedBytes: 0,
  };

  readonly #hooks: FlowHooks;
  readonly #settings: FlowSettings;
  readonly #table: FlowTable;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #lifetimes: Lifetimes;
  readonly #endpoints: Endpoints;
  readonly #counts: Counts;
  readonly #gaps: GapTracker;
  readonly #histories: Histories;
  readonly #tcp: TcpTracker;
  readonly #absorber: Absorber;
  readonly #services: FlowServices;
  readonly #dnsNames: DnsNames | undefined;
  readonly #opener: Opener;
  readonly #uids: UidSource;
  readonly #tunnels: Tunnels;
  readonly #carriers: Carriers;
  readonly #gwlb: GwlbNotes;
  /** The packet that came in, whatever of what is in it is in work. */
  #arrived = new Packet();
  readonly #keyed: boolean;
  readonly #sightings: readonly Sighting[];
  /** Made with the first batch; null where there is no addon. */
  #short: ShortWays | null | undefined;
  readonly #block = new PacketBlock();
  readonly #shown: readonly Packet[] = Array.from({ length: MOST_FETCHED }, () => new Packet());
  readonly #hashes = new Int32Array(MOST_FETCHED);
  readonly #sought = new Uint8Array(KEY6_BYTES);
  readonly #soughtWords = new Int32Array(this.#sought.buffer);
  #now = Number.NEGATIVE_INFINITY;
  /** Where the search for a flow to end goes on. */
  #hand = 0;

  /** Errors: USAGE for options out of range. */
  constructor(options: FlowEngineOptions, hooks: FlowHooks) {
    const settings = completeOptions(options);
    this.#hooks = hooks;
    this.#settings = settings;
    this.#table = new FlowTable(settings.maxFlows, settings.seed);
    this.#words = this.#table.words;
    this.#doubles = this.#table.doubles;
    this.#endpoints = new Endpoints(this.#table);
    this.#counts = new Counts(this.#table);
    this.#histories = new Histories(this.#table);
    this.#services = new FlowServices(this.#table, this.#counts, this.#histories, settings);
    if (settings.dnsNames > 0) this.#dnsNames = new DnsNames(settings.dnsNames);
    this.#uids = new UidSource(settings.seed.subarray(3));
    this.#gaps = new GapTracker(this.#endpoints, new RangePool(RANGE_NODES), this.#histories);
    this.#tcp = new TcpTracker(this.#endpoints, this.#gaps, this.#histories, this.#settings, this);
    this.#lifetimes = new Lifetimes(
      this.#table,
      this.#tcp,
      this.#settings.timeouts,
      hooks,
      (slot) => this.#end(slot),
      (slot) => this.#services.isInteractive(slot),
    );
    this.#absorber = new Absorber(this.#endpoints, this.#gaps, this.#counts, this.#histories, this.#tcp);
    this.#tunnels = new Tunnels(
      this.#table,
      this.#histories,
      () => uidText(this.#uids.next(), this.#uids.next(), this.#uids.next()),
      hooks.tunnel === undefined ? undefined : (record) => hooks.tunnel?.(record),
    );
    this.#carriers = new Carriers(
      this,
      this.#table,
      this.#tunnels,
      settings.fragmentBytes,
      settings.tunnelPorts,
    );
    this.#opener = new Opener(this.#table, settings, this.#histories, this.#tcp, this.#services, this.#uids);
    this.#gwlb = new GwlbNotes(settings.maxFlows);
    this.#keyed = settings.tunnelInKey;
    this.#sightings = Array.from(
      { length: MOST_FETCHED },
      () => new Sighting(this.#table, settings.checksums, settings.vlanInKey),
    );
  }

  process(packet: Packet): number {
    const sighting = this.#sightings[0];
    this.#see(packet, sighting);
    return this.#arrive(packet, sighting);
  }

  /** Looks at a packet as it comes in. */
  #see(packet: Packet, sighting: Sighting): void {
    if (this.#keyed) sighting.see(packet, vxlanId(packet), geneveId(packet));
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
    if (short === null || this.#gwlb.isUsed || block.places[3] !== LinkType.ethernet) {
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
    if (this.#dnsNames !== undefined) return undefined;
    return ShortWays.over({
      table: this.#table,
      wheel: this.#lifetimes.wheel,
      uids: this.#uids,
      settings: this.#settings,
      interactive: INTERACTIVE,
      dnsPorts: DNS,
      tunnelPorts: this.#carriers.isPort,
      asked: this.#hooks.returning !== undefined,
    });
  }

  #takeShort(short: ShortWays, block: PacketBlock, from: number): number {
    const tunnels = this.#tunnels;
    // The packet before came out of a mirror's tunnel.
    tunnels.vxlan = 0;
    tunnels.geneve = 0;
    const before = this.#table.active;
    const due = Math.min(this.#lifetimes.wheel.next, tunnels.sweepAt);
    const to = short.take(block, from, this.#now, due);
    this.#now = short.now;
    this.stats.packets += to - from;
    this.stats.opened += this.#table.active - before;
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
      this.#table.fetch(hashes, size);
      for (let i = 0; i < size; i++) this.#arrive(packets[from + i], sightings[i]);
    }
  }

  /** Accounts a packet that was looked at; the slot of its flow, or of the innermost one inside. */
  #arrive(packet: Packet, sighting: Sighting): number {
    const ts = packet.ts;
    if (ts > this.#now) {
      this.#now = ts;
      if (ts >= this.#lifetimes.wheel.next || ts >= this.#tunnels.sweepAt) this.#runTimers();
    } else if (ts < this.#now - this.#settings.clockStep) this.#stepBack(ts);
    this.#arrived = packet;
    const tunnels = this.#tunnels;
    if ((packet.tunnel | tunnels.vxlan | tunnels.geneve) !== 0) tunnels.arrive(packet);
    if (sighting.verdict === Decoded.ok) {
      this.stats.packets++;
      return this.#account(packet, sighting);
    }
    const { verdict } = sighting;
    const slot = this.#carriers.other(packet, sighting);
    if (slot < 0) this.stats.ignored[verdict]++;
    else this.stats.packets++;
    return slot;
  }

  /** InnerHost. */
  inner(packet: Packet, sighting: Sighting): number {
    sighting.see(packet, this.#keyed ? this.#tunnels.vxlan : 0, this.#keyed ? this.#tunnels.geneve : 0);
    return this.#enter(packet, sighting);
  }

  /** InnerHost. */
  get network(): number {
    return this.#keyed ? this.#tunnels.vxlan * 2 ** 25 + this.#tunnels.geneve : 0;
  }

  /** InnerHost. */
  whole(packet: Packet, sighting: Sighting): number {
    sighting.seeWhole(packet, this.#keyed ? this.#tunnels.vxlan : 0, this.#keyed ? this.#tunnels.geneve : 0);
    return this.#enter(packet, sighting);
  }

  #enter(packet: Packet, sighting: Sighting): number {
    return sighting.verdict === Decoded.ok
      ? this.#account(packet, sighting)
      : this.#carriers.other(packet, sighting);
  }

  #account(packet: Packet, sighting: Sighting): number {
    const { protocol } = sighting.decoder;
    let slot = this.#lookUp(packet.u8, sighting);
    if (slot < 0) {
      slot = this.#open(packet, sighting);
      const inside = this.#onProtocol(packet, slot, protocol, sighting);
      // A flow that the packet inside has brought to an end (the table was full) has no timers any more.
      if (this.#table.isOpen(slot)) this.#lifetimes.timerSet(slot);
      return inside;
    }
    if (this.#tunnels.depth > 0 || (this.#words[slot * WORDS + FLAGS] & Flag.tunnelled) !== 0)
      this.#tunnels.seen(slot, sighting.side, this.#now);
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
        this.#doubles[slot * DOUBLES + F_LAST] = packet.ts;
        this.#counts.count(slot, sighting.side, sighting.decoder.ipBytes);
        return slot;
    }
  }

  /** The slot of the packet's flow, or -1 when it begins one: also when it ends the one that was there. */
  #lookUp(u8: Uint8Array, { decoder, key, size, hash, side }: Sighting): number {
    let slot = this.#table.find(key, 0, size, hash);
    if (slot < 0) {
      if (this.#hooks.returning === undefined || !this.#returns(key, size)) return -1;
      slot = this.#table.find(key, 0, size, hash);
      if (slot < 0) return -1;
    }
    // The wheel may be late by a fraction of a second; here it has to be to the point.
    if (this.#doubles[slot * DOUBLES + F_DEADLINE] <= this.#now && !this.#lifetimes.look(slot, this.#now))
      return -1;
    const tcpFlags = decoder.protocol === IpProto.tcp ? u8[decoder.transport + 13] : 0;
    if ((this.#words[slot * WORDS + FLAGS] & Flag.marked) !== 0)
      this.#hooks.beforePacket(slot, side, tcpFlags, this.#now);
    if ((tcpFlags & TcpFlag.syn) !== 0 && this.#tcp.isReuse(slot, u8, decoder.transport)) {
      this.#end(slot);
      return -1;
    }
    return slot;
  }

  advance(now: number): void {
    if (!(now > this.#now)) return;
    this.#now = now;
    this.#runTimers();
  }

  #runTimers(): void {
    const now = this.#now;
    if (now >= this.#lifetimes.wheel.next) this.#lifetimes.wheel.advance(now);
    if (now >= this.#tunnels.sweepAt) this.#tunnels.sweep(now);
  }

  finish(): void {
    for (let slot = 0; slot < this.#table.used; slot++) if (this.#table.isOpen(slot)) this.#end(slot);
  }

  get active(): number {
    return this.#table.active;
  }

  generation(slot: number): number {
    return this.#table.generation(slot);
  }

  isOpen(slot: number): boolean {
    return this.#table.isOpen(slot);
  }

  setMark(slot: number, marked: boolean): void {
    const at = slot * WORDS + FLAGS;
    const flags = this.#words[at];
    this.#words[at] = marked ? flags | Flag.marked : flags & ~Flag.marked;
  }

  isMarked(slot: number): boolean {
    return (this.#words[slot * WORDS + FLAGS] & Flag.marked) !== 0;
  }

  flags(slot: number): number {
    return this.#words[slot * WORDS + FLAGS] & FLOW_FLAGS;
  }

  key(slot: number): GateKey {
    const wide = (this.#words[slot * WORDS + FLAGS] & Flag.wide) !== 0;
    const at = slot * COLD_BYTES;
    return {
      family: wide ? 6 : 4,
      bytes: this.#table.coldBytes.slice(at, at + (wide ? KEY6_BYTES : KEY4_BYTES)),
    };
  }

  find(family: 4 | 6, bytes: Uint8Array, offset: number): number {
    const size = family === 4 ? KEY4_BYTES : KEY6_BYTES;
    // Not the key of the packet: a hook may look for another flow while that one is in work.
    for (let i = 0; i < size; i++) this.#sought[i] = bytes[offset + i] ?? 0;
    const words = this.#soughtWords;
    return this.#table.find(words, 0, size / 4, this.#table.hash(words, 0, size / 4));
  }

  origSide(slot: number): Side {
    return origOf(this.#table, slot);
  }

  proto(slot: number): number {
    return this.#words[slot * WORDS + FLAGS] >>> PROTOCOL_SHIFT;
  }

  ipBytes(slot: number, side: Side): number {
    return this.#counts.ipBytes(slot, side);
  }

  packets(slot: number, side: Side): number {
    return this.#counts.packets(slot, side);
  }

  lastTime(slot: number): number {
    return this.#doubles[slot * DOUBLES + F_LAST];
  }

  idleTimeout(slot: number): number {
    return this.#lifetimes.idleTimeout(slot);
  }

  tcpSide(slot: number, side: Side, out: TcpSideState): void {
    const ep = endpointOf(slot, side);
    const peer = peerOf(ep);
    const words = this.#words;
    out.seq = this.#endpoints.state(ep) === Tcp.inactive ? -1 : words[ep + EP_LAST] >>> 0;
    out.ack = words[peer + EP_ACK] === words[peer + EP_START] ? -1 : words[peer + EP_ACK] >>> 0;
    out.retransmits = words[ep + EP_RETRANSMITS];
    out.zeroWindows = words[ep + EP_ZERO_WINDOWS];
  }

  isShuntable(slot: number): boolean {
    const flags = this.#words[slot * WORDS + FLAGS];
    // A tunnel must not be dropped as a whole.
    if ((flags & Flag.carrier) !== 0) return false;
    if ((flags & Flag.tunnelled) !== 0 && !this.#tunnels.isSettled(slot, this.#settings.shuntInside))
      return false;
    if (this.proto(slot) !== IpProto.tcp) return true;
    const a = endpointOf(slot, 0);
    const b = peerOf(a);
    return (
      isTalking(this.#endpoints.state(a)) &&
      isTalking(this.#endpoints.state(b)) &&
      // What lies above a hole may still turn out to be a gap: that has to be seen.
      !this.#gaps.hasHole(a) &&
      !this.#gaps.hasHole(b)
    );
  }

  tunnelsAround(slot: number): TunnelsAround {
    const stacks = this.#tunnels.around(slot);
    const all = new Set(stacks.flat());
    const carriers = [...all]
      .filter(({ slot: carrier }) => carrier >= 0)
      .map(({ slot: carrier, generation }) =>
        this.isOpen(carrier) && this.generation(carrier) === generation ? carrier : -1,
      );
    const ends = [...all].filter((tunnel) => tunnel.slot < 0).map((tunnel) => tunnel.words);
    return { tie: [tieOf(stacks[0]), tieOf(stacks[1])], carriers, ends };
  }

  isTunnelled(slot: number): boolean {
    return (this.#words[slot * WORDS + FLAGS] & Flag.tunnelled) !== 0;
  }

  tls(slot: number): TlsInfo | undefined {
    return this.#services.tls(slot);
  }

  /** Slots: 0 to one less than this. */
  get capacity(): number {
    return this.#settings.maxFlows;
  }

  get content(): FlowContent {
    return this.#services;
  }

  takeNews(slot: number): void {
    const at = slot * WORDS + FLAGS;
    this.#words[at] = this.#words[at] & ~Flag.news;
  }

  setSettled(slot: number, settled: boolean): void {
    const at = slot * WORDS + FLAGS;
    this.#words[at] = settled ? this.#words[at] | Flag.settled : this.#words[at] & ~Flag.settled;
  }

  unsettleAll(): void {
    for (let at = FLAGS; at < this.#words.length; at += WORDS)
      this.#words[at] = this.#words[at] & ~Flag.settled;
  }

  address(slot: number, side: Side): FlowAddress {
    return { u8: this.#table.coldBytes, ...addressOf(this.#table, slot, side) };
  }

  port(slot: number, side: Side): number {
    return portOf(this.#table, slot, side);
  }

  startTime(slot: number): number {
    return this.#table.coldDoubles[slot * COLD_DOUBLES + CF_START];
  }

  hash(slot: number): number {
    return this.#table.cold[slot * COLD_WORDS + C_HASH] >>> 0;
  }

  dnsName(slot: number): string | undefined {
    if (this.#dnsNames === undefined) return undefined;
    const { at, bytes } = addressOf(this.#table, slot, peerSide(this.origSide(slot)));
    return this.#dnsNames.nameOf(this.#table.coldBytes, at, bytes, this.startTime(slot));
  }

  bypass(slot: number): boolean {
    const at = slot * WORDS + FLAGS;
    const flags = this.#words[at];
    const protocol = flags >>> PROTOCOL_SHIFT;
    if ((flags & Flag.carrier) !== 0 || (protocol !== IpProto.tcp && protocol !== IpProto.udp)) return false;
    this.#services.stop(slot);
    this.#words[at] = this.#words[at] | Flag.bypassed;
    return true;
  }

  isBypassed(slot: number): boolean {
    return (this.#words[slot * WORDS + FLAGS] & Flag.bypassed) !== 0;
  }

  absorb(slot: number, sides: readonly [SideDelta, SideDelta], events: readonly ShuntEvent[]): void {
    const protocol = this.proto(slot);
    if (protocol === IpProto.tcp) {
      this.#absorber.tcp(slot, sides, events);
      // The recognizer missed what was dropped.
      if (sides[0].pkts + sides[1].pkts > 0) this.#services.stop(slot);
    } else {
      this.#absorber.other(slot, sides, events, protocol === IpProto.udp);
    }
  }

  record(slot: number): ConnRecord {
    const record = connRecord(
      this.#table,
      slot,
      this.#endpoints,
      this.#counts,
      this.#histories,
      this.#settings.localNets,
      this.#services.streams.service(slot),
    );
    if ((this.#words[slot * WORDS + FLAGS] & (Flag.carrier | Flag.tunnelled)) !== 0)
      this.#carriers.describe(slot, record);
    record.gwlb = this.#gwlb.of(slot);
    return record;
  }

  line(slot: number, out: Uint8Array, at: number): number {
    return this.#short?.line(slot, out, at) ?? 0;
  }

  save(slot: number, out: Uint8Array): void {
    saveFlow(this.#table, slot, this.#histories, this.#services.streams, out);
  }

  restore(family: 4 | 6, key: Uint8Array, saved: Uint8Array): number {
    if (this.find(family, key, 0) >= 0) return -1;
    const size = (family === 4 ? KEY4_BYTES : KEY6_BYTES) / 4;
    const slot = this.#take(this.#soughtWords, size, this.#table.hash(this.#soughtWords, 0, size));
    restoreFlow(this.#table, slot, this.#histories, this.#services.streams, saved);
    this.#gwlb.forget(slot);
    this.stats.opened++;
    this.#lifetimes.schedule(slot);
    return slot;
  }

  /** Whether the flow of the packet in work has been restored just now. */
  #returns(key: Int32Array, size: number): boolean {
    const bytes = new Uint8Array(key.buffer, 0, size * 4);
    return this.#hooks.returning?.(size === KEY4_BYTES / 4 ? 4 : 6, bytes) ?? false;
  }

  /** A fresh record with this key, if need be in place of another one. */
  #take(key: Int32Array, size: number, hash: number): number {
    const slot = this.#table.insert(key, 0, size, hash);
    if (slot >= 0) return slot;
    this.#evict();
    return this.#table.insert(key, 0, size, hash);
  }

  /** TcpHost. */
  flip(slot: number): void {
    flipped(this.#table, slot);
  }

  /** TcpHost. */
  established(slot: number): void {
    const resp = peerSide(this.origSide(slot));
    if (INTERACTIVE[portOf(this.#table, slot, resp)] === 1)
      setTimeoutClass(this.#words, slot, Timeout.tcpInteractive);
  }

  /** TcpHost. */
  timerSet(slot: number): void {
    this.#lifetimes.timerSet(slot);
  }

  #open(packet: Packet, sighting: Sighting): number {
    const slot = this.#take(sighting.key, sighting.size, sighting.hash);
    this.stats.opened++;
    this.#opener.open(slot, packet, sighting, this.#now);
    this.#gwlb.opened(slot, this.#arrived);
    const tunnels = this.#tunnels;
    if ((tunnels.depth | tunnels.vxlan | tunnels.geneve) !== 0)
      tunnels.opened(slot, sighting.side, this.#now);
    return slot;
  }

  #onTcp(packet: Packet, slot: number, sighting: Sighting): void {
    const { decoder, side } = sighting;
    const header = (packet.u8[decoder.transport + 12] >>> 4) * 4;
    if (header < 20 || header > decoder.captured) {
      this.#tcp.checkExpiry(slot);
      return;
    }
    const bypassed = (this.#words[slot * WORDS + FLAGS] & Flag.bypassed) !== 0;
    if (bypassed) {
      if (this.#tcp.inStep(slot, side, decoder, packet, header)) {
        this.#counts.count(slot, side, decoder.ipBytes);
        this.#countBypassed(decoder.ipBytes);
        return;
      }
    }
    if (this.#settings.checksums && !decoder.checksumHolds(packet)) {
      this.#corrupt(slot, side);
      this.#tcp.checkExpiry(slot);
      return;
    }
    this.#tcp.segment(slot, side, decoder, packet, header);
    this.#counts.count(slot, side, decoder.ipBytes);
    if (bypassed) this.#countBypassed(decoder.ipBytes);
    const { dataSeq } = this.#tcp;
    if (dataSeq > 0 && this.#services.wants(slot, side)) {
      const at = decoder.transport + header;
      const bytes = decoder.transportBytes - header;
      this.#services.segment(slot, side, dataSeq, packet.u8, at, bytes, this.#now);
    }
  }

  #onUdp(packet: Packet, slot: number, sighting: Sighting): number {
    const { decoder, side } = sighting;
    const u8 = packet.u8;
    const bypassed = (this.#words[slot * WORDS + FLAGS] & (Flag.bypassed | Flag.carrier)) === Flag.bypassed;
    if (bypassed) this.#countBypassed(decoder.ipBytes);
    else if (this.#settings.checksums && !decoder.checksumHolds(packet)) {
      this.#corrupt(slot, side);
      return slot;
    }
    const isOrig = this.origSide(slot) === side;
    this.#doubles[slot * DOUBLES + F_LAST] = packet.ts;
    this.#histories.once(slot, Seen.data, LETTER_D, isOrig);
    const at = decoder.transport;
    const bytes = ((u8[at + 4] << 8) | u8[at + 5]) - 8;
    addPayload(this.#doubles, endpointOf(slot, side), bytes);
    this.#counts.count(slot, side, decoder.ipBytes);
    if (this.#dnsNames !== undefined && isDns(u8, at) && bytes > 0)
      this.#dnsNames.learn(u8, at + 8, Math.min(bytes, decoder.captured - 8), this.#now);
    if (bytes > 0 && decoder.captured > 8 && this.#services.wants(slot, side)) {
      // What a short capture has cut off is missing, but the beginning often tells.
      const there = Math.min(bytes, decoder.captured - 8);
      this.#services.datagram(slot, side, u8, at + 8, there, this.#now);
    }
    const respPort = portOf(this.#table, slot, peerSide(this.origSide(slot)));
    const inner = this.#carriers.udp(slot, packet, sighting, this.origSide(slot) === side, respPort);
    return inner < 0 ? slot : inner;
  }

  #countBypassed(ipBytes: number): void {
    this.stats.bypassedPackets++;
    this.stats.bypassedBytes += ipBytes;
  }

  #onIcmp(packet: Packet, slot: number, { decoder, side }: Sighting): void {
    if (this.#settings.checksums && !decoder.checksumHolds(packet)) return;
    this.#doubles[slot * DOUBLES + F_LAST] = packet.ts;
    addPayload(this.#doubles, endpointOf(slot, side), decoder.transportBytes - 8);
    if (decoder.captured >= decoder.transportBytes) this.#counts.count(slot, side, decoder.ipBytes);
  }

  #corrupt(slot: number, side: Side): void {
    const { cold } = this.#table;
    const at = coldOf(endpointOf(slot, side)) + CEP_BAD_CHECKSUMS;
    const count = (cold[at] + 1) | 0;
    cold[at] = count;
    if (isRecorded(count)) this.#histories.add(slot, LETTER_C, this.origSide(slot) === side);
  }

  #end(slot: number): void {
    this.#hooks.closed(slot);
    if ((this.#words[slot * WORDS + FLAGS] & (Flag.carrier | Flag.tunnelled)) !== 0)
      this.#carriers.ended(slot, this.#now);
    this.#tcp.close(slot);
    this.#services.release(slot);
    this.#histories.release(slot);
    this.#lifetimes.wheel.clear(slot);
    this.#table.remove(slot);
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
      this.#hand = slot + 1 === this.#table.capacity ? 0 : slot + 1;
      const last = this.isMarked(slot) ? Number.MAX_VALUE : this.lastTime(slot);
      if (last < since) {
        worst = slot;
        since = last;
      }
    }
    this.stats.evicted++;
    this.#end(worst);
  }

  /** The clock was set back: timers go by the new time. */
  #stepBack(now: number): void {
    this.#now = now;
    this.#lifetimes.wheel.rewind(now);
    for (let slot = 0; slot < this.#table.used; slot++)
      if (this.#table.isOpen(slot)) this.#lifetimes.schedule(slot);
  }
}
