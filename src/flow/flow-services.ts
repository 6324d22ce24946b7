import { IpProto } from '../packet/decode.ts';
import type { Counts } from './counts.ts';
import { endpointOf } from './endpoint.ts';
import { ExpectedConnections } from './expected.ts';
import type { Histories } from './history.ts';
import { CF_EXPIRE, COLD_DOUBLES, DOUBLES, EP_F_PAYLOAD, F_LAST, FLAGS, Flag, WORDS } from './layout.ts';
import { LEAST_RANDOM_BYTES, looksRandom } from './randomness.ts';
import { addressOf, flipped, isMulticast, origOf, peerSide, portOf, protocolOf } from './record.ts';
import { isDnsViolation } from './services/dns.ts';
import type { FlowSettings } from './settings.ts';
import { StreamNews, Streams } from './streams.ts';
import type { FlowTable } from './table.ts';
import type { FlowContent, Side, TlsInfo } from './types.ts';

const PAYLOAD_WANTED = Flag.payloadWanted * 3;
/** Confirmed on any port (Zeek: conn/inactivity.zeek). */
const INTERACTIVE = /(^|,)(ssh|ftp)(,|$)/;

/** Bits by slot: the first payload of a side was looked at; it looks random. */
const LOOKED = 1;
const RANDOM = 4;

/** The payload of flows and the services that are recognized in it, and what that changes of the flows. */
export class FlowServices implements FlowContent {
  readonly streams: Streams;
  readonly #table: FlowTable;
  readonly #words: Int32Array;
  readonly #counts: Counts;
  readonly #histories: Histories;
  readonly #expected = new ExpectedConnections();
  readonly #established = new Map<number, number>();
  readonly #random: Uint8Array | undefined;

  constructor(table: FlowTable, counts: Counts, histories: Histories, settings: FlowSettings) {
    this.streams = new Streams(settings.serviceBufferBytes, settings.serviceBuffersBytes);
    this.#random = settings.randomness ? new Uint8Array(settings.maxFlows) : undefined;
    this.#table = table;
    this.#words = table.words;
    this.#counts = counts;
    this.#histories = histories;
  }

