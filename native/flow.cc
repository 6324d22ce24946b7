// The flow engine's short ways: what nearly all packets of ordinary connections are (begin, handshake, data in order,
// acknowledgements, close, UDP), accounted in the tables of src/flow, which this shares. Each is a part of what
// src/flow does with such a packet, with the same result to the bit; before anything that is not exactly such a one it
// stops without having changed anything, and TypeScript goes on (docs/adr/0032-native-short-ways.md).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "addon.h"
#include "conn-line.h"
#include "flow-frame.h"
#include "flow-layout.gen.h"

namespace sluice::flow {

namespace {

using Word = int32_t __attribute__((may_alias));
using Double = double __attribute__((may_alias));

constexpr double kWrap = 4294967296.0;
constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr int32_t kControl = TcpFlag_syn | TcpFlag_fin | TcpFlag_rst | TcpFlag_ack;
constexpr int32_t kSteadyMask = STATE_MASK | Ep_inStep | Ep_didClose | Ep_finSeen | Ep_skip | Ep_didEof;
constexpr int32_t kSteady = Tcp_established | Ep_inStep;
constexpr int32_t kNotInStep = Ep_didClose | Ep_finSeen | Ep_skip | Ep_didEof;
constexpr int32_t kTalked = (Seen_data | Seen_ack) << 16 | Seen_data | Seen_ack;
constexpr uint32_t kPlaceWords = 4;
constexpr int32_t kEthernet = 1;
// What TypeScript has to look at, whatever the packet.
constexpr int32_t kSpecial = Flag_marked | Flag_carrier | Flag_tunnelled | Flag_bypassed;

int32_t distance(int32_t a, int32_t b) { return static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b)); }
int32_t plus(int32_t a, uint32_t b) { return static_cast<int32_t>(static_cast<uint32_t>(a) + b); }
bool below(int32_t a, int32_t b) { return static_cast<uint32_t>(a) < static_cast<uint32_t>(b); }
int32_t big_word(const uint8_t* at) { return static_cast<int32_t>(big32(at)); }

// A number as JavaScript's `| 0` has it; it is far below 2^53.
int32_t to_word(double value) { return static_cast<int32_t>(static_cast<uint32_t>(static_cast<int64_t>(value))); }

struct Segment {
  uint8_t flags;
  int32_t seq;
  int32_t ack;
  uint32_t bytes;
};

class ShortWays {
 public:
  // Of the table (src/flow/table.ts), the timer wheel, the uids and the settings.
  Word* words;
  Word* cold;
  Word* index;
  Word* free_slots;
  Word* totals;
  const Word* seed;
  Word* links;
  const Double* wheel_clock;
  Word* uids;
  // One byte a port.
  const uint8_t* udp_servers;
  const uint8_t* dns_ports;
  const uint8_t* interactive;
  const uint8_t* tunnel_ports;
  const Double* inactivity;
  // attempt, close, halfClosedCheck, dns, clockStep
  const Double* timeouts;
  // The packets in work: four words each (offset, bytes captured, bytes on the wire, link type), and times.
  const Word* places = nullptr;
  const Double* times = nullptr;
  // now, and the time from which on timers are due
  Double* clock;
  uint32_t mask = 0;
  int32_t capacity = 0;
  bool checksums = false;
  // Without recognizers, flows can be opened and closed here.
  bool bare = false;
  uint32_t opened = 0;

  // Accounts packets[from, count): the number of the first one that is left to TypeScript, or count.
  uint32_t take(const uint8_t* memory, size_t size, uint32_t from, uint32_t count, bool fresh) {
    opened = 0;
    if (fresh) begin_ = end_ = from;
    for (uint32_t at = from; at < count;) {
      if (at < begin_ || at >= end_) look(memory, size, at, count);
      for (; at < end_; at++)
        if (!arrive(frames_[at - begin_], times[at])) return at;
    }
    return count;
  }

 private:
  Frame frames_[MOST_FETCHED];
  uint32_t begin_ = 0;
  uint32_t end_ = 0;

