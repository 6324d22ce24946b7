// Plain frames for the flow engine's short ways: Ethernet without tags, IPv4 without options or fragments or IPv6 without
// extension headers, TCP or UDP. Pure functions over bytes. What is decoded here is decoded alike in
// src/packet/decode.ts, src/flow/keys.ts and src/flow/table.ts; everything else is left to those.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::flow {

// One frame: where it lies, and, when it is plain, what it is.
struct Frame {
  bool plain = false;
  bool wide = false;  // IPv6: the key has 12 words
  uint8_t protocol = 0;
  uint8_t side = 0;
  uint32_t hash = 0;
  uint32_t key[12] = {};
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  const uint8_t* transport = nullptr;
  uint32_t transport_bytes = 0;
  uint32_t captured = 0;  // of the transport header and its data
  uint32_t ip_bytes = 0;
};

inline uint32_t big16(const uint8_t* at) { return static_cast<uint32_t>(at[0] << 8 | at[1]); }

inline uint32_t big32(const uint8_t* at) {
  uint32_t value;
  __builtin_memcpy(&value, at, 4);
  return __builtin_bswap32(value);
}

// Decodes and, when it is plain and its checksums are right or not asked for, identifies the frame at data[0, captured).
void see(Frame& frame, const uint8_t* data, uint32_t captured, uint32_t wire_length, bool checksums,
         const int32_t* seed);

}  // namespace sluice::flow
