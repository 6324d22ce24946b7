#include "conn-line.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "flow-layout.gen.h"

namespace sluice::flow {

namespace {

constexpr double kWrap = 4294967296.0;
// Whole numbers up to here are written as JavaScript writes them.
constexpr double kMostExact = 9007199254740991.0;
const char kDigits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

// An endpoint with what both parts have of it.
struct Side {
  const int32_t* hot;
  const uint8_t* address;
  size_t address_bytes;
  uint16_t port;
  double packets;
  double ip_bytes;
  double bytes;
};

double read_double(const int32_t* words, int32_t index) {
  double value;
  memcpy(&value, words + 2 * index, 8);
  return value;
}

class Line {
 public:
  explicit Line(char* out) : begin_(out), at_(out) {}
  bool ok = true;

  template <size_t N>
  void piece(const char (&text)[N]) {
    memcpy(at_, text, N - 1);
    at_ += N - 1;
  }

  void bytes(const void* data, size_t count) {
    // Of nothing there is no address.
    if (count == 0) return;
    memcpy(at_, data, count);
    at_ += count;
  }

  void number(double value) {
    if (!(value >= 0 && value <= kMostExact)) {
      ok = false;
      return;
    }
    digits(static_cast<uint64_t>(value), 1);
  }

  void six_decimals(double seconds) {
    double scaled = seconds * 1e6;
    double micros = std::floor(scaled);
    if (scaled - micros >= 0.5) micros += 1;
    double whole = std::floor(micros / 1e6);
    if (!(seconds >= 0 && whole <= 2147483647.0)) {
      ok = false;
      return;
    }
    digits(static_cast<uint64_t>(whole), 1);
    *at_++ = '.';
    digits(static_cast<uint64_t>(micros - whole * 1e6), 6);
  }

  void address(const uint8_t* bytes, size_t count) {
    if (count == 4) {
      for (size_t i = 0; i < 4; i++) {
        if (i > 0) *at_++ = '.';
        digits(bytes[i], 1);
      }
      return;
    }
    // RFC 5952: the longest run of words of zero, the first of several, and at least two.
    int best = 8;
    int longest = 1;
    int run = 0;
    for (int i = 0; i < 8; i++) {
      run = bytes[2 * i] == 0 && bytes[2 * i + 1] == 0 ? run + 1 : 0;
      if (run <= longest) continue;
      best = i - run + 1;
      longest = run;
    }
    words(bytes, 0, best);
    if (best == 8) return;
    piece("::");
    words(bytes, best + longest, 8);
  }

  // 32 or 64 bits in base 62, unpadded.
  void base62(uint64_t value) {
    char text[11];
    size_t length = 0;
    do {
      text[length++] = kDigits[value % 62];
      value /= 62;
    } while (value != 0);
    while (length > 0) *at_++ = text[--length];
  }

  void truth(bool value) {
    if (value) piece("true");
    else piece("false");
  }

  size_t length() const { return ok ? static_cast<size_t>(at_ - begin_) : 0; }

 private:
  char* begin_;
  char* at_;

  void digits(uint64_t value, size_t least) {
    char text[20];
    size_t length = 0;
    for (; value != 0 || length < least; value /= 10) text[length++] = static_cast<char>('0' + value % 10);
    while (length > 0) *at_++ = text[--length];
  }

