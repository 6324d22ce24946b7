/**
 * A flow record has two parts, in one ArrayBuffer each. What nearly every packet of an established connection touches
 * are the 128 bytes (two cache lines) of the hot part; the 256 bytes of the cold part are for packets that begin, end
 * or are out of step, and for the log. Names of 32-bit words are indices into the Int32 view of their part (record
 * base: slot * WORDS, slot * COLD_WORDS), those with an F_ into its Float64 view (slot * DOUBLES, slot * COLD_DOUBLES);
 * C_ stands for the cold part.
 *
 *   hot line 0   IPv4 key 16 · flags · letters seen · time of the last packet · deadline · packets and IP bytes
 *   hot line 1   TCP endpoints of side 0 and side 1 (other protocols: payload bytes)
 *   cold line 0  key 48 · hash · generation · VLANs
 *   cold line 1  rest of the endpoint of side 0, missed bytes
 *   cold line 2  rest of the endpoint of side 1, ids of tunnels
 *   cold line 3  start · timers · uid · history and its length
 */
export const RECORD_BYTES = 128;
export const WORDS = RECORD_BYTES / 4;
export const DOUBLES = RECORD_BYTES / 8;
export const COLD_BYTES = 256;
export const COLD_WORDS = COLD_BYTES / 4;
export const COLD_DOUBLES = COLD_BYTES / 8;

/** The key again when it has 16 bytes: what a look-up compares. */
export const KEY = 0;
export const FLAGS = 4;
/** Bits of `Seen`: originator's letters in the lower half, responder's shifted by 16. They stay where they are in a flip. */
export const SEEN = 5;
export const F_LAST = 3;
/** When the record has to be looked at; never later than the first timer of the flow. */
export const F_DEADLINE = 4;
/** Of side 0, modulo 2^32 (see CEP_PACKETS_HIGH); side 1 follows. */
export const PACKETS = 10;
/** Of side 0; side 1 follows. */
export const F_IP_BYTES = 6;

/** First word of the endpoint of side 0; side 1 follows. Bit 3 of the index is clear in the first and set in the second. */
export const ENDPOINT = 16;
export const ENDPOINT_WORDS = 8;
// Offsets from the endpoint's first word.
export const EP_STATE = 0;
/** Sequence number of the SYN, or one before the first byte seen. */
export const EP_START = 1;
/** Highest sequence end that it has sent, and how often that passed 2^32. */
export const EP_LAST = 2;
export const EP_LAST_WRAPS = 3;
/** Highest acknowledgement that its peer has sent. */
export const EP_ACK = 4;
export const EP_ACK_WRAPS = 5;
export const EP_RETRANSMITS = 6;
export const EP_ZERO_WINDOWS = 7;
/** Protocols other than TCP: payload bytes, -1 before the first packet (double, in place of EP_LAST). */
export const EP_F_PAYLOAD = 1;

/** The key: 16 or 48 bytes. */
export const C_KEY = 0;
export const C_HASH = 12;
export const C_GENERATION = 13;
/** VLAN id | inner VLAN id << 16 of the first packet. */
export const C_VLANS = 15;

/** First word of the rest of the endpoint of side 0; side 1 follows. See `coldOf`. */
export const C_ENDPOINT = 16;
export const C_ENDPOINT_WORDS = 16;
// Offsets from its first word.
/** Everything below this relative sequence number has been seen, or given up as missed. Not valid with Ep.inStep. */
export const CEP_F_SEEN = 0;
/** Everything below this has been acknowledged. Not valid with Ep.inStep. */
export const CEP_F_TRIM = 1;
/** Relative sequence number behind the FIN. */
export const CEP_F_FIN = 2;
/** First range above a hole in the range pool, 0 for none. */
export const CEP_RANGES = 6;
export const CEP_GAPS = 7;
/** Relative sequence numbers (lower 32 bits) of the last SYN, FIN and RST. */
export const CEP_LAST_SYN = 8;
export const CEP_LAST_FIN = 9;
export const CEP_LAST_RST = 10;
/** Occurrences of bad checksums. */
export const CEP_BAD_CHECKSUMS = 11;
/** How often the packets of this side passed 2^32. */
export const CEP_PACKETS_HIGH = 12;

/** In the room that the endpoint of side 0 leaves. */
export const CF_MISSED = 15;
/** In the room that the endpoint of side 1 leaves: ids of the VXLAN and GENEVE tunnels that were first around it, as in keys. */
export const C_VXLAN = 46;
export const C_GENEVE = 47;
export const CF_START = 24;
/** TCP: when an unanswered attempt ends; later (Flag.halfClosed) when the close of one side is looked at. */
export const CF_ATTEMPT = 25;
/** TCP: the regular look while it can matter, or the end (Flag.closing). UDP: when a DNS flow is looked at. */
export const CF_EXPIRE = 26;
export const C_UID = 54;
/** Byte offset of the history; longer ones go on outside of the record. */
export const C_HISTORY = 228;
export const HISTORY_BYTES = 24;
export const C_HISTORY_LENGTH = 63;

/** Bits of the word at FLAGS; the protocol is in the top byte. */
export const Flag = {
  open: 1,
  marked: 1 << 1,
  /** The originator is side 1. */
  origHigh: 1 << 2,
  /** The key has 48 bytes. */
  wide: 1 << 3,
  /** SSH: both sides have switched to new keys. */
  sshEncrypted: 1 << 4,
  /** TLS, DTLS or QUIC was recognized. */
  tlsConfirmed: 1 << 5,
  /** TLS: both sides have finished the handshake. */
  tlsEstablished: 1 << 6,
  /** TCP: a close waits for outstanding data. */
  closeDeferred: 1 << 7,
  /** TCP: began without a SYN. */
  partial: 1 << 8,
  /** TCP: originator, responder have been heard. */
  heardOrig: 1 << 9,
  heardResp: 1 << 10,
  /** TCP: closed or reset; timers for attempts and half-closed connections do nothing any more. */
  quiet: 1 << 11,
  /** TCP: ends at F_EXPIRE whatever happens. */
  closing: 1 << 12,
  /** TCP: one side has closed, F_ATTEMPT is when that is looked at. */
  halfClosed: 1 << 13,
  /** Payload of side 0 is still wanted for recognizing services; the next bit: of side 1. */
  payloadWanted: 1 << 14,
  /** UDP: is a tunnel, or was taken for one. */
  carrier: 1 << 19,
  /** Has, or had, tunnels around it. */
  tunnelled: 1 << 20,
  /** Counted and no longer analysed. */
  bypassed: 1 << 21,
  /** Something was learned of the content since somebody last looked. */
  news: 1 << 22,
  /** Whoever decides over flows needs not look again. */
  settled: 1 << 23,
} as const;
/** Which inactivity timeout holds: three bits. */
export const TIMEOUT_SHIFT = 16;
export const TIMEOUT_MASK = 7 << TIMEOUT_SHIFT;
export const PROTOCOL_SHIFT = 24;

/** What `flags(slot)` shows to others: stable bits that are cheap to test after each packet. */
export const FlowFlag = {
  tlsConfirmed: Flag.tlsConfirmed,
  tlsEstablished: Flag.tlsEstablished,
  sshEncrypted: Flag.sshEncrypted,
  bypassed: Flag.bypassed,
  news: Flag.news,
  settled: Flag.settled,
} as const;

/** Bits of SEEN for one direction (Zeek's history slots). */
export const Seen = {
  syn: 1,
  fin: 2,
  rst: 4,
  finRst: 8,
  data: 16,
  ack: 32,
  multi: 64,
  limit: 128,
} as const;
