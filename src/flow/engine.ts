import { DECODED_REASONS, Decoded, Decoder, IpProto } from '../packet/decode.ts';
import type { Packet } from '../packet/packet.ts';
import { Absorber, addPayload } from './absorb.ts';
import { Carriers, type InnerHost } from './carriers.ts';
import { Counts } from './counts.ts';
import { coldOf, Endpoints, endpointOf, peerOf, Tcp } from './endpoint.ts';
import { ExpectedConnections } from './expected.ts';
import { GapTracker } from './gaps.ts';
import { Histories, isRecorded } from './history.ts';
import { KEY4_BYTES, KEY6_BYTES, keyWord, writeGateKey } from './keys.ts';
import {
  C_UID,
  C_VLANS,
  CEP_BAD_CHECKSUMS,
  CF_ATTEMPT,
  CF_EXPIRE,
  CF_START,
  COLD_BYTES,
  COLD_DOUBLES,
  COLD_WORDS,
  DOUBLES,
  EP_ACK,
  EP_F_PAYLOAD,
  EP_LAST,
  EP_RETRANSMITS,
  EP_START,
  EP_ZERO_WINDOWS,
  F_DEADLINE,
  F_LAST,
  FLAGS,
  Flag,
  PROTOCOL_SHIFT,
  Seen,
  WORDS,
} from './layout.ts';
import { Lifetimes } from './lifetimes.ts';
import type { FlowEngineOptions } from './options.ts';
import { portSet } from './ports.ts';
import { RangePool } from './ranges.ts';
import { addressOf, connRecord, isMulticast, portOf } from './record.ts';
import { restoreFlow, saveFlow } from './saved.ts';
import { isDnsViolation } from './services/dns.ts';
import { completeOptions, type FlowSettings } from './settings.ts';
import { StreamNews, Streams } from './streams.ts';
import { FlowTable } from './table.ts';
import { TcpTracker } from './tcp.ts';
import { TcpFlag, type TcpHost } from './tcp-states.ts';
import { setTimeoutClass, Timeout } from './timeouts.ts';
import { Tunnels } from './tunnels.ts';
import type {
  ConnRecord,
  FlowEngineApi,
  FlowHooks,
  GateKey,
  ShuntEvent,
  Side,
  SideDelta,
  TcpSideState,
  TlsInfo,
} from './types.ts';
import { UidSource, uidText } from './uid.ts';

/** How many of a full table are looked at for the one that has been silent for longest. */
const EVICTION_SAMPLE = 64;
const RANGE_NODES = 1 << 15;
const LETTER_C = 0x43;
const LETTER_D = 0x44;
const INTERACTIVE = portSet([21, 22, 23, 513]);
/** Confirmed on any port (Zeek: conn/inactivity.zeek). */
const INTERACTIVE_SERVICE = /(^|,)(ssh|ftp)(,|$)/;
const PAYLOAD_WANTED = Flag.payloadWanted * 3;
const DNS = portSet([53, 137, 5353, 5355]);

/** What the engine has counted. */
export interface FlowStats {
  /** Packets that belong to a flow. */
  packets: number;
  /** Packets that belong to none, by reason: indices are those of `Decoded`. */
  ignored: Float64Array;
  opened: number;
  /** Ended early because the table was full. */
  evicted: number;
}

