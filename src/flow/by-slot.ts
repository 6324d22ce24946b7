import { IpProto } from '../packet/decode.ts';
import { Counts } from './counts.ts';
import { DnsNames } from './dns-names.ts';
import { Endpoints, endpointOf, peerOf, Tcp } from './endpoint.ts';
import { FlowServices } from './flow-services.ts';
import { GapTracker } from './gaps.ts';
import { GwlbNotes } from './gwlb-notes.ts';
import { Histories } from './history.ts';
import { KEY4_BYTES, KEY6_BYTES } from './keys.ts';
import {
  C_HASH,
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
  F_LAST,
  FLAGS,
  Flag,
  FlowFlag,
  PROTOCOL_SHIFT,
  WORDS,
} from './layout.ts';
import { RangePool } from './ranges.ts';
import { addressOf, origOf, peerSide, portOf } from './record.ts';
import { saveFlow } from './saved.ts';
import type { FlowSettings } from './settings.ts';
import { FlowTable } from './table.ts';
import { tieOf } from './tie.ts';
import { Tunnels } from './tunnels.ts';
import type {
  FlowAddress,
  FlowContent,
  FlowHooks,
  GateKey,
  Side,
  TcpSideState,
  TlsInfo,
  TunnelsAround,
} from './types.ts';
import { UidSource, uidText } from './uid.ts';

const RANGE_NODES = 1 << 15;

/** What `flags` shows. */
const FLOW_FLAGS = Object.values(FlowFlag).reduce((bits, bit) => bits | bit, 0);

/** Heard, and neither closed nor reset: also when it was there before us (partial). */
const isTalking = (state: number): boolean => state === Tcp.established || state === Tcp.partial;

/**
 * What an engine keeps of its flows, by slot: what is read of them, and what those who use the engine mark them with. See
 * FlowEngineApi. Nothing here depends on the packet in work.
 */
export class FlowsBySlot {
  protected readonly settings: FlowSettings;
  protected readonly hooks: FlowHooks;
  protected readonly table: FlowTable;
  protected readonly words: Int32Array;
  protected readonly doubles: Float64Array;
  protected readonly endpoints: Endpoints;
  /** What was missed, see Loss. */
  readonly losses: Float64Array;
  protected readonly counts: Counts;
  protected readonly histories: Histories;
  protected readonly gaps: GapTracker;
  protected readonly services: FlowServices;
  protected readonly dnsNames: DnsNames | undefined;
  protected readonly uids: UidSource;
  protected readonly tunnels: Tunnels;
  protected readonly gwlb: GwlbNotes;
  /** The key that `find` was given last. */
  protected readonly soughtWords: Int32Array;
  readonly #sought = new Uint8Array(KEY6_BYTES);

