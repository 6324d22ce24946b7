import type { PacketBlock } from '../packet/block.ts';
import type { Packet } from '../packet/packet.ts';

/**
 * The contract between the flow engine and what composes it (src/sensor): pure types.
 *
 * A flow lives in a slot (a small integer, reused after it has closed). Side 0 is the endpoint with the
 * lower (address, port) in network byte order, side 1 the other: the gate's order (ADR 0001). Originator and
 * responder are a property of the flow that a flip may exchange; `origSide` says which side the originator is.
 */

/** 0: from the lower endpoint to the higher one; 1: back. */
export type Side = 0 | 1;

/** One letter that the gate saw happen, in order of happening; `side` is who sent the packet. */
export interface ShuntEvent {
  letter: 'D' | 'A' | 'T' | 'W';
  side: Side;
}

/** Where in memory an address is. */
export interface FlowAddress {
  u8: Uint8Array;
  at: number;
  bytes: 4 | 16;
}

/** What the gate counted of one direction since the last time it was absorbed: differences, not totals. */
export interface SideDelta {
  pkts: number;
  /** Sum of IP total lengths. */
  ipBytes: number;
  /** UDP and ICMP: payload bytes. TCP: ignored (payload comes from sequence numbers). */
  payloadBytes: number;
  /** TCP: highest sequence end and acknowledgement seen from this side, absolute 32-bit values; -1: none. */
  seq: number;
  ack: number;
  /** TCP: what follows this sequence number, up to `seq`, was not seen, absolute as they are; -1: nothing is known to be missing. */
  edge: number;
  /** TCP: how many times the highest sequence wrapped past 2^32 inside the shunted phase. */
  seqWraps: number;
  /** TCP: occurrences of retransmission (T) and zero window (W). */
  retransmits: number;
  zeroWindows: number;
  /** Time of the last dropped packet, seconds since the epoch; 0: none. */
  last: number;
}

/** One connection as it is written to conn.log; undefined means that Zeek would leave it unset. */
export interface ConnRecord {
  ts: number;
  uid: string;
  origHost: string;
  origPort: number;
  respHost: string;
  respPort: number;
  proto: 'tcp' | 'udp' | 'icmp' | 'unknown_transport';
  ipProto: number;
  service: string | undefined;
  duration: number | undefined;
  origBytes: number | undefined;
  respBytes: number | undefined;
  connState: string;
  localOrig: boolean;
  localResp: boolean;
  missedBytes: number;
  history: string | undefined;
  origPkts: number;
  origIpBytes: number;
  respPkts: number;
  respIpBytes: number;
  tunnelParents: string[] | undefined;
  vlan: number | undefined;
  innerVlan: number | undefined;
  /** Network identifiers of the innermost VXLAN and GENEVE tunnels that were first around it, a mirror's included. */
  vxlanVni?: number | undefined;
  geneveVni?: number | undefined;
  /** Of its first packet. */
  gwlb?: GwlbInfo | undefined;
}

/** What AWS Gateway Load Balancer says of a packet in its GENEVE options. */
export interface GwlbInfo {
  /** VPC endpoint that it came through: `vpce-0…`. */
  endpoint: string;
  /** 16 hexadecimal digits. */
  attachment: string;
  /** The same for both directions of a flow. */
  cookie: number;
}

/** Kinds of tunnels, and what happens to them, as Zeek's tunnel.log names them (behind `Tunnel::`). */
export type { TunnelPorts } from '../base/tunnels.ts';

/** The tunnels around a flow as of the latest packet of each side. */
export interface TunnelsAround {
  /** By side: names them all for the gate; see tie.ts. */
  tie: [number, number];
  /** Slots of the flows that tunnels over UDP are; -1: it has ended since. */
  carriers: readonly number[];
  /** Of those that are no flows, both addresses as they stand at the beginning of a key: 2 words of IPv4, 8 of IPv6. */
  ends: readonly Int32Array[];
}