  // Endpoints are indices of words, as in src/flow/endpoint.ts.
  Double* hot_doubles() { return reinterpret_cast<Double*>(words); }
  Double* cold_doubles() { return reinterpret_cast<Double*>(cold); }
  static int32_t endpoint(int32_t slot, int32_t side) { return slot * WORDS + ENDPOINT + side * ENDPOINT_WORDS; }
  static int32_t peer_of(int32_t ep) { return ep ^ ENDPOINT_WORDS; }
  static int32_t cold_of(int32_t ep) {
    return ep / WORDS * COLD_WORDS + C_ENDPOINT + ((ep & ENDPOINT_WORDS) == 0 ? 0 : C_ENDPOINT_WORDS);
  }
  int32_t state(int32_t ep) const { return words[ep + EP_STATE] & STATE_MASK; }
  bool has(int32_t ep, int32_t bit) const { return (words[ep + EP_STATE] & bit) != 0; }
  double start(int32_t ep) const { return static_cast<uint32_t>(words[ep + EP_START]); }
  double relative_last(int32_t ep) const {
    return words[ep + EP_LAST_WRAPS] * kWrap + static_cast<uint32_t>(words[ep + EP_LAST]) - start(ep);
  }
  double relative_ack(int32_t ep) const {
    return words[ep + EP_ACK_WRAPS] * kWrap + static_cast<uint32_t>(words[ep + EP_ACK]) - start(ep);
  }
  Double& seen(int32_t ep) { return cold_doubles()[cold_of(ep) / 2 + CEP_F_SEEN]; }
  Double& trim(int32_t ep) { return cold_doubles()[cold_of(ep) / 2 + CEP_F_TRIM]; }