  constructor(settings: FlowSettings, hooks: FlowHooks) {
    this.settings = settings;
    this.hooks = hooks;
    this.table = new FlowTable(settings.maxFlows, settings.seed);
    this.words = this.table.words;
    this.doubles = this.table.doubles;
    this.endpoints = new Endpoints(this.table);
    this.losses = this.endpoints.losses;
    this.counts = new Counts(this.table);
    this.histories = new Histories(this.table);
    this.gaps = new GapTracker(this.endpoints, new RangePool(RANGE_NODES), this.histories);
    this.services = new FlowServices(this.table, this.counts, this.histories, settings);
    if (settings.dnsNames > 0) this.dnsNames = new DnsNames(settings.dnsNames);
    this.uids = new UidSource(settings.seed.subarray(3));
    this.tunnels = new Tunnels(
      this.table,
      this.histories,
      () => uidText(this.uids.next(), this.uids.next(), this.uids.next()),
      hooks.tunnel === undefined ? undefined : (record) => hooks.tunnel?.(record),
    );
    this.gwlb = new GwlbNotes(settings.maxFlows);
    this.soughtWords = new Int32Array(this.#sought.buffer);
  }

  /** Slots: 0 to one less than this. */
  get capacity(): number {
    return this.settings.maxFlows;
  }

  get active(): number {
    return this.table.active;
  }

  generation(slot: number): number {
    return this.table.generation(slot);
  }

  isOpen(slot: number): boolean {
    return this.table.isOpen(slot);
  }

  setMark(slot: number, marked: boolean): void {
    const at = slot * WORDS + FLAGS;
    const flags = this.words[at];
    this.words[at] = marked ? flags | Flag.marked : flags & ~Flag.marked;
  }

  isMarked(slot: number): boolean {
    return (this.words[slot * WORDS + FLAGS] & Flag.marked) !== 0;
  }

  flags(slot: number): number {
    return this.words[slot * WORDS + FLAGS] & FLOW_FLAGS;
  }

  takeNews(slot: number): void {
    const at = slot * WORDS + FLAGS;
    this.words[at] = this.words[at] & ~Flag.news;
  }

  setSettled(slot: number, settled: boolean): void {
    const at = slot * WORDS + FLAGS;
    this.words[at] = settled ? this.words[at] | Flag.settled : this.words[at] & ~Flag.settled;
  }

  unsettleAll(): void {
    for (let at = FLAGS; at < this.words.length; at += WORDS) this.words[at] = this.words[at] & ~Flag.settled;
  }

  bypass(slot: number): boolean {
    const at = slot * WORDS + FLAGS;
    const flags = this.words[at];
    const protocol = flags >>> PROTOCOL_SHIFT;
    if ((flags & Flag.carrier) !== 0 || (protocol !== IpProto.tcp && protocol !== IpProto.udp)) return false;
    this.services.stop(slot);
    this.words[at] = this.words[at] | Flag.bypassed;
    return true;
  }

  isBypassed(slot: number): boolean {
    return (this.words[slot * WORDS + FLAGS] & Flag.bypassed) !== 0;
  }

  key(slot: number): GateKey {
    const wide = (this.words[slot * WORDS + FLAGS] & Flag.wide) !== 0;
    const at = slot * COLD_BYTES;
    return {
      family: wide ? 6 : 4,
      bytes: this.table.coldBytes.slice(at, at + (wide ? KEY6_BYTES : KEY4_BYTES)),
    };
  }

  find(family: 4 | 6, bytes: Uint8Array, offset: number): number {
    const size = family === 4 ? KEY4_BYTES : KEY6_BYTES;
    // Not the key of the packet: a hook may look for another flow while that one is in work.
    for (let i = 0; i < size; i++) this.#sought[i] = bytes[offset + i] ?? 0;
    const words = this.soughtWords;
    return this.table.find(words, 0, size / 4, this.table.hash(words, 0, size / 4));
  }

  origSide(slot: number): Side {
    return origOf(this.table, slot);
  }

  proto(slot: number): number {
    return this.words[slot * WORDS + FLAGS] >>> PROTOCOL_SHIFT;
  }

  address(slot: number, side: Side): FlowAddress {
    return { u8: this.table.coldBytes, ...addressOf(this.table, slot, side) };
  }

  port(slot: number, side: Side): number {
    return portOf(this.table, slot, side);
  }

  startTime(slot: number): number {
    return this.table.coldDoubles[slot * COLD_DOUBLES + CF_START];
  }

  history(slot: number): string {
    return this.histories.text(slot);
  }

  lastTime(slot: number): number {
    return this.doubles[slot * DOUBLES + F_LAST];
  }

  hash(slot: number): number {
    return this.table.cold[slot * COLD_WORDS + C_HASH] >>> 0;
  }

  ipBytes(slot: number, side: Side): number {
    return this.counts.ipBytes(slot, side);
  }

  packets(slot: number, side: Side): number {
    return this.counts.packets(slot, side);
  }

  tcpSide(slot: number, side: Side, out: TcpSideState): void {
    const ep = endpointOf(slot, side);
    const peer = peerOf(ep);
    const words = this.words;
    out.seq = this.endpoints.state(ep) === Tcp.inactive ? -1 : words[ep + EP_LAST] >>> 0;
    out.ack = words[peer + EP_ACK] === words[peer + EP_START] ? -1 : words[peer + EP_ACK] >>> 0;
    out.retransmits = words[ep + EP_RETRANSMITS];
    out.zeroWindows = words[ep + EP_ZERO_WINDOWS];
  }

  isShuntable(slot: number): boolean {
    const flags = this.words[slot * WORDS + FLAGS];
    // A tunnel must not be dropped as a whole.
    if ((flags & Flag.carrier) !== 0) return false;
    if ((flags & Flag.tunnelled) !== 0 && !this.tunnels.isSettled(slot, this.settings.shuntInside))
      return false;
    if (this.proto(slot) !== IpProto.tcp) return true;
    const a = endpointOf(slot, 0);
    const b = peerOf(a);
    return (
      isTalking(this.endpoints.state(a)) &&
      isTalking(this.endpoints.state(b)) &&
      // What lies above a hole may still turn out to be a gap: that has to be seen.
      !this.gaps.hasHole(a) &&
      !this.gaps.hasHole(b)
    );
  }

  tunnelsAround(slot: number): TunnelsAround {
    const stacks = this.tunnels.around(slot);
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
    return (this.words[slot * WORDS + FLAGS] & Flag.tunnelled) !== 0;
  }

  get content(): FlowContent {
    return this.services;
  }

  tls(slot: number): TlsInfo | undefined {
    return this.services.tls(slot);
  }

  dnsName(slot: number): string | undefined {
    if (this.dnsNames === undefined) return undefined;
    const { at, bytes } = addressOf(this.table, slot, peerSide(this.origSide(slot)));
    return this.dnsNames.nameOf(this.table.coldBytes, at, bytes, this.startTime(slot));
  }

  save(slot: number, out: Uint8Array): void {
    saveFlow(this.table, slot, this.histories, this.services.streams, out);
  }
}
