// What takes datagrams off a socket, many at a time, into memory that JavaScript reads: at its head the state and the
// columns of the last batch, behind them one slot per datagram.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <string>

#include "addon.h"

namespace sluice {

// Of the clocks since the receiver was opened, in nanoseconds; doubles, as JavaScript reads them.
struct ReceiverState {
  double now;     // CLOCK_MONOTONIC, before the socket was read the last time
  double offset;  // how much further CLOCK_REALTIME has gone; never too little
  double empty;   // 1 when nothing that had come by `now` is left in the socket
  double unused[5];
};

// The memory, the columns in it, and the clocks.
class Arena {
 public:
  Arena(uint32_t slots, uint32_t stride);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  bool ok() const { return base_ != nullptr; }
  // For JavaScript. It is unmapped when neither that nor the receiver has it any more: an environment that ends lets go of its
  // buffers first, and the kernel may still write here then.
  napi_value share(napi_env env) { return external_memory(env, base_, size_, memory_); }

  uint8_t* slot(uint32_t index) { return base_ + head_ + static_cast<size_t>(index) * stride_; }
  uint32_t offset_of(const uint8_t* place) const { return static_cast<uint32_t>(place - base_); }
  ReceiverState& state() { return *reinterpret_cast<ReceiverState*>(base_); }
  void read_clocks();
  // One row of the columns: `control` as recvmsg(2) gives it.
  void put(uint32_t row, const uint8_t* payload, uint32_t captured, uint32_t wire, msghdr* control);

 private:
  uint8_t* base_ = nullptr;
  std::shared_ptr<void> memory_;
  size_t size_;
  uint32_t head_;
  uint32_t stride_;
  uint32_t slots_;
  int64_t real_base_;
  int64_t monotonic_base_;

  double* stamps() { return reinterpret_cast<double*>(base_ + sizeof(ReceiverState)); }
  double* since() { return stamps() + slots_; }
  uint32_t* words() { return reinterpret_cast<uint32_t*>(since() + slots_); }
};

// Room for the two messages that the kernel writes beside a datagram: its time, and the drops before it.
constexpr size_t kControl = CMSG_SPACE(sizeof(timespec)) + CMSG_SPACE(sizeof(uint32_t));

// The distance of slots that hold `bytes`: an odd number of cache lines, so that their beginnings share no cache set.
constexpr uint32_t stride_for(uint32_t bytes) { return ((bytes + 63) / 64 | 1) * 64; }

class Receiver : public Handle {
 public:
  Receiver(uint32_t slots, uint32_t stride) : arena(slots, stride) {}
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;
  // Rows filled, or a negative errno. What the last call has shown is overwritten.
  virtual int receive() = 0;
  Arena arena;
};

// Throws nothing: on failure null, with `error` and `step`.
std::unique_ptr<Receiver> ring_receiver(int fd, uint32_t slots, uint32_t slot_bytes, int* error, std::string* step);

}  // namespace sluice
