// The flow engine's short ways: what nearly all packets of ordinary connections are (begin, handshake, data in order,
// acknowledgements, close, UDP), accounted in the tables of src/flow, which this shares. Each is a part of what
// src/flow does with such a packet, with the same result to the bit; before anything that is not exactly such a one it
// stops without having changed anything, and TypeScript goes on (docs/adr/0032-native-short-ways.md).
#pragma once

#include "flow-tables.h"

namespace sluice::flow {

constexpr uint32_t kPlaceWords = 4;

struct Segment {
  uint8_t flags;
  int32_t seq;
  int32_t ack;
  uint32_t bytes;
};

class ShortWays : public Tables {
 public:
  // The packets in work: four words each (offset, bytes captured, bytes on the wire, link type), and times.
  const Word* places = nullptr;
  const Double* times = nullptr;
  bool checksums = false;
  // Without recognizers, flows can be opened and closed here.
  bool bare = false;

  // Accounts packets[from, count): the number of the first one that is left to TypeScript, or count. `fresh`: these are
  // others than in the call before.
  uint32_t take(const uint8_t* memory, size_t size, uint32_t from, uint32_t count, bool fresh);

 private:
  Frame frames_[MOST_FETCHED];
  uint32_t begin_ = 0;
  uint32_t end_ = 0;

  void look(const uint8_t* memory, size_t size, uint32_t from, uint32_t count);
  void fetch_hot(int32_t slot) {
    __builtin_prefetch(words + slot * WORDS, 1);
    __builtin_prefetch(words + slot * WORDS + 16, 1);
  }
  bool arrive(const Frame& frame, double ts);
  bool open(const Frame& frame, double ts);
  bool datagram(const Frame& frame, uint16_t port, int32_t& payload) const;
  bool udp(int32_t slot, const Frame& frame, double ts);
  bool tcp(int32_t slot, const Frame& frame, double ts);
  bool steady(int32_t slot, int32_t ep, int32_t peer, bool is_orig, const Frame& frame, const Segment& segment, double ts);
  bool answer(int32_t slot, int32_t ep, int32_t peer, bool is_orig, const Frame& frame, const Segment& segment, double ts);
  // An acknowledgement of something new between established sides: acks of src/flow/losses.ts.
  void note_ack(int32_t slot) {
    if ((words[slot * WORDS + FLAGS] & Flag_marked) == 0) losses[0] += 1;
  }
  // A packet with an earlier time than one before: outOfOrder, outOfOrderDepth of src/flow/losses.ts.
  void note_late(double back) {
    losses[5] += 1;
    if (back > losses[6]) losses[6] = back;
  }
  bool closing(int32_t slot, int32_t ep, int32_t peer, bool is_orig, const Segment& segment, double ts);
};

}  // namespace sluice::flow