  /** A flow begins of which payload is looked at. */
  begin(slot: number, now: number): void {
    const at = slot * WORDS + FLAGS;
    this.#words[at] = this.#words[at] | PAYLOAD_WANTED;
    if (this.#expected.size > 0 && protocolOf(this.#table, slot) === IpProto.tcp) this.#meet(slot, now);
  }

  /** The flow has ended. */
  release(slot: number): void {
    this.streams.release(slot);
    this.#established.delete(slot);
    if (this.#random !== undefined) this.#random[slot] = 0;
  }

  services(slot: number): string | undefined {
    return this.streams.service(slot);
  }

  tls(slot: number): TlsInfo | undefined {
    return this.streams.info(slot);
  }

  host(slot: number): string | undefined {
    return this.streams.host(slot);
  }

  isLearning(slot: number): boolean {
    return (this.#words[slot * WORDS + FLAGS] & PAYLOAD_WANTED) !== 0;
  }

  establishedAt(slot: number): number | undefined {
    return this.#established.get(slot);
  }

  isOpaque(slot: number): boolean {
    return this.#random?.[slot] === (LOOKED | RANDOM) * 3 && this.streams.service(slot) === undefined;
  }

  wants(slot: number, side: Side): boolean {
    return (this.#words[slot * WORDS + FLAGS] & (Flag.payloadWanted << side)) !== 0;
  }

  /** TCP payload that is wanted; `seq` is relative. */
  segment(
    slot: number,
    side: Side,
    seq: number,
    u8: Uint8Array,
    offset: number,
    bytes: number,
    now: number,
  ): void {
    if (this.#random !== undefined) this.#look(slot, side, u8, offset, bytes);
    const orig = origOf(this.#table, slot);
    const news = this.streams.segment(
      slot,
      side,
      side === orig ? 1 : 0,
      portOf(this.#table, slot, peerSide(orig)),
      !this.wants(slot, peerSide(side)),
      seq,
      u8,
      offset,
      bytes,
    );
    if (news !== 0) this.#learn(slot, side, news, now);
  }

  /** The payload of a datagram that is wanted. */
  datagram(slot: number, side: Side, u8: Uint8Array, offset: number, bytes: number, now: number): void {
    if (this.#random !== undefined) this.#look(slot, side, u8, offset, bytes);
    const orig = origOf(this.#table, slot);
    const port = portOf(this.#table, slot, peerSide(orig));
    const news = this.streams.datagram(slot, side === orig ? 1 : 0, port, u8, offset, bytes);
    if (news !== 0) this.#learn(slot, side, news, now);
    if ((news & StreamNews.sideDone) !== 0 && isDnsViolation(u8, offset, bytes))
      this.#table.coldDoubles[slot * COLD_DOUBLES + CF_EXPIRE] = Number.POSITIVE_INFINITY;
  }

  /** Payload is missing from here on: what was found out stays. */
  stop(slot: number): void {
    const at = slot * WORDS + FLAGS;
    const flags = this.#words[at];
    if ((flags & PAYLOAD_WANTED) === 0) return;
    this.#words[at] = (flags & ~PAYLOAD_WANTED) | Flag.news;
    this.streams.stop(slot);
  }

  /** People sit at this one: it may be silent for long. */
  isInteractive(slot: number): boolean {
    const service = this.streams.service(slot);
    return service !== undefined && INTERACTIVE.test(service);
  }

  #look(slot: number, side: Side, u8: Uint8Array, offset: number, bytes: number): void {
    const random = this.#random as Uint8Array;
    const looked = LOOKED << side;
    if ((random[slot] & looked) !== 0 || bytes < LEAST_RANDOM_BYTES) return;
    random[slot] |= looksRandom(u8, offset, bytes) ? looked | (RANDOM << side) : looked;
    const at = slot * WORDS + FLAGS;
    this.#words[at] = this.#words[at] | Flag.news;
  }

  /** What the recognizers have found. */
  #learn(slot: number, side: Side, news: number, now: number): void {
    const at = slot * WORDS + FLAGS;
    let flags = this.#words[at] | Flag.news;
    if ((news & StreamNews.tls) !== 0) {
      flags |= Flag.tlsConfirmed;
      const tls = this.streams.info(slot);
      if (tls !== undefined) tls.ts = this.#table.doubles[slot * DOUBLES + F_LAST];
    }
    if ((news & StreamNews.established) !== 0) flags |= Flag.tlsEstablished;
    if ((news & StreamNews.encrypted) !== 0) flags |= Flag.sshEncrypted;
    if ((news & (StreamNews.established | StreamNews.encrypted)) !== 0 && !this.#established.has(slot))
      this.#established.set(slot, this.#counts.packets(slot, 0) + this.#counts.packets(slot, 1));
    if ((news & StreamNews.begun) !== 0) flags |= PAYLOAD_WANTED;
    if ((news & StreamNews.sideDone) !== 0) flags &= ~(Flag.payloadWanted << side);
    if ((news & StreamNews.done) !== 0) flags &= ~PAYLOAD_WANTED;
    this.#words[at] = flags;
    if ((news & StreamNews.flip) !== 0) this.#turn(slot);
    if ((news & StreamNews.announced) !== 0) this.#expect(slot, now);
  }

  /** The originator was the server. What was counted so far stays with the originator, as in Zeek. */
  #turn(slot: number): void {
    if (isMulticast(this.#table, slot, peerSide(origOf(this.#table, slot)))) return;
    flipped(this.#table, slot);
    this.#histories.flipped(slot);
    this.#counts.exchange(slot);
    if (protocolOf(this.#table, slot) === IpProto.tcp) return;
    const { doubles } = this.#table;
    const low = (endpointOf(slot, 0) >>> 1) + EP_F_PAYLOAD;
    const high = (endpointOf(slot, 1) >>> 1) + EP_F_PAYLOAD;
    const payload = doubles[low];
    doubles[low] = doubles[high];
    doubles[high] = payload;
  }

  #expect(slot: number, now: number): void {
    for (const announced of this.streams.announced) {
      const orig = origOf(this.#table, slot);
      const { at, bytes } = addressOf(this.#table, slot, announced.byOrig === 1 ? orig : peerSide(orig));
      this.#expected.add(announced, this.#table.coldBytes.slice(at, at + bytes), now);
    }
  }

  /** A connection that another one has announced needs no look at its payload. */
  #meet(slot: number, now: number): void {
    const resp = peerSide(origOf(this.#table, slot));
    const { at, bytes } = addressOf(this.#table, slot, resp);
    const port = portOf(this.#table, slot, resp);
    const service = this.#expected.take(this.#table.coldBytes, at, bytes, port, now);
    if (service === undefined) return;
    this.streams.known(slot, service);
    const flags = slot * WORDS + FLAGS;
    this.#words[flags] = this.#words[flags] & ~PAYLOAD_WANTED;
  }
}