function exchange(doubles: Float64Array, a: number, b: number): void {
  const value = doubles[a];
  doubles[a] = doubles[b];
  doubles[b] = value;
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
  };

  readonly #hooks: FlowHooks;
  readonly #settings: FlowSettings;
  readonly #table: FlowTable;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #lifetimes: Lifetimes;
  readonly #decoder: Decoder;
  readonly #endpoints: Endpoints;
  readonly #counts: Counts;
  readonly #gaps: GapTracker;
  readonly #histories: Histories;
  readonly #tcp: TcpTracker;
  readonly #absorber: Absorber;
  readonly #streams: Streams;
  readonly #expected = new ExpectedConnections();
  readonly #uids: UidSource;
  readonly #tunnels: Tunnels;
  readonly #carriers: Carriers;
  readonly #keyWords = new Int32Array(KEY6_BYTES / 4);
  readonly #sought = new Uint8Array(KEY6_BYTES);
  readonly #soughtWords = new Int32Array(this.#sought.buffer);
  #now = Number.NEGATIVE_INFINITY;

  /** Errors: USAGE for options out of range. */
  constructor(options: FlowEngineOptions, hooks: FlowHooks) {
    const settings = completeOptions(options);
    this.#hooks = hooks;
    this.#settings = settings;
    this.#table = new FlowTable(settings.maxFlows, settings.seed);
    this.#words = this.#table.words;
    this.#doubles = this.#table.doubles;
    this.#decoder = new Decoder(this.#settings.checksums);
    this.#endpoints = new Endpoints(this.#table);
    this.#counts = new Counts(this.#table);
    this.#histories = new Histories(this.#table);
    this.#gaps = new GapTracker(this.#endpoints, new RangePool(RANGE_NODES), this.#histories);
    this.#tcp = new TcpTracker(this.#endpoints, this.#gaps, this.#histories, this.#settings.timeouts, this);
    this.#lifetimes = new Lifetimes(
      this.#table,
      this.#tcp,
      this.#settings.timeouts,
      hooks,
      (slot) => this.#end(slot),
      (slot) => INTERACTIVE_SERVICE.test(this.#streams.service(slot) ?? ''),
    );
    this.#absorber = new Absorber(this.#endpoints, this.#gaps, this.#counts, this.#histories, this.#tcp);
    this.#streams = new Streams(settings.serviceBufferBytes, settings.serviceBuffersBytes);
    this.#uids = new UidSource(settings.seed.subarray(3));
    this.#tunnels = new Tunnels(
      this.#words,
      this.#histories,
      () => uidText(this.#uids.next(), this.#uids.next(), this.#uids.next()),
      hooks.tunnel === undefined ? undefined : (record) => hooks.tunnel?.(record),
    );
    this.#carriers = new Carriers(this, this.#decoder, this.#table, this.#tunnels, settings.fragmentBytes);
  }

  process(packet: Packet): number {
    const ts = packet.ts;
    if (ts > this.#now) this.advance(ts);
    else if (ts < this.#now - this.#settings.clockStep) this.#stepBack(ts);
    const verdict = this.#decoder.decode(packet);
    if (verdict === Decoded.ok) {
      this.stats.packets++;
      return this.#account(packet);
    }
    const slot = this.#carriers.other(verdict, packet);
    if (slot < 0) this.stats.ignored[verdict]++;
    else this.stats.packets++;
    return slot;
  }

  /** InnerHost. */
  inner(packet: Packet): number {
    const verdict = this.#decoder.decode(packet);
    return verdict === Decoded.ok ? this.#account(packet) : this.#carriers.other(verdict, packet);
  }

  /** InnerHost. */
  whole(packet: Packet): number {
    const verdict = this.#decoder.decodeWhole(packet);
    return verdict === Decoded.ok ? this.#account(packet) : this.#carriers.other(verdict, packet);
  }

  /** Accounts the packet that was decoded just now; the slot of its flow, or of the innermost one inside. */
  #account(packet: Packet): number {
    const decoder = this.#decoder;
    const u8 = packet.u8;
    const protocol = decoder.protocol;
    const keyed = this.#settings.tunnelInKey;
    const vxlan = keyed ? this.#tunnels.vxlan : 0;
    const geneve = keyed ? this.#tunnels.geneve : 0;
    const narrow = decoder.family === 4 && vxlan === 0 && geneve === 0;
    const side = writeGateKey(
      this.#keyWords,
      decoder.family === 4 ? 4 : 16,
      u8,
      decoder.source,
      decoder.destination,
      decoder.sourcePort,
      decoder.destinationPort,
      this.#settings.vlanInKey ? keyWord(protocol, decoder.vlan, decoder.innerVlan) : protocol,
      vxlan,
      geneve,
    );
    const size = narrow ? KEY4_BYTES / 4 : KEY6_BYTES / 4;
    const table = this.#table;
    const hash = table.hash(this.#keyWords, 0, size);
    let slot = table.find(this.#keyWords, 0, size, hash);
    if (slot < 0 && this.#hooks.returning !== undefined && this.#returns(size))
      slot = table.find(this.#keyWords, 0, size, hash);
    if (slot >= 0) {
      // The wheel may be late by a fraction of a second; here it has to be to the point.
      if (this.#doubles[slot * DOUBLES + F_DEADLINE] <= this.#now && !this.#lifetimes.look(slot, this.#now)) {
        slot = -1;
      } else {
        if ((this.#words[slot * WORDS + FLAGS] & Flag.marked) !== 0)
          this.#hooks.beforePacket(slot, side, protocol === IpProto.tcp ? u8[decoder.transport + 13] : 0);
        if (
          protocol === IpProto.tcp &&
          (u8[decoder.transport + 13] & TcpFlag.syn) !== 0 &&
          this.#tcp.isReuse(slot, u8, decoder.transport)
        ) {
          this.#end(slot);
          slot = -1;
        }
      }
    }
    if (slot < 0) slot = this.#open(packet, side, size, hash);
    else if (this.#tunnels.depth > 0 || (this.#words[slot * WORDS + FLAGS] & Flag.tunnelled) !== 0)
      this.#tunnels.seen(slot, this.#now);
    switch (protocol) {
      case IpProto.tcp:
        this.#onTcp(packet, slot, side);
        break;
      case IpProto.udp:
        return this.#onUdp(packet, slot, side);
      case IpProto.icmp:
      case IpProto.icmpv6:
        this.#onIcmp(packet, slot, side);
        break;
      default:
        this.#doubles[slot * DOUBLES + F_LAST] = packet.ts;
        this.#counts.count(slot, side, this.#decoder.ipBytes);
        break;
    }
    return slot;
  }

  advance(now: number): void {
    if (!(now > this.#now)) return;
    this.#now = now;
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
    return this.#words[slot * WORDS + FLAGS] & (Flag.tlsConfirmed | Flag.tlsEstablished);
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
    return (this.#words[slot * WORDS + FLAGS] & Flag.origHigh) === 0 ? 0 : 1;
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
    // The gate finds no tunnel's inside, and a tunnel must not be dropped as a whole.
    if ((this.#words[slot * WORDS + FLAGS] & (Flag.carrier | Flag.tunnelled)) !== 0) return false;
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

  tls(slot: number): TlsInfo | undefined {
    return this.#streams.info(slot);
  }

  absorb(slot: number, sides: readonly [SideDelta, SideDelta], events: readonly ShuntEvent[]): void {
    const protocol = this.proto(slot);
    if (protocol === IpProto.tcp) {
      this.#absorber.tcp(slot, sides, events);
      // The recognizer missed what was dropped.
      if (sides[0].pkts + sides[1].pkts > 0) this.#stopServices(slot);
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
      this.#streams.service(slot),
    );
    if ((this.#words[slot * WORDS + FLAGS] & (Flag.carrier | Flag.tunnelled)) !== 0)
      this.#carriers.describe(slot, record);
    return record;
  }

  save(slot: number, out: Uint8Array): void {
    saveFlow(this.#table, slot, this.#histories, this.#streams, out);
  }

  restore(family: 4 | 6, key: Uint8Array, saved: Uint8Array): number {
    if (this.find(family, key, 0) >= 0) return -1;
    const size = (family === 4 ? KEY4_BYTES : KEY6_BYTES) / 4;
    const slot = this.#take(this.#soughtWords, size, this.#table.hash(this.#soughtWords, 0, size));
    restoreFlow(this.#table, slot, this.#histories, this.#streams, saved);
    this.stats.opened++;
    this.#lifetimes.schedule(slot);
    return slot;
  }

  /** Whether the flow of the packet in work has been restored just now. */
  #returns(size: number): boolean {
    const key = new Uint8Array(this.#keyWords.buffer, 0, size * 4);
    return this.#hooks.returning?.(size === KEY4_BYTES / 4 ? 4 : 6, key) ?? false;
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
    const at = slot * WORDS + FLAGS;
    this.#words[at] = this.#words[at] ^ Flag.origHigh;
  }

  /** TcpHost. */
  established(slot: number): void {
    const resp: Side = this.origSide(slot) === 0 ? 1 : 0;
    if (INTERACTIVE[portOf(this.#table, slot, resp)] === 1)
      setTimeoutClass(this.#words, slot, Timeout.tcpInteractive);
  }

  /** TcpHost. */
  timerSet(slot: number): void {
    this.#lifetimes.timerSet(slot);
  }

  #open(packet: Packet, side: Side, size: number, hash: number): number {
    const decoder = this.#decoder;
    const protocol = decoder.protocol;
    const slot = this.#take(this.#keyWords, size, hash);
    this.stats.opened++;
    const words = this.#words;
    const doubles = this.#doubles;
    const { cold, coldDoubles } = this.#table;
    const record = slot * COLD_DOUBLES;
    const at = slot * WORDS;
    words[at + FLAGS] = words[at + FLAGS] | (protocol << PROTOCOL_SHIFT);
    cold[slot * COLD_WORDS + C_VLANS] = decoder.vlan | (decoder.innerVlan << 16);
    for (let i = 0; i < 3; i++) cold[slot * COLD_WORDS + C_UID + i] = this.#uids.next();
    coldDoubles[record + CF_START] = packet.ts;
    doubles[slot * DOUBLES + F_LAST] = packet.ts;
    coldDoubles[record + CF_ATTEMPT] = Number.POSITIVE_INFINITY;
    coldDoubles[record + CF_EXPIRE] = Number.POSITIVE_INFINITY;
    if (side === 1) this.flip(slot);
    if (this.#settings.directions.beginsAtServer(decoder, packet.u8)) {
      this.flip(slot);
      this.#histories.flipped(slot);
    }
    if (this.#settings.services && (protocol === IpProto.tcp || protocol === IpProto.udp))
      words[at + FLAGS] = words[at + FLAGS] | PAYLOAD_WANTED;
    if (protocol === IpProto.tcp) {
      this.#tcp.open(slot);
      setTimeoutClass(words, slot, Timeout.tcpHandshake);
      if (this.#expected.size > 0) this.#meet(slot);
    } else {
      doubles[(endpointOf(slot, 0) >>> 1) + EP_F_PAYLOAD] = -1;
      doubles[(endpointOf(slot, 1) >>> 1) + EP_F_PAYLOAD] = -1;
      if (protocol === IpProto.udp) {
        setTimeoutClass(words, slot, Timeout.udp);
        const resp: Side = this.origSide(slot) === 0 ? 1 : 0;
        if (this.#settings.dns && DNS[portOf(this.#table, slot, resp)] === 1)
          coldDoubles[record + CF_EXPIRE] = packet.ts + this.#settings.timeouts.dns;
      } else {
        const icmp = protocol === IpProto.icmp || protocol === IpProto.icmpv6;
        setTimeoutClass(words, slot, icmp ? Timeout.icmp : Timeout.other);
      }
    }
    this.#lifetimes.schedule(slot);
    if (this.#tunnels.depth > 0) this.#tunnels.opened(slot, this.#now);
    return slot;
  }

  #onTcp(packet: Packet, slot: number, side: Side): void {
    const decoder = this.#decoder;
    const u8 = packet.u8;
    const header = (u8[decoder.transport + 12] >>> 4) * 4;
    if (header < 20 || header > decoder.captured) {
      this.#tcp.checkExpiry(slot);
      return;
    }
    if (this.#settings.checksums && !decoder.checksumHolds(packet)) {
      this.#corrupt(slot, side);
      this.#tcp.checkExpiry(slot);
      return;
    }
    this.#tcp.segment(slot, side, decoder, packet, header);
    this.#counts.count(slot, side, this.#decoder.ipBytes);
    if (this.#tcp.dataSeq > 0 && (this.#words[slot * WORDS + FLAGS] & (Flag.payloadWanted << side)) !== 0) {
      const peerBegun = (this.#words[slot * WORDS + FLAGS] & (Flag.payloadWanted << (1 - side))) === 0;
      const news = this.#streams.segment(
        slot,
        side,
        this.#tcp.isOrig(slot, side) ? 1 : 0,
        this.#respPort(slot),
        peerBegun,
        this.#tcp.dataSeq,
        u8,
        decoder.transport + header,
        decoder.transportBytes - header,
      );
      if (news !== 0) this.#onServices(slot, side, news);
    }
  }

  #respPort(slot: number): number {
    return portOf(this.#table, slot, this.origSide(slot) === 0 ? 1 : 0);
  }

  /** What the recognizers have found. */
  #onServices(slot: number, side: Side, news: number): void {
    const at = slot * WORDS + FLAGS;
    let flags = this.#words[at];
    if ((news & StreamNews.tls) !== 0) {
      flags |= Flag.tlsConfirmed;
      const tls = this.#streams.info(slot);
      if (tls !== undefined) tls.ts = this.lastTime(slot);
    }
    if ((news & StreamNews.established) !== 0) flags |= Flag.tlsEstablished;
    if ((news & StreamNews.begun) !== 0) flags |= PAYLOAD_WANTED;
    if ((news & StreamNews.sideDone) !== 0) flags &= ~(Flag.payloadWanted << side);
    if ((news & StreamNews.done) !== 0) flags &= ~PAYLOAD_WANTED;
    this.#words[at] = flags;
    if ((news & StreamNews.flip) !== 0) this.#turn(slot);
    if ((news & StreamNews.announced) !== 0) this.#expect(slot);
  }

  /** The originator was the server. What was counted so far stays with the originator, as in Zeek. */
  #turn(slot: number): void {
    const orig = this.origSide(slot);
    if (isMulticast(this.#table, slot, orig === 0 ? 1 : 0)) return;
    this.flip(slot);
    this.#histories.flipped(slot);
    this.#counts.exchange(slot);
    const payload = (endpointOf(slot, 0) >>> 1) + EP_F_PAYLOAD;
    if (this.proto(slot) !== IpProto.tcp)
      exchange(this.#doubles, payload, (endpointOf(slot, 1) >>> 1) + EP_F_PAYLOAD);
  }

  #expect(slot: number): void {
    for (const announced of this.#streams.announced) {
      const orig = this.origSide(slot);
      const side: Side = announced.byOrig === 1 ? orig : orig === 0 ? 1 : 0;
      const { at, bytes } = addressOf(this.#table, slot, side);
      this.#expected.add(announced, this.#table.coldBytes.slice(at, at + bytes), this.#now);
    }
  }

  /** A connection that another one has announced needs no look at its payload. */
  #meet(slot: number): void {
    const resp: Side = this.origSide(slot) === 0 ? 1 : 0;
    const { at, bytes } = addressOf(this.#table, slot, resp);
    const port = portOf(this.#table, slot, resp);
    const service = this.#expected.take(this.#table.coldBytes, at, bytes, port, this.#now);
    if (service === undefined) return;
    this.#streams.known(slot, service);
    const flags = slot * WORDS + FLAGS;
    this.#words[flags] = this.#words[flags] & ~PAYLOAD_WANTED;
  }

  #stopServices(slot: number): void {
    const at = slot * WORDS + FLAGS;
    const flags = this.#words[at];
    if ((flags & PAYLOAD_WANTED) === 0) return;
    this.#words[at] = flags & ~PAYLOAD_WANTED;
    this.#streams.stop(slot);
  }

  #onUdp(packet: Packet, slot: number, side: Side): number {
    const decoder = this.#decoder;
    const u8 = packet.u8;
    if (this.#settings.checksums && !decoder.checksumHolds(packet)) {
      this.#corrupt(slot, side);
      return slot;
    }
    this.#doubles[slot * DOUBLES + F_LAST] = packet.ts;
    this.#histories.once(slot, Seen.data, LETTER_D, this.#tcp.isOrig(slot, side));
    const at = decoder.transport;
    const bytes = ((u8[at + 4] << 8) | u8[at + 5]) - 8;
    addPayload(this.#doubles, endpointOf(slot, side), bytes);
    this.#counts.count(slot, side, this.#decoder.ipBytes);
    if (
      (this.#words[slot * WORDS + FLAGS] & (Flag.payloadWanted << side)) !== 0 &&
      bytes > 0 &&
      decoder.captured > 8
    ) {
      const fromOrig = this.#tcp.isOrig(slot, side) ? 1 : 0;
      // What a short capture has cut off is missing, but the beginning often tells.
      const there = Math.min(bytes, decoder.captured - 8);
      const news = this.#streams.datagram(slot, fromOrig, this.#respPort(slot), u8, at + 8, there);
      if (news !== 0) this.#onServices(slot, side, news);
      if ((news & StreamNews.sideDone) !== 0 && isDnsViolation(u8, at + 8, there))
        this.#table.coldDoubles[slot * COLD_DOUBLES + CF_EXPIRE] = Number.POSITIVE_INFINITY;
    }
    const inner = this.#carriers.udp(slot, packet, this.#tcp.isOrig(slot, side), this.#respPort(slot));
    return inner < 0 ? slot : inner;
  }

  #onIcmp(packet: Packet, slot: number, side: Side): void {
    const decoder = this.#decoder;
    if (this.#settings.checksums && !decoder.checksumHolds(packet)) return;
    this.#doubles[slot * DOUBLES + F_LAST] = packet.ts;
    addPayload(this.#doubles, endpointOf(slot, side), decoder.transportBytes - 8);
    if (decoder.captured >= decoder.transportBytes) this.#counts.count(slot, side, this.#decoder.ipBytes);
  }

  #corrupt(slot: number, side: Side): void {
    const { cold } = this.#table;
    const at = coldOf(endpointOf(slot, side)) + CEP_BAD_CHECKSUMS;
    const count = (cold[at] + 1) | 0;
    cold[at] = count;
    if (isRecorded(count)) this.#histories.add(slot, LETTER_C, this.#tcp.isOrig(slot, side));
  }

  #end(slot: number): void {
    this.#hooks.closed(slot);
    if ((this.#words[slot * WORDS + FLAGS] & (Flag.carrier | Flag.tunnelled)) !== 0)
      this.#carriers.ended(slot, this.#now);
    this.#tcp.close(slot);
    this.#streams.release(slot);
    this.#histories.release(slot);
    this.#lifetimes.wheel.clear(slot);
    this.#table.remove(slot);
  }

  /** The table is full: ends the flow that has been silent for longest among some, rather one without a mark. */
  #evict(): void {
    let worst = -1;
    let since = Number.POSITIVE_INFINITY;
    for (let i = 0; i < EVICTION_SAMPLE; i++) {
      const slot = (this.#uids.next() >>> 0) % this.#table.capacity;
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