export type TunnelType = 'VXLAN' | 'GENEVE' | 'GRE' | 'IP' | 'TEREDO' | 'GTPv1' | 'AYIYA';
/** It is around a connection for the first time; its own connection has ended; an hour without a new connection. */
export type TunnelAction = 'DISCOVER' | 'CLOSE' | 'EXPIRE';

/** One line of tunnel.log. */
export interface TunnelRecord {
  ts: number;
  /** Of the tunnel: that of its connection, save for GRE and IP in IP. */
  uid: string;
  origHost: string;
  /** Ports are 0 for GRE and IP in IP. */
  origPort: number;
  respHost: string;
  respPort: number;
  type: TunnelType;
  action: TunnelAction;
}

/** What the sensor hooks into the engine. The engine calls none of them for a flow without a mark, save `closed`. */
export interface FlowHooks {
  /** A packet of a marked flow is about to be accounted; the sensor may absorb what the gate holds first. */
  beforePacket(slot: number, side: Side, tcpFlags: number, now: number): void;
  /** A timer is about to end a marked flow at packet time `now`; false keeps it (the engine asks again later). */
  mayExpire(slot: number, now: number): boolean;
  /** The flow has ended and its slot is about to be freed: read the record now. */
  closed(slot: number): void;
  /** Something happened to a tunnel that was taken apart. */
  tunnel?(record: TunnelRecord): void;
  /**
   * A packet has come of a flow that is not in the table. True: `restore` has put it there just now. Set only as long as
   * there are flows to restore.
   */
  returning?: ((family: 4 | 6, key: Uint8Array) => boolean) | undefined;
}

/** The handshake as the TLS recognizer saw it; kept by the engine per flow, readable until `closed` returns. */
export interface TlsInfo {
  /** Time of the packet that made it sure; 0 before. */
  ts: number;
  /** 0x0303 is TLS 1.2, 0x0304 TLS 1.3, 0xfefd DTLS 1.2; 0 while unknown. */
  version: number;
  cipher: number;
  /** Named group of the key exchange, where the ServerHello or ServerKeyExchange told; 0 otherwise. */
  curve: number;
  serverName: string | undefined;
  alpn: string | undefined;
  established: boolean;
  resumed: boolean;
  /** What was sent in the clear, a letter each, those of the client in upper case (Zeek: ssl_history). */
  history: string;
  /** Description of the last alert in the clear; -1 for none. */
  lastAlert: number;
  /** Fingerprints of the hellos: JA3 and JA3S (MD5), JA4. */
  ja3: string | undefined;
  ja3s: string | undefined;
  ja4: string | undefined;
}

/** The gate's key for a flow, and which side its originator is. */
export interface GateKey {
  /** 4: 16 bytes, 6: 48 bytes (ADR 0001). */
  family: 4 | 6;
  bytes: Uint8Array;
}

/** TCP state of one side as the gate needs it to take over. */
export interface TcpSideState {
  /** Highest sequence end seen from this side, absolute, 32 bits; -1 when it has sent nothing. */
  seq: number;
  /** Highest acknowledgement seen from this side, absolute, 32 bits; -1 when none. */
  ack: number;
  /** Occurrences of T and W so far. */
  retransmits: number;
  zeroWindows: number;
}

/** What is known of the content of flows, by slot. */
export interface FlowContent {
  /** Confirmed services, joined by commas. */
  services(slot: number): string | undefined;
  tls(slot: number): TlsInfo | undefined;
  /** HTTP: host of the first request that named one. */
  host(slot: number): string | undefined;
  /** Payload is looked at: more may become known. */
  isLearning(slot: number): boolean;
  /** Packets of both sides when TLS or SSH was established; undefined before. */
  establishedAt(slot: number): number | undefined;
  /** No service, and the first payload of both sides looks random (where that is looked at). */
  isOpaque(slot: number): boolean;
}

