#include "flow-frame.h"

#include <algorithm>
#include <cstring>

namespace sluice::flow {

namespace {

constexpr uint32_t kEthernetHeader = 14;
constexpr uint32_t kIpv4Header = 20;
constexpr uint32_t kIpv6Header = 40;
constexpr uint32_t kTcpHeader = 20;
constexpr uint32_t kUdpHeader = 8;
constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;

uint32_t native32(const uint8_t* at) {
  uint32_t value;
  memcpy(&value, at, 4);
  return value;
}

uint64_t native64(const uint8_t* at) {
  uint64_t value;
  memcpy(&value, at, 8);
  return value;
}

// Internet checksum (RFC 1071): a sum of words of 32 bits that stays far below 2^64. Bytes in the machine's order.
uint64_t sum_of(const uint8_t* at, uint32_t bytes) {
  uint64_t even = 0;
  uint64_t odd = 0;
  for (; bytes >= 16; at += 16, bytes -= 16) {
    uint64_t a = native64(at);
    uint64_t b = native64(at + 8);
    even += (a & 0xffffffff) + (b & 0xffffffff);
    odd += (a >> 32) + (b >> 32);
  }
  uint64_t sum = even + odd;
  for (; bytes >= 4; at += 4, bytes -= 4) sum += native32(at);
  uint8_t rest[4] = {0, 0, 0, 0};
  for (uint32_t i = 0; i < bytes; i++) rest[i] = at[i];
  return sum + native32(rest);
}

bool is_right(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return sum == 0xffff;
}

uint32_t hash_of(const uint32_t* key, int words, const int32_t* seed) {
  uint32_t a = static_cast<uint32_t>(seed[1]);
  uint32_t h = static_cast<uint32_t>(seed[0]);
  for (int i = 0; i < words; i++) {
    h = (h ^ key[i]) * a;
    h ^= h >> 15;
  }
  h *= static_cast<uint32_t>(seed[2]);
  return h ^ (h >> 16);
}

// Ports in network order, that of the side with the lower address in front.
uint32_t ports_word(const uint8_t* transport, uint8_t side) {
  uint32_t word = native32(transport);
  return side == 0 ? word : word << 16 | word >> 16;
}

void identify4(Frame& frame, const uint8_t* addresses) {
  uint32_t from = big32(addresses);
  uint32_t to = big32(addresses + 4);
  frame.side = from < to || (from == to && frame.source_port <= frame.destination_port) ? 0 : 1;
  frame.key[0] = native32(addresses + (frame.side == 0 ? 0 : 4));
  frame.key[1] = native32(addresses + (frame.side == 0 ? 4 : 0));
  frame.key[2] = ports_word(frame.transport, frame.side);
  frame.key[3] = frame.protocol;
}

void identify6(Frame& frame, const uint8_t* addresses) {
  int order = memcmp(addresses, addresses + 16, 16);
  frame.side = order < 0 || (order == 0 && frame.source_port <= frame.destination_port) ? 0 : 1;
  memcpy(frame.key, addresses + (frame.side == 0 ? 0 : 16), 16);
  memcpy(frame.key + 4, addresses + (frame.side == 0 ? 16 : 0), 16);
  frame.key[8] = ports_word(frame.transport, frame.side);
  frame.key[9] = frame.protocol;
  frame.key[10] = 0;
  frame.key[11] = 0;
}

// Whether the transport checksum is right or cannot be told; false also when TypeScript has to look.
bool transport_holds(const Frame& frame, const uint8_t* addresses, uint32_t address_bytes, bool cut) {
  if (frame.captured < frame.transport_bytes) return true;
  if (frame.protocol == kUdp) {
    if (cut) return true;
    if (frame.transport[6] == 0 && frame.transport[7] == 0) return !frame.wide;
  }
  // The pseudo header: its words as they would lie in memory.
  uint64_t sum = sum_of(addresses, 2 * address_bytes) + (static_cast<uint64_t>(frame.protocol) << 8);
  uint32_t length = frame.transport_bytes;
  sum += (length & 0xff) << 8 | (length >> 8 & 0xff);
  return is_right(sum + sum_of(frame.transport, length));
}

}  // namespace

void see(Frame& frame, const uint8_t* data, uint32_t captured, uint32_t wire_length, bool checksums,
         const int32_t* seed) {
  frame.plain = false;
  if (captured < kEthernetHeader + kIpv4Header) return;
  const uint8_t* ip = data + kEthernetHeader;
  const uint8_t* end = data + captured;
  uint32_t type = big16(data + 12);
  uint32_t total;
  uint32_t header;
  if (type == 0x0800) {
    if (ip[0] != 0x45 || (big16(ip + 6) & 0x3fff) != 0) return;
    total = big16(ip + 2);
    header = kIpv4Header;
    if (total < header) return;
    frame.protocol = ip[9];
    frame.wide = false;
  } else if (type == 0x86dd) {
    if (captured < kEthernetHeader + kIpv6Header || ip[0] >> 4 != 6) return;
    total = big16(ip + 4) + kIpv6Header;
    header = kIpv6Header;
    frame.protocol = ip[6];
    frame.wide = true;
  } else {
    return;
  }
  if (frame.protocol != kTcp && frame.protocol != kUdp) return;
  if (kEthernetHeader + total > wire_length) return;
  frame.transport = ip + header;
  if (frame.transport > end) return;
  frame.transport_bytes = total - header;
  frame.captured = std::min<uint32_t>(frame.transport_bytes, static_cast<uint32_t>(end - frame.transport));
  frame.ip_bytes = total;
  if (frame.captured < (frame.protocol == kTcp ? kTcpHeader : kUdpHeader)) return;
  frame.source_port = static_cast<uint16_t>(big16(frame.transport));
  frame.destination_port = static_cast<uint16_t>(big16(frame.transport + 2));
  const uint8_t* addresses = ip + (frame.wide ? 8 : 12);
  if (checksums) {
    if (!frame.wide && !is_right(sum_of(ip, kIpv4Header))) return;
    if (!transport_holds(frame, addresses, frame.wide ? 16 : 4, wire_length > captured)) return;
  }
  if (frame.wide) identify6(frame, addresses);
  else identify4(frame, addresses);
  frame.hash = hash_of(frame.key, frame.wide ? 12 : 4, seed);
  frame.plain = true;
}

}  // namespace sluice::flow
