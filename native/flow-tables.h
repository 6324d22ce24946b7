// The tables of the flow engine, which TypeScript owns, and what of src/flow works on them here as it does there: records
// and index (table.ts), numbers (endpoint.ts), letters (history.ts), counts, closes (tcp-close.ts) and timers (timers.ts).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "flow-frame.h"
#include "flow-layout.gen.h"

namespace sluice::flow {

using Word = int32_t __attribute__((may_alias));
using Double = double __attribute__((may_alias));

constexpr double kWrap = 4294967296.0;
constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr int32_t kNotInStep = Ep_didClose | Ep_finSeen | Ep_skip | Ep_didEof;

// Indices into the timeouts, of the clock (packet time, and when timers are due) and of the wheel's clock.
enum { kAttempt, kClose, kHalfClosedCheck, kDns, kClockStep };
enum { kNow, kDue };
enum { kBase, kTick };

inline int32_t distance(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b));
}
inline int32_t plus(int32_t a, uint32_t b) { return static_cast<int32_t>(static_cast<uint32_t>(a) + b); }
inline bool below(int32_t a, int32_t b) { return static_cast<uint32_t>(a) < static_cast<uint32_t>(b); }

// Slots are numbers of records; endpoints are indices of words.
struct Tables {
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
  const Double* timeouts;
  Double* clock;
  // src/flow/losses.ts.
  Double* losses;
  uint32_t mask = 0;
  int32_t capacity = 0;

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
      timers[CF_EXPIRE] = last + timeouts[kClose];
    } else if ((words[ep + EP_STATE] >> PREVIOUS_SHIFT & STATE_MASK) != Tcp_inactive) {
      flags |= Flag_halfClosed;
      timers[CF_ATTEMPT] = last + timeouts[kHalfClosedCheck];
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
    double now = wheel_clock[kTick];
    double wanted = std::ceil((deadline - wheel_clock[kBase]) * TICKS_PER_SECOND);
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

}  // namespace sluice::flow