  void words(const uint8_t* bytes, int from, int to) {
    for (int i = from; i < to; i++) {
      if (i > from) *at_++ = ':';
      unsigned word = static_cast<unsigned>(bytes[2 * i] << 8 | bytes[2 * i + 1]);
      int shift = 12;
      while (shift > 0 && word >> shift == 0) shift -= 4;
      for (; shift >= 0; shift -= 4) *at_++ = "0123456789abcdef"[word >> shift & 15];
    }
  }
};

int32_t state_of(const int32_t* ep) { return ep[EP_STATE] & STATE_MASK; }

// Endpoints.size.
double size_of(const int32_t* ep, const int32_t* peer) {
  double begin = static_cast<uint32_t>(ep[EP_START]);
  double last = ep[EP_LAST_WRAPS] * kWrap + static_cast<uint32_t>(ep[EP_LAST]);
  double ack = ep[EP_ACK_WRAPS] * kWrap + static_cast<uint32_t>(ep[EP_ACK]);
  double acked = ack - begin;
  int32_t previous = ep[EP_STATE] >> PREVIOUS_SHIFT & STATE_MASK;
  if (previous == Tcp_synSent && state_of(ep) == Tcp_reset && state_of(peer) == Tcp_inactive && acked != 0 && acked != 1)
    return 0;
  double size = std::max({0.0, last, ack}) - begin;
  if (size > 0) size--;
  if (size > 0 && (ep[EP_STATE] & Ep_finSeen) != 0) size--;
  return std::max(0.0, size);
}

// /^\^?S[^HAFGIQ]*R/
bool is_syn_then_rst(const char* history, size_t length) {
  size_t at = length > 0 && history[0] == '^' ? 1 : 0;
  if (at >= length || history[at] != 'S') return false;
  for (at++; at < length; at++) {
    if (history[at] == 'R') return true;
    if (strchr("HAFGIQ", history[at]) != nullptr) return false;
  }
  return false;
}

const char* tcp_state(int32_t orig, int32_t resp, bool empty, const char* history, size_t length) {
  bool orig_unheard = orig == Tcp_inactive || orig == Tcp_partial;
  bool resp_unheard = resp == Tcp_inactive || resp == Tcp_partial;
  if (resp == Tcp_reset) {
    if (orig == Tcp_synSent || orig == Tcp_synAckSent || (orig == Tcp_reset && empty)) return "REJ";
    return orig_unheard ? "RSTRH" : "RSTR";
  }
  if (orig == Tcp_reset) {
    if (!resp_unheard) return "RSTO";
    return is_syn_then_rst(history, length) ? "RSTOS0" : "OTH";
  }
  if (orig == Tcp_closed && resp == Tcp_closed) return "SF";
  if (orig == Tcp_closed) return resp_unheard ? "SH" : "S2";
  if (resp == Tcp_closed) return orig_unheard ? "SHR" : "S3";
  if (orig == Tcp_synSent && resp == Tcp_inactive) return "S0";
  if (orig == Tcp_established && resp == Tcp_established) return "S1";
  return "OTH";
}

const char* udp_state(double orig, double resp) {
  if (orig >= 0) return resp >= 0 ? "SF" : "S0";
  return resp >= 0 ? "SHR" : "OTH";
}

Side side_of(const int32_t* hot, const int32_t* cold, int32_t side) {
  Side out;
  bool wide = (hot[FLAGS] & Flag_wide) != 0;
  const auto* key = reinterpret_cast<const uint8_t*>(cold);
  static const uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  out.address = key + side * (wide ? 16 : 4);
  out.address_bytes = wide ? 16 : 4;
  if (wide && memcmp(out.address, kMapped, 12) == 0) {
    out.address += 12;
    out.address_bytes = 4;
  }
  const uint8_t* port = key + (wide ? 32 : 8) + 2 * side;
  out.port = static_cast<uint16_t>(port[0] << 8 | port[1]);
  out.hot = hot + ENDPOINT + side * ENDPOINT_WORDS;
  int32_t high = cold[C_ENDPOINT + side * C_ENDPOINT_WORDS + CEP_PACKETS_HIGH];
  out.packets = high * kWrap + static_cast<uint32_t>(hot[PACKETS + side]);
  out.ip_bytes = read_double(hot, F_IP_BYTES + side);
  out.bytes = read_double(out.hot, EP_F_PAYLOAD);
  return out;
}

bool is_local(const Networks& local, const Side& side) {
  bool four = side.address_bytes == 4;
  const uint8_t* net = four ? local.nets4 : local.nets6;
  for (size_t n = four ? local.count4 : local.count6; n > 0; n--, net += kNetworkBytes) {
    size_t whole = net[0] / 8;
    if (memcmp(net + 1, side.address, whole) != 0) continue;
    int rest = net[0] % 8;
    if (rest == 0 || ((net[1 + whole] ^ side.address[whole]) & 0xff00 >> rest & 0xff) == 0) return true;
  }
  return false;
}

}  // namespace

size_t conn_line(const int32_t* hot, const int32_t* cold, const Networks& local, std::string_view service, std::string_view more,
                 char* out) {
  int32_t flags = hot[FLAGS];
  int32_t protocol = static_cast<int32_t>(static_cast<uint32_t>(flags) >> PROTOCOL_SHIFT);
  int32_t length = cold[C_HISTORY_LENGTH];
  if ((flags & (Flag_carrier | Flag_tunnelled)) != 0 || length > HISTORY_BYTES) return 0;
  if (protocol != IpProto_tcp && protocol != IpProto_udp) return 0;
  const char* history = reinterpret_cast<const char*>(cold) + C_HISTORY;
  int32_t first = (flags & Flag_origHigh) == 0 ? 0 : 1;
  Side orig = side_of(hot, cold, first);
  Side resp = side_of(hot, cold, 1 - first);
  const char* state;
  if (protocol == IpProto_tcp) {
    orig.bytes = size_of(orig.hot, resp.hot);
    resp.bytes = size_of(resp.hot, orig.hot);
    state = tcp_state(state_of(orig.hot), state_of(resp.hot), orig.bytes == 0 && resp.bytes == 0, history,
                      static_cast<size_t>(length));
  } else {
    state = udp_state(orig.bytes, resp.bytes);
    orig.bytes = std::max(0.0, orig.bytes);
    resp.bytes = std::max(0.0, resp.bytes);
  }
  double begin = read_double(cold, CF_START);
  double duration = read_double(hot, F_LAST) - begin;
  auto word = [cold](int32_t i) { return static_cast<uint32_t>(cold[C_UID + i]); };

  Line line(out);
  line.piece("{\"ts\":");
  line.six_decimals(begin);
  line.piece(",\"uid\":\"C");
  line.base62(word(0));
  line.base62(static_cast<uint64_t>(word(1)) << 32 | word(2));
  line.piece("\",\"id.orig_h\":\"");
  line.address(orig.address, orig.address_bytes);
  line.piece("\",\"id.orig_p\":");
  line.number(orig.port);
  line.piece(",\"id.resp_h\":\"");
  line.address(resp.address, resp.address_bytes);
  line.piece("\",\"id.resp_p\":");
  line.number(resp.port);
  if (protocol == IpProto_tcp) line.piece(",\"proto\":\"tcp\"");
  else line.piece(",\"proto\":\"udp\"");
  if (!service.empty()) {
    line.piece(",\"service\":\"");
    line.bytes(service.data(), service.size());
    line.piece("\"");
  }
  if (duration > 0) {
    line.piece(",\"duration\":");
    line.six_decimals(duration);
    line.piece(",\"orig_bytes\":");
    line.number(orig.bytes);
    line.piece(",\"resp_bytes\":");
    line.number(resp.bytes);
  }
  line.piece(",\"conn_state\":\"");
  line.bytes(state, strlen(state));
  line.piece("\",\"local_orig\":");
  line.truth(is_local(local, orig));
  line.piece(",\"local_resp\":");
  line.truth(is_local(local, resp));
  line.piece(",\"missed_bytes\":");
  line.number(read_double(cold, CF_MISSED));
  if (length > 0) {
    line.piece(",\"history\":\"");
    line.bytes(history, static_cast<size_t>(length));
    line.piece("\"");
  }
  line.piece(",\"orig_pkts\":");
  line.number(orig.packets);
  line.piece(",\"orig_ip_bytes\":");
  line.number(orig.ip_bytes);
  line.piece(",\"resp_pkts\":");
  line.number(resp.packets);
  line.piece(",\"resp_ip_bytes\":");
  line.number(resp.ip_bytes);
  line.piece(",\"ip_proto\":");
  line.number(protocol);
  line.bytes(more.data(), more.size());
  line.piece("}\n");
  return line.length();
}

}  // namespace sluice::flow