  // Decodes the next frames and has the processor fetch what they will need. Changes nothing in the tables.
  void look(const uint8_t* memory, size_t size, uint32_t from, uint32_t count) {
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

  void fetch_hot(int32_t slot) {
    __builtin_prefetch(words + slot * WORDS, 1);
    __builtin_prefetch(words + slot * WORDS + 16, 1);
  }

  bool arrive(const Frame& frame, double ts) {
    if (!frame.plain) return false;
    double now = clock[0];
    if (ts > now) {
      if (ts >= clock[1]) return false;
      now = ts;
    } else if (ts < now - timeouts[4]) {
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
    if (taken) clock[0] = now;
    return taken;
  }

  int32_t find(const Frame& frame) const {
    for (uint32_t at = frame.hash & mask;; at = (at + 1) & mask) {
      int32_t entry = index[2 * at + 1];
      if (entry == 0) return -1;
      if (static_cast<uint32_t>(index[2 * at]) != frame.hash) continue;
      int32_t slot = entry - 1;
      bool wide = (words[slot * WORDS + FLAGS] & Flag_wide) != 0;
      if (wide != frame.wide) continue;
      const Word* key = wide ? cold + slot * COLD_WORDS + C_KEY : words + slot * WORDS + KEY;
      if (memcmp(const_cast<const int32_t*>(key), frame.key, wide ? 48 : 16) == 0) return slot;
    }
  }

  // As FlowTable.insert; -1 when all are in use.
  int32_t insert(const Frame& frame) {
    int32_t slot = totals[T_FRESH];
    if (totals[T_FREE] > 0) slot = free_slots[--totals[T_FREE]];
    else if (slot == capacity) return -1;
    else totals[T_FRESH] = slot + 1;
    Word* record = words + slot * WORDS;
    Word* rest = cold + slot * COLD_WORDS;
    int32_t generation = rest[C_GENERATION];
    memset(const_cast<int32_t*>(record), 0, RECORD_BYTES);
    memset(const_cast<int32_t*>(rest), 0, 4 * C_UID);
    memcpy(const_cast<int32_t*>(rest) + C_KEY, frame.key, frame.wide ? 48 : 16);
    if (!frame.wide) memcpy(const_cast<int32_t*>(record) + KEY, frame.key, 16);
    record[FLAGS] = Flag_open | (frame.wide ? Flag_wide : 0);
    rest[C_HASH] = static_cast<int32_t>(frame.hash);
    rest[C_GENERATION] = generation;
    rest[C_HISTORY_LENGTH] = 0;
    uint32_t at = frame.hash & mask;
    while (index[2 * at + 1] != 0) at = (at + 1) & mask;
    index[2 * at] = static_cast<int32_t>(frame.hash);
    index[2 * at + 1] = slot + 1;
    totals[T_ACTIVE]++;
    return slot;
  }

  int32_t next_uid() {
    auto word = [this](int i) { return static_cast<uint32_t>(uids[i]); };
    uint32_t b = word(1);
    uint32_t c = word(2);
    uint32_t sum = word(0) + b + word(3);
    uids[0] = static_cast<int32_t>(b ^ b >> 9);
    uids[1] = static_cast<int32_t>(c + (c << 3));
    uids[2] = static_cast<int32_t>((c << 21 | c >> 11) + sum);
    uids[3] = static_cast<int32_t>(word(3) + 1);
    return static_cast<int32_t>(sum);
  }

  // A flow begins with a SYN, or with a datagram of whoever is no server.
  bool open(const Frame& frame, double ts) {
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
    opened++;
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
      timers[CF_ATTEMPT] = ts + timeouts[0];
    } else {
      record[FLAGS] = flags | Timeout_udp << TIMEOUT_SHIFT;
      if (dns_ports[frame.destination_port] != 0) timers[CF_EXPIRE] = ts + timeouts[3];
      for (int32_t each : {ep, peer_of(ep)}) hot_doubles()[each / 2 + EP_F_PAYLOAD] = -1;
      hot_doubles()[ep / 2 + EP_F_PAYLOAD] = payload;
      once(slot, Seen_data, 'D', true);
    }
    count(slot, frame);
    timer_set(slot);
    return true;
  }

  // Reads a segment's header; false when TypeScript has to.
  static bool read(const Frame& frame, Segment& segment) {
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

  // The payload of a datagram by its header, when it is no tunnel; `port` is the responder's.
  bool datagram(const Frame& frame, uint16_t port, int32_t& payload) const {
    if (tunnel_ports[port] != 0) return false;
    const uint8_t* at = frame.transport;
    // What begins so may be Teredo or AYIYA on another port.
    if (frame.captured >= 11 && (at[8] >> 4 == 6 || at[8] == 0 || at[9] == 0x52)) return false;
    payload = static_cast<int32_t>(big16(at + 4)) - 8;
    return true;
  }

  bool udp(int32_t slot, const Frame& frame, double ts) {
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

  bool tcp(int32_t slot, const Frame& frame, double ts) {
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
  bool steady(int32_t slot, int32_t ep, int32_t peer, bool is_orig, const Frame& frame, const Segment& segment, double ts) {
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
    advance_ack(peer, segment.ack);
    hot_doubles()[slot * DOUBLES + F_LAST] = ts;
    if (news) once(slot, bit, segment.bytes > 0 ? 'D' : 'A', is_orig);
    return true;
  }

  // The SYN-ACK that answers a SYN: both sides are established.
  bool answer(int32_t slot, int32_t ep, int32_t peer, bool is_orig, const Frame& frame, const Segment& segment, double ts) {
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
  bool closing(int32_t slot, int32_t ep, int32_t peer, bool is_orig, const Segment& segment, double ts) {
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
      trim(peer) = up_to;
      check_eof(slot, peer);
    }
    check_eof(slot, ep);
    if (fin) close(slot, ep);
    engage(ep);
    engage(peer);
    return true;
  }

  // GapTracker.pending, without ranges and resets.
  bool pending(int32_t ep) {
    double rest = relative_last(ep) - seen(ep);
    if (rest < 0) return false;
    int32_t peer = peer_of(ep);
    return rest > 1 || seen(peer) > trim(peer);
  }

  // TcpCloser.checkEof.
  void check_eof(int32_t slot, int32_t ep) {
    if (has(ep, Ep_didEof) || (!has(ep, Ep_finSeen) && state(ep) != Tcp_closed) || pending(ep)) return;
    words[ep + EP_STATE] |= Ep_didEof;
    Word& flags = words[slot * WORDS + FLAGS];
    if ((flags & Flag_closeDeferred) == 0) return;
    close(slot, ep);
    flags &= ~Flag_closeDeferred;
  }

  // TcpCloser.close.
  void close(int32_t slot, int32_t ep) {
    Word& flags = words[slot * WORDS + FLAGS];
    if (pending(ep)) {
      flags |= Flag_closeDeferred;
      return;
    }
    flags &= ~Flag_closeDeferred;
    if (has(ep, Ep_didClose)) return;
    words[ep + EP_STATE] |= Ep_didClose;
    Double* timers = cold_doubles() + slot * COLD_DOUBLES;
    double last = hot_doubles()[slot * DOUBLES + F_LAST];
    if (has(peer_of(ep), Ep_didClose)) {
      flags |= Flag_closing | Flag_quiet;
      timers[CF_ATTEMPT] = kNever;
      timers[CF_EXPIRE] = last + timeouts[1];
    } else if ((words[ep + EP_STATE] >> PREVIOUS_SHIFT & STATE_MASK) != Tcp_inactive) {
      flags |= Flag_halfClosed;
      timers[CF_ATTEMPT] = last + timeouts[2];
    } else {
      return;
    }
    timer_set(slot);
  }

  // Endpoints.settle.
  void settle(int32_t ep) {
    if (!has(ep, Ep_inStep)) return;
    words[ep + EP_STATE] &= ~Ep_inStep;
    seen(ep) = relative_last(ep);
    trim(ep) = std::max(1.0, relative_ack(ep));
  }

  // Endpoints.engage.
  void engage(int32_t ep) {
    if ((words[ep + EP_STATE] & (STATE_MASK | kNotInStep)) != Tcp_established) return;
    double edge = seen(ep);
    double low = trim(ep);
    if (cold[cold_of(ep) + CEP_RANGES] != 0 || edge - low > MAX_IN_STEP) return;
    if (edge != relative_last(ep) || low != std::max(1.0, relative_ack(ep))) return;
    words[ep + EP_STATE] |= Ep_inStep;
  }

  // Endpoints.init.
  void number(int32_t ep, int32_t begin, int32_t last) {
    words[ep + EP_START] = begin;
    words[ep + EP_ACK] = begin;
    words[ep + EP_ACK_WRAPS] = 0;
    words[ep + EP_LAST] = last;
    words[ep + EP_LAST_WRAPS] = below(last, begin) ? 1 : 0;
  }

  // Neither old nor of what was not seen; and 0 is believed with care.
  bool is_due(int32_t peer, int32_t ack) const {
    return distance(ack, words[peer + EP_ACK]) >= 0 && distance(words[peer + EP_LAST], ack) >= 0 && ack != 0;
  }

  void advance_last(int32_t ep, int32_t end) {
    if (below(end, words[ep + EP_LAST])) words[ep + EP_LAST_WRAPS]++;
    words[ep + EP_LAST] = end;
  }

  void advance_ack(int32_t ep, int32_t ack) {
    if (distance(ack, words[ep + EP_ACK]) <= 0) return;
    if (below(ack, words[ep + EP_ACK])) words[ep + EP_ACK_WRAPS]++;
    words[ep + EP_ACK] = ack;
  }

  bool is_new(int32_t slot, int32_t bit, bool is_orig) const {
    return (words[slot * WORDS + SEEN] & (is_orig ? bit : bit << 16)) == 0;
  }

  // The responder has a letter: nothing turns the connection any more.
  bool is_heard(int32_t slot) const { return static_cast<uint32_t>(words[slot * WORDS + SEEN]) >> 16 != 0; }

  // For one letter more inside of the record.
  bool has_room(int32_t slot) const { return cold[slot * COLD_WORDS + C_HISTORY_LENGTH] < HISTORY_BYTES; }

  void once(int32_t slot, int32_t bit, char letter, bool is_orig) {
    if (!is_new(slot, bit, is_orig)) return;
    words[slot * WORDS + SEEN] |= is_orig ? bit : bit << 16;
    Word& length = cold[slot * COLD_WORDS + C_HISTORY_LENGTH];
    auto* bytes = reinterpret_cast<char*>(cold) + slot * COLD_BYTES + C_HISTORY;
    bytes[length] = static_cast<char>(is_orig ? letter : letter | 0x20);
    length++;
  }

  void count(int32_t slot, const Frame& frame) {
    Word& packets = words[slot * WORDS + PACKETS + frame.side];
    packets = plus(packets, 1);
    if (packets == 0) cold[slot * COLD_WORDS + C_ENDPOINT + frame.side * C_ENDPOINT_WORDS + CEP_PACKETS_HIGH]++;
    hot_doubles()[slot * DOUBLES + F_IP_BYTES + frame.side] += frame.ip_bytes;
  }

  // Lifetimes.timerSet.
  void timer_set(int32_t slot) {
    int32_t flags = words[slot * WORDS + FLAGS];
    const Double* timers = cold_doubles() + slot * COLD_DOUBLES;
    double deadline = timers[CF_EXPIRE];
    if ((flags & Flag_closing) == 0) {
      double idle = hot_doubles()[slot * DOUBLES + F_LAST] + inactivity[(flags & TIMEOUT_MASK) >> TIMEOUT_SHIFT];
      deadline = std::min(std::min(idle, deadline), static_cast<double>(timers[CF_ATTEMPT]));
    }
    if (!(deadline < hot_doubles()[slot * DOUBLES + F_DEADLINE])) return;
    hot_doubles()[slot * DOUBLES + F_DEADLINE] = deadline;
    put(slot, deadline);
  }

  // TimerWheel.set.
  void put(int32_t node, double deadline) {
    int32_t after = links[2 * node];
    if (after >= 0) {
      int32_t before = links[2 * node + 1];
      links[2 * before] = after;
      links[2 * after + 1] = before;
    }
    constexpr double kReach = static_cast<double>(SLOTS) * SLOTS;
    double now = wheel_clock[1];
    double wanted = std::ceil((deadline - wheel_clock[0]) * TICKS_PER_SECOND);
    double tick = wanted > now ? std::min(wanted, now + kReach - SLOTS) : now + 1;
    auto number = static_cast<int64_t>(tick);
    int64_t bucket = tick - now < SLOTS ? number & (SLOTS - 1) : SLOTS + (number / SLOTS & (SLOTS - 1));
    auto head = static_cast<int32_t>(capacity + bucket);
    int32_t last = links[2 * head + 1];
    links[2 * last] = node;
    links[2 * node + 1] = last;
    links[2 * node] = head;
    links[2 * head + 1] = node;
  }
};

// An array's memory; it must not be moved or freed as long as the short ways are used, which `held` sees to.
template <typename T>
bool array_of(napi_env env, napi_value value, napi_typedarray_type wanted, T** out, size_t* count) {
  napi_typedarray_type type;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, count, &data, nullptr, nullptr) != napi_ok) return false;
  *out = static_cast<T*>(data);
  return type == wanted && data != nullptr;
}

template <typename T>
bool memory_of(napi_env env, napi_value object, const char* name, napi_typedarray_type wanted, T** out, size_t* count) {
  napi_value value = nullptr;
  if (napi_get_named_property(env, object, name, &value) != napi_ok) return false;
  return array_of(env, value, wanted, out, count);
}

struct Handle {
  ShortWays ways;
  Networks local;
  napi_ref held = nullptr;
};

void drop(napi_env env, void* data, void*) {
  auto* handle = static_cast<Handle*>(data);
  napi_delete_reference(env, handle->held);
  delete handle;
}

// (tables) -> what `shortTake` takes. Sizes are those that the capacity asks for, or it throws.
napi_value short_ways(napi_env env, napi_callback_info info) {
  Args args(env, info, 3);
  napi_value tables = args.value(0);
  bool checksums = args.boolean(1);
  bool bare = args.boolean(2);
  if (!args.ok) return nullptr;
  auto handle = std::make_unique<Handle>();
  ShortWays& ways = handle->ways;
  ways.checksums = checksums;
  ways.bare = bare;
  size_t slots = 0;
  bool ok = true;
  auto words = [&](const char* name, auto** out, size_t least) {
    size_t count = 0;
    ok = ok && memory_of(env, tables, name, napi_int32_array, out, &count) && count >= least;
    return count;
  };
  auto doubles = [&](const char* name, auto** out, size_t least) {
    size_t count = 0;
    ok = ok && memory_of(env, tables, name, napi_float64_array, out, &count) && count >= least;
    return count;
  };
  auto ports = [&](const char* name, auto** out) {
    size_t count = 0;
    ok = ok && memory_of(env, tables, name, napi_uint8_array, out, &count) && count >= 65536;
  };
  slots = words("words", &ways.words, WORDS) / WORDS;
  words("cold", &ways.cold, slots * COLD_WORDS);
  words("free", &ways.free_slots, slots);
  words("totals", &ways.totals, 3);
  words("seed", &ways.seed, 3);
  size_t entries = words("index", &ways.index, 2 * slots) / 2;
  words("links", &ways.links, 2 * (slots + 2 * SLOTS + 1));
  words("uids", &ways.uids, 4);
  doubles("wheelClock", &ways.wheel_clock, 2);
  doubles("inactivity", &ways.inactivity, 6);
  doubles("timeouts", &ways.timeouts, 5);
  doubles("clock", &ways.clock, 2);
  ports("udpServers", &ways.udp_servers);
  ports("dnsPorts", &ways.dns_ports);
  ports("interactive", &ways.interactive);
  ports("tunnelPorts", &ways.tunnel_ports);
  auto networks = [&](const char* name, const uint8_t** out) {
    size_t count = 0;
    ok = ok && memory_of(env, tables, name, napi_uint8_array, out, &count);
    return count / kNetworkBytes;
  };
  handle->local.count4 = networks("nets4", &handle->local.nets4);
  handle->local.count6 = networks("nets6", &handle->local.nets6);
  if (!ok || (entries & (entries - 1)) != 0) {
    napi_throw_type_error(env, nullptr, "tables of another layout");
    return nullptr;
  }
  ways.capacity = static_cast<int32_t>(slots);
  ways.mask = static_cast<uint32_t>(entries - 1);
  napi_create_reference(env, tables, 1, &handle->held);
  napi_value out = nullptr;
  napi_create_external(env, handle.get(), drop, nullptr, &out);
  handle.release();
  return out;
}

// The first argument; nullptr and an exception when it is something else.
Handle* handle_of(napi_env env, Args& args) {
  void* data = nullptr;
  if (args.ok && (napi_get_value_external(env, args.value(0), &data) != napi_ok || data == nullptr)) {
    args.ok = false;
    napi_throw_type_error(env, nullptr, "argument 0: short ways");
  }
  return static_cast<Handle*>(data);
}

// (ways, memory, places, times, from, count, fresh) -> the number of the first packet that was not taken, or count
napi_value short_take(napi_env env, napi_callback_info info) {
  Args args(env, info, 7);
  Handle* handle = handle_of(env, args);
  Bytes memory = args.bytes(1);
  uint32_t from = args.u32(4);
  uint32_t count = args.u32(5);
  bool fresh = args.boolean(6);
  if (!args.ok) return nullptr;
  ShortWays& ways = handle->ways;
  size_t words = 0;
  size_t times = 0;
  if (!array_of(env, args.value(2), napi_int32_array, &ways.places, &words) || words < kPlaceWords * static_cast<size_t>(count) ||
      !array_of(env, args.value(3), napi_float64_array, &ways.times, &times) || times < count) {
    napi_throw_type_error(env, nullptr, "fewer places or times than packets");
    return nullptr;
  }
  return number(env, ways.take(memory.data, memory.size, from, count, fresh));
}

// (ways, slot, out, at) -> bytes of the line of conn.log written at out[at], or 0
napi_value short_line(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  Handle* handle = handle_of(env, args);
  uint32_t slot = args.u32(1);
  Bytes out = args.bytes(2);
  uint32_t at = args.u32(3);
  if (!args.ok) return nullptr;
  ShortWays& ways = handle->ways;
  if (!ways.bare || slot >= static_cast<uint32_t>(ways.capacity) || out.size < kLongestLine || at > out.size - kLongestLine)
    return number(env, 0);
  return number(env, static_cast<double>(conn_line(const_cast<const int32_t*>(ways.words) + slot * WORDS,
                                                   const_cast<const int32_t*>(ways.cold) + slot * COLD_WORDS,
                                                   handle->local, reinterpret_cast<char*>(out.data) + at)));
}

}  // namespace

}  // namespace sluice::flow

namespace sluice {

void register_flow(napi_env env, napi_value exports) {
  const Function functions[] = {{"shortWays", flow::short_ways}, {"shortTake", flow::short_take}, {"shortLine", flow::short_line}};
  define(env, exports, functions, 3);
}

}  // namespace sluice