/** What src/sensor uses of the flow engine (src/flow/engine.ts implements it). */
export interface FlowEngineApi {
  /** Accounts one packet; the slot of its flow, or -1 when it belongs to none. Never throws, whatever the bytes. */
  process(packet: Packet): number;
  /** Accounts the first `count` of these packets one after the other, quicker than one by one. */
  processBatch(packets: readonly Packet[], count: number): void;
  /** Likewise for the frames of a block. */
  processBlock(block: PacketBlock): void;
  /** Runs the timers up to this time (seconds since the epoch). `process` does so by itself with packet time. */
  advance(now: number): void;
  /** Ends every flow, in the order of the table; `closed` is called for each. */
  finish(): void;

  readonly active: number;
  /** A number that changes each time the slot is used for another flow. */
  generation(slot: number): number;
  isOpen(slot: number): boolean;
  setMark(slot: number, marked: boolean): void;
  isMarked(slot: number): boolean;

  key(slot: number): GateKey;
  /** Finds the flow that has this gate key, or -1. `bytes` may be a view into a larger buffer at `offset`. */
  find(family: 4 | 6, bytes: Uint8Array, offset: number): number;
  origSide(slot: number): Side;
  proto(slot: number): number;
  /** Bits of `FlowFlag` (src/flow/layout.ts): cheap enough to test after each packet. */
  flags(slot: number): number;
  /** IP bytes and packets of both sides as accounted so far (absorbed ones included). */
  ipBytes(slot: number, side: Side): number;
  packets(slot: number, side: Side): number;
  lastTime(slot: number): number;
  /** Seconds of silence after which this flow would be ended now. */
  idleTimeout(slot: number): number;
  tcpSide(slot: number, side: Side, out: TcpSideState): void;
  /**
   * TCP: both sides heard, and neither has sent FIN or RST. Other protocols: true. Inside of tunnels only where the gate
   * looks into all of them; never a tunnel itself.
   */
  isShuntable(slot: number): boolean;
  /** The tunnels around a flow, of which both `tie`s are 0 when there are none; and whether there were any at any time. */
  tunnelsAround(slot: number): TunnelsAround;
  isTunnelled(slot: number): boolean;
  tls(slot: number): TlsInfo | undefined;
  readonly content: FlowContent;
  /** What was learned (FlowFlag.news) has been looked at. */
  takeNews(slot: number): void;
  /** FlowFlag.settled: kept for whoever decides over flows. */
  setSettled(slot: number, settled: boolean): void;
  unsettleAll(): void;
  /** Valid until the flow ends. */
  address(slot: number, side: Side): FlowAddress;
  port(slot: number, side: Side): number;
  startTime(slot: number): number;
  /** Letters as conn.log has them; empty for none. */
  history(slot: number): string;
  /** A number of the flow, of 32 bits: the same as long as the engine lives. */
  hash(slot: number): number;
  /** The name that DNS answered the responder's address for; undefined where that is not kept (`dnsNames`). */
  dnsName(slot: number): string | undefined;
  /**
   * Local bypass: from now on the flow is only counted. Its content is not looked at any more, nor are the checksums of UDP
   * datagrams and of segments that go on where the last one ended; its record is the same as without, save that a bad
   * checksum there is not known (C). False for what cannot be: tunnels, and protocols other than TCP and UDP.
   */
  bypass(slot: number): boolean;
  isBypassed(slot: number): boolean;

  /** Takes in what the gate dropped: counts, sequence state, letters in order, time. */
  absorb(slot: number, sides: readonly [SideDelta, SideDelta], events: readonly ShuntEvent[]): void;
  record(slot: number): ConnRecord;
  /**
   * The record as a line of JSON with its newline, as conn.log has it without optional columns, written to out[at…] where
   * 2048 bytes are free: bytes written, or 0 when it has to be made from `record`, which takes longer. `more`: further
   * fields in JSON, each with a comma before it.
   */
  line(slot: number, out: Uint8Array, at: number, more?: string): number;

  /** Writes SAVED_FLOW_BYTES to `out`, from which another process with the same engine can go on with the flow. */
  save(slot: number, out: Uint8Array): void;
  /**
   * Opens the flow with this gate key as it was saved (`isSavedFlow`); its slot, or -1 when there is one with this key
   * already. Its timers go on from its last packet.
   */
  restore(family: 4 | 6, key: Uint8Array, saved: Uint8Array): number;
}
