/**
 * A flow record: 384 bytes, six cache lines, in one ArrayBuffer seen through Int32, Float64 and byte views. An
 * established connection's packet touches the first four lines only. Names ending in a 32-bit word are indices into
 * the Int32 view (record base: slot * WORDS), those beginning with F_ into the Float64 view (slot * DOUBLES).
 *
 *   line 0  key 48 · flags · hash · generation · letters seen
 *   line 1  times · deadline · packets and IP bytes of both sides · history length · VLANs
 *   line 2  TCP endpoint of side 0 (other protocols: payload bytes)
 *   line 3  TCP endpoint of side 1
 *   line 4  rare counters · sequence numbers of control packets · timers · uid
 *   line 5  history · missed bytes
 */
export const RECORD_BYTES = 384;
export const WORDS = RECORD_BYTES / 4;
export const DOUBLES = RECORD_BYTES / 8;

export const KEY = 0;
export const FLAGS = 12;
export const HASH = 13;
export const GENERATION = 14;
/** Bits of `Seen`: originator's letters in the lower half, responder's shifted by 16. They stay where they are in a flip. */
export const SEEN = 15;

export const F_START = 8;
export const F_LAST = 9;
/** When the record has to be looked at; never later than the first timer of the flow. */
export const F_DEADLINE = 10;
/** Of side 0; side 1 follows. */
export const F_PACKETS = 11;
export const F_IP_BYTES = 13;
export const HISTORY_LENGTH = 30;
/** VLAN id | inner VLAN id << 16 of the first packet. */
export const VLANS = 31;

/** First word of the endpoint of side 0; side 1 follows. Bit 4 of the index is clear in the first and set in the second. */
export const ENDPOINT = 32;
export const ENDPOINT_WORDS = 16;
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
/** Everything below this relative sequence number has been seen, or given up as missed (double). */
export const EP_F_SEEN = 3;
/** Everything below this has been acknowledged (double). */
export const EP_F_TRIM = 4;
/** Relative sequence number behind the FIN (double). */
export const EP_F_FIN = 5;
/** First range above a hole in the range pool, 0 for none. */
export const EP_RANGES = 12;
export const EP_RETRANSMITS = 13;
export const EP_ZERO_WINDOWS = 14;
export const EP_GAPS = 15;
/** Protocols other than TCP: payload bytes, -1 before the first packet (double, in place of EP_F_SEEN). */
export const EP_F_PAYLOAD = 3;

/** Occurrences of bad checksums of side 0; side 1 follows. */
export const BAD_CHECKSUMS = 64;
/** Relative sequence numbers (lower 32 bits) of the last SYN, FIN and RST of side 0; three words further those of side 1. */
export const LAST_SYN = 66;
export const LAST_FIN = 67;
export const LAST_RST = 68;
export const CONTROL_WORDS = 3;
/** TCP: when an unanswered attempt ends; later (Flag.halfClosed) when the close of one side is looked at. */
export const F_ATTEMPT = 36;
/** TCP: the regular look while it can matter, or the end (Flag.closing). UDP: when a DNS flow is looked at. */
export const F_EXPIRE = 37;
export const UID = 76;

/** Byte offset of the history; longer ones go on outside of the record. */
export const HISTORY = 320;
export const HISTORY_BYTES = 24;
export const F_MISSED = 43;

/** Bits of the word at FLAGS; the protocol is in the top byte. */
export const Flag = {
  open: 1,
  marked: 1 << 1,
  /** The originator is side 1. */
  origHigh: 1 << 2,
  /** The key has 48 bytes. */
  wide: 1 << 3,
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
} as const;
/** Which inactivity timeout holds: three bits. */
export const TIMEOUT_SHIFT = 16;
export const TIMEOUT_MASK = 7 << TIMEOUT_SHIFT;
export const PROTOCOL_SHIFT = 24;

/** What `flags(slot)` shows to others: stable bits that are cheap to test after each packet. */
export const FlowFlag = {
  tlsConfirmed: Flag.tlsConfirmed,
  tlsEstablished: Flag.tlsEstablished,
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
