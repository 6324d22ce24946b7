#include "flow-ways.h"

namespace sluice::flow {

namespace {

constexpr int32_t kControl = TcpFlag_syn | TcpFlag_fin | TcpFlag_rst | TcpFlag_ack;
constexpr int32_t kSteadyMask = STATE_MASK | Ep_inStep | Ep_didClose | Ep_finSeen | Ep_skip | Ep_didEof;
constexpr int32_t kSteady = Tcp_established | Ep_inStep;
constexpr int32_t kTalked = (Seen_data | Seen_ack) << 16 | Seen_data | Seen_ack;
constexpr int32_t kEthernet = 1;
// What TypeScript has to look at, whatever the packet.
constexpr int32_t kSpecial = Flag_marked | Flag_carrier | Flag_tunnelled | Flag_bypassed;

int32_t big_word(const uint8_t* at) { return static_cast<int32_t>(big32(at)); }

// A number as JavaScript's `| 0` has it; it is far below 2^53.
int32_t to_word(double value) { return static_cast<int32_t>(static_cast<uint32_t>(static_cast<int64_t>(value))); }

// Reads a segment's header; false when TypeScript has to.
bool read(const Frame& frame, Segment& segment) {
  const uint8_t* at = frame.transport;
  uint32_t header = (at[12] >> 4) * 4u;
  // A closed window has its letter.
  if (header < 20 || header > frame.captured || (at[14] | at[15]) == 0) return false;
  segment.flags = at[13];
  segment.seq = big_word(at + 4);
  segment.ack = big_word(at + 8);
  segment.bytes = frame.transport_bytes - header;
  return true;
}

}  // namespace

uint32_t ShortWays::take(const uint8_t* memory, size_t size, uint32_t from, uint32_t count, bool fresh) {
  if (fresh) begin_ = end_ = from;
  for (uint32_t at = from; at < count;) {
    if (at < begin_ || at >= end_) look(memory, size, at, count);
    for (; at < end_; at++)
      if (!arrive(frames_[at - begin_], times[at])) return at;
  }
  return count;
}

// Decodes the next frames and has the processor fetch what they will need. Changes nothing in the tables.
void ShortWays::look(const uint8_t* memory, size_t size, uint32_t from, uint32_t count) {
  begin_ = from;
  end_ = std::min<uint32_t>(count, from + MOST_FETCHED);
  uint32_t n = end_ - begin_;
  for (uint32_t i = 0; i < n; i++) {
    const Word* place = places + kPlaceWords * (begin_ + i);
    uint64_t offset = static_cast<uint32_t>(place[0]);
    uint64_t captured = static_cast<uint32_t>(place[1]);
    Frame& frame = frames_[i];
    if (offset + captured > size || place[3] != kEthernet) {
      frame.plain = false;
      continue;
    }
    see(frame, memory + offset, static_cast<uint32_t>(captured), static_cast<uint32_t>(place[2]), checksums,
        const_cast<const int32_t*>(seed));
    if (frame.plain) __builtin_prefetch(index + 2 * (frame.hash & mask));
  }
  int32_t slots[MOST_FETCHED];
  int32_t spare = totals[T_FREE];
  for (uint32_t i = 0; i < n; i++) {
    slots[i] = -1;
    if (!frames_[i].plain) continue;
    slots[i] = index[2 * (frames_[i].hash & mask) + 1] - 1;
    if (slots[i] >= 0) fetch_hot(slots[i]);
    // A flow begins, perhaps: in this slot then.
    else if (spare > 0) {
      int32_t slot = free_slots[--spare];
      fetch_hot(slot);
      for (int line = 0; line < 4; line++) __builtin_prefetch(cold + slot * COLD_WORDS + 16 * line, 1);
    }
  }
  for (uint32_t i = 0; i < n; i++) {
    if (slots[i] < 0) continue;
    const Word* record = words + slots[i] * WORDS;
    Word* rest = cold + slots[i] * COLD_WORDS;
    if ((record[FLAGS] & Flag_wide) != 0) __builtin_prefetch(rest);
    if ((record[SEEN] & kTalked) != kTalked) __builtin_prefetch(rest + 48, 1);
    const Frame& frame = frames_[i];
    if (frame.protocol != IpProto_tcp) continue;
    bool in_step = (record[ENDPOINT] & record[ENDPOINT + ENDPOINT_WORDS] & Ep_inStep) != 0;
    if (in_step && (frame.transport[13] & (TcpFlag_fin | TcpFlag_syn)) == 0) continue;
    __builtin_prefetch(rest + 16, 1);
    __builtin_prefetch(rest + 32, 1);
    __builtin_prefetch(rest + 48, 1);
  }
}

bool ShortWays::arrive(const Frame& frame, double ts) {
  if (!frame.plain) return false;
  double now = clock[kNow];
  if (ts > now) {
    if (ts >= clock[kDue]) return false;
    now = ts;
  } else if (ts < now - timeouts[kClockStep]) {
    return false;
  }
  int32_t slot = find(frame);
  bool taken;
  if (slot < 0) {
    taken = bare && open(frame, ts);
  } else {
    if (hot_doubles()[slot * DOUBLES + F_DEADLINE] <= now || (words[slot * WORDS + FLAGS] & kSpecial) != 0) return false;
    taken = frame.protocol == IpProto_tcp ? tcp(slot, frame, ts) : udp(slot, frame, ts);
  }
  if (taken) {
    if (ts < now) note_late(now - ts);
    clock[kNow] = now;
  }
  return taken;
}

// A flow begins with a SYN, or with a datagram of whoever is no server.
bool ShortWays::open(const Frame& frame, double ts) {
  bool is_tcp = frame.protocol == IpProto_tcp;
  Segment segment = {};
  int32_t payload = 0;
  if (is_tcp) {
    if (!read(frame, segment) || (segment.flags & kControl) != TcpFlag_syn || segment.bytes != 0) return false;
  } else {
    if (udp_servers[frame.source_port] != 0 && udp_servers[frame.destination_port] == 0) return false;
    if (!datagram(frame, frame.destination_port, payload)) return false;
  }
  int32_t slot = insert(frame);
  if (slot < 0) return false;
  Word* record = words + slot * WORDS;
  Word* rest = cold + slot * COLD_WORDS;
  Double* hot = hot_doubles() + slot * DOUBLES;
  Double* timers = cold_doubles() + slot * COLD_DOUBLES;
  int32_t flags = record[FLAGS] | frame.protocol << PROTOCOL_SHIFT;
  for (int i = 0; i < 3; i++) rest[C_UID + i] = next_uid();
  hot[F_LAST] = ts;
  hot[F_DEADLINE] = kNever;
  timers[CF_START] = ts;
  timers[CF_ATTEMPT] = kNever;
  timers[CF_EXPIRE] = kNever;
  if (frame.side == 1) flags |= Flag_origHigh;
  int32_t ep = endpoint(slot, frame.side);
  if (is_tcp) {
    for (int32_t each : {ep, peer_of(ep)}) seen(each) = trim(each) = 1;
    record[FLAGS] = flags | Timeout_tcpHandshake << TIMEOUT_SHIFT | Flag_heardOrig;
    number(ep, segment.seq, plus(segment.seq, 1));
    words[ep + EP_STATE] = Tcp_synSent;
    once(slot, Seen_syn, 'S', true);
    timers[CF_ATTEMPT] = ts + timeouts[kAttempt];
  } else {
    record[FLAGS] = flags | Timeout_udp << TIMEOUT_SHIFT;
    if (dns_ports[frame.destination_port] != 0) timers[CF_EXPIRE] = ts + timeouts[kDns];
    for (int32_t each : {ep, peer_of(ep)}) hot_doubles()[each / 2 + EP_F_PAYLOAD] = -1;
    hot_doubles()[ep / 2 + EP_F_PAYLOAD] = payload;
    once(slot, Seen_data, 'D', true);
  }
  count(slot, frame);
  timer_set(slot);
  return true;
}

// The payload of a datagram by its header, when it is no tunnel; `port` is the responder's.
bool ShortWays::datagram(const Frame& frame, uint16_t port, int32_t& payload) const {
  if (tunnel_ports[port] != 0) return false;
  const uint8_t* at = frame.transport;
  // What begins so may be Teredo or AYIYA on another port.
  if (frame.captured >= 11 && (at[8] >> 4 == 6 || at[8] == 0 || at[9] == 0x52)) return false;
  payload = static_cast<int32_t>(big16(at + 4)) - 8;
  return true;
}

bool ShortWays::udp(int32_t slot, const Frame& frame, double ts) {
  int32_t flags = words[slot * WORDS + FLAGS];
  bool is_orig = ((flags & Flag_origHigh) != 0) == (frame.side == 1);
  int32_t payload;
  if (!datagram(frame, is_orig ? frame.destination_port : frame.source_port, payload)) return false;
  if ((flags & Flag_payloadWanted << frame.side) != 0) return false;
  if (is_new(slot, Seen_data, is_orig) && !has_room(slot)) return false;
  hot_doubles()[slot * DOUBLES + F_LAST] = ts;
  once(slot, Seen_data, 'D', is_orig);
  Double& total = hot_doubles()[endpoint(slot, frame.side) / 2 + EP_F_PAYLOAD];
  total = total < 0 ? payload : total + payload;
  count(slot, frame);
  return true;
}

bool ShortWays::tcp(int32_t slot, const Frame& frame, double ts) {
  Segment segment;
  if (!read(frame, segment)) return false;
  int32_t ep = endpoint(slot, frame.side);
  int32_t peer = peer_of(ep);
  bool is_orig = ((words[slot * WORDS + FLAGS] & Flag_origHigh) != 0) == (frame.side == 1);
  bool taken = false;
  switch (segment.flags & kControl) {
    case TcpFlag_ack:
      taken = (words[ep + EP_STATE] & kSteadyMask) == kSteady && (words[peer + EP_STATE] & kSteadyMask) == kSteady
                  ? steady(slot, ep, peer, is_orig, frame, segment, ts)
                  : closing(slot, ep, peer, is_orig, segment, ts);
      break;
    case TcpFlag_fin | TcpFlag_ack:
      taken = closing(slot, ep, peer, is_orig, segment, ts);
      break;
    case TcpFlag_syn | TcpFlag_ack:
      taken = answer(slot, ep, peer, is_orig, frame, segment, ts);
      break;
    default:
      break;
  }
  if (taken) count(slot, frame);
  return taken;
}

// As SteadySegments.take; payload that is wanted is left to TypeScript.
bool ShortWays::steady(int32_t slot, int32_t ep, int32_t peer, bool is_orig, const Frame& frame, const Segment& segment, double ts) {
  int32_t last = words[ep + EP_LAST];
  if (segment.seq != last) return false;
  int32_t flags = words[slot * WORDS + FLAGS];
  int32_t bit = segment.bytes > 0 ? Seen_data : Seen_ack;
  bool news = is_new(slot, bit, is_orig);
  if (news && (!is_heard(slot) || !has_room(slot))) return false;
  if (!is_due(peer, segment.ack)) return false;
  if (segment.bytes > 0) {
    int32_t unacked = distance(last, words[ep + EP_ACK]);
    if (unacked < 0 || unacked > MAX_IN_STEP || frame.captured < frame.transport_bytes) return false;
    uint32_t heard = static_cast<uint32_t>(distance(words[ep + EP_ACK], words[ep + EP_START]));
    if (heard <= 1 && relative_last(ep) + segment.bytes > WITHOUT_ACKS) return false;
    if ((flags & Flag_payloadWanted << frame.side) != 0) return false;
    advance_last(ep, plus(last, segment.bytes));
  }
  if (segment.ack != words[peer + EP_ACK] && segment.ack != plus(words[peer + EP_START], 1)) note_ack(slot);
  advance_ack(peer, segment.ack);
  hot_doubles()[slot * DOUBLES + F_LAST] = ts;
  if (news) once(slot, bit, segment.bytes > 0 ? 'D' : 'A', is_orig);
  return true;
}

// The SYN-ACK that answers a SYN: both sides are established.
bool ShortWays::answer(int32_t slot, int32_t ep, int32_t peer, bool is_orig, const Frame& frame, const Segment& segment, double ts) {
  Word& flags = words[slot * WORDS + FLAGS];
  constexpr int32_t kHeard =
      Flag_heardOrig | Flag_heardResp | Flag_partial | Flag_quiet | Flag_closing | Flag_halfClosed | Flag_closeDeferred;
  if (is_orig || segment.bytes != 0 || (flags & kHeard) != Flag_heardOrig) return false;
  if (words[ep + EP_STATE] != Tcp_inactive || words[peer + EP_STATE] != Tcp_synSent) return false;
  int32_t begin = words[peer + EP_START];
  if (words[peer + EP_LAST] != plus(begin, 1) || words[peer + EP_ACK] != begin || words[peer + EP_ACK_WRAPS] != 0) return false;
  if (segment.ack != plus(begin, 1) || segment.ack == 0 || words[slot * WORDS + SEEN] >> 16 != 0 || !has_room(slot)) return false;
  for (int32_t each : {ep, peer})
    if (seen(each) != 1 || trim(each) != 1 || cold[cold_of(each) + CEP_RANGES] != 0) return false;
  number(ep, segment.seq, plus(segment.seq, 1));
  once(slot, Seen_syn, 'H', false);
  cold[cold_of(ep) + CEP_LAST_SYN] = 0;
  hot_doubles()[slot * DOUBLES + F_LAST] = ts;
  advance_ack(peer, segment.ack);
  words[peer + EP_STATE] = Tcp_synSent << PREVIOUS_SHIFT | Tcp_established;
  words[ep + EP_STATE] = Tcp_inactive << PREVIOUS_SHIFT | Tcp_established;
  int32_t timeout = interactive[frame.source_port] != 0 ? Timeout_tcpInteractive : Timeout_tcp;
  flags = (flags & ~TIMEOUT_MASK) | timeout << TIMEOUT_SHIFT | Flag_heardResp;
  engage(ep);
  engage(peer);
  return true;
}

// A FIN that follows all that its sender has sent before, or an acknowledgement when one side has closed: without
// data, of what was seen without holes.
bool ShortWays::closing(int32_t slot, int32_t ep, int32_t peer, bool is_orig, const Segment& segment, double ts) {
  if (!bare || segment.bytes != 0 || segment.seq != words[ep + EP_LAST]) return false;
  Word& flags = words[slot * WORDS + FLAGS];
  constexpr int32_t kHeard = Flag_heardOrig | Flag_heardResp | Flag_partial;
  if ((flags & kHeard) != (Flag_heardOrig | Flag_heardResp)) return false;
  bool fin = (segment.flags & TcpFlag_fin) != 0;
  int32_t own = state(ep);
  int32_t other = state(peer);
  if (own != Tcp_established && (fin || own != Tcp_closed)) return false;
  if (other != Tcp_established && other != Tcp_closed) return false;
  if (has(ep, Ep_skip) || has(peer, Ep_skip)) return false;
  if (fin && has(ep, Ep_finSeen | Ep_didClose | Ep_didEof)) return false;
  if (cold[cold_of(ep) + CEP_RANGES] != 0 || cold[cold_of(peer) + CEP_RANGES] != 0) return false;
  int32_t bit = fin ? Seen_fin : Seen_ack;
  bool news = is_new(slot, bit, is_orig);
  if ((fin && !news) || !is_heard(slot) || (news && !has_room(slot))) return false;
  if (!is_due(peer, segment.ack)) return false;
  double acked = relative_ack(peer) + distance(segment.ack, words[peer + EP_ACK]);
  double behind_fin = cold_doubles()[cold_of(peer) / 2 + CEP_F_FIN];
  double up_to = has(peer, Ep_finSeen) && acked >= behind_fin ? behind_fin - 1 : acked;
  double peer_seen = has(peer, Ep_inStep) ? relative_last(peer) : static_cast<double>(seen(peer));
  // Acknowledged and never seen: a gap.
  if (acked < 0 || up_to > peer_seen) return false;

  settle(ep);
  settle(peer);
  once(slot, bit, fin ? 'F' : 'A', is_orig);
  if (!has(ep, Ep_didClose) || !has(peer, Ep_didClose)) hot_doubles()[slot * DOUBLES + F_LAST] = ts;
  if (fin) {
    double relative = relative_last(ep);
    cold[cold_of(ep) + CEP_LAST_FIN] = to_word(relative);
    cold_doubles()[cold_of(ep) / 2 + CEP_F_FIN] = relative + 1;
  }
  advance_ack(peer, segment.ack);
  if (fin) {
    advance_last(ep, plus(segment.seq, 1));
    int32_t bits = words[ep + EP_STATE] & ~(STATE_MASK << PREVIOUS_SHIFT | STATE_MASK);
    words[ep + EP_STATE] = bits | Ep_finSeen | own << PREVIOUS_SHIFT | Tcp_closed;
  }
  if (up_to > trim(peer)) {
    if (!fin && own == Tcp_established && other == Tcp_established) note_ack(slot);
    trim(peer) = up_to;
    check_eof(slot, peer);
  }
  check_eof(slot, ep);
  if (fin) close(slot, ep);
  engage(ep);
  engage(peer);
  return true;
}

}  // namespace sluice::flow
