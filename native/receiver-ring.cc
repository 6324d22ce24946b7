// io_uring: one multishot recvmsg that fills slots of a provided buffer ring. Raw system calls: liburing would be a
// library for three of them.
//
// Each slot begins with what the kernel writes before a payload: io_uring_recvmsg_out, then room for the control messages.
#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "receiver.h"

namespace sluice {

namespace {

constexpr uint32_t kBatch = 256;
constexpr uint32_t kSubmissions = 4;
constexpr uint16_t kGroup = 1;
constexpr uint32_t kPrefix = sizeof(io_uring_recvmsg_out) + kControl;

uint32_t load(const uint32_t* word) { return std::atomic_ref(*const_cast<uint32_t*>(word)).load(std::memory_order_acquire); }
void store(uint32_t* word, uint32_t value) { std::atomic_ref(*word).store(value, std::memory_order_release); }

class Region {
 public:
  Region() = default;
  ~Region() {
    if (address_ != MAP_FAILED) munmap(address_, size_);
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  bool map(int fd, size_t size, off_t offset) {
    size_ = size;
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
    address_ = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, offset);
    return address_ != MAP_FAILED;
  }
  template <typename Type>
  Type* at(size_t offset) {
    return reinterpret_cast<Type*>(static_cast<uint8_t*>(address_) + offset);
  }

 private:
  void* address_ = MAP_FAILED;
  size_t size_ = 0;
};

class RingReceiver : public Receiver {
 public:
  RingReceiver(int fd, uint32_t slots, uint32_t slot_bytes)
      : Receiver(slots, stride_for(kPrefix + slot_bytes)),
        fd_(fd),
        slots_(slots),
        buffer_bytes_(kPrefix + slot_bytes),
        batch_(std::min(kBatch, slots)) {
    shown_.reserve(batch_);
  }

  ~RingReceiver() override {
    if (ring_ < 0) return;
    // Nothing may write into the slots once this has returned.
    io_uring_sync_cancel_reg cancel = {};
    cancel.fd = fd_;
    cancel.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
    cancel.timeout = {-1, -1};
    syscall(SYS_io_uring_register, ring_, IORING_REGISTER_SYNC_CANCEL, &cancel, 1);
    close(ring_);
  }

  // The name of the step that failed, with errno; null when all went well.
  const char* open() {
    if (!arena.ok()) return "mmap";
    io_uring_params params = {};
    // Deferred: nothing is done, and this thread not woken, before it enters the kernel for it.
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
    params.cq_entries = slots_ * 2;
    ring_ = static_cast<int>(syscall(SYS_io_uring_setup, kSubmissions, &params));
    if (ring_ < 0) return "io_uring_setup";
    size_t submissions = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    size_t completions = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
    if (!rings_.map(ring_, std::max(submissions, completions), IORING_OFF_SQ_RING) ||
        !entries_.map(ring_, params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES) ||
        !buffers_.map(-1, slots_ * sizeof(io_uring_buf), 0)) {
      return "mmap";
    }
    sq_tail_ = rings_.at<uint32_t>(params.sq_off.tail);
    sq_mask_ = *rings_.at<uint32_t>(params.sq_off.ring_mask);
    sq_array_ = rings_.at<uint32_t>(params.sq_off.array);
    cq_head_ = rings_.at<uint32_t>(params.cq_off.head);
    cq_tail_ = rings_.at<uint32_t>(params.cq_off.tail);
    cq_mask_ = *rings_.at<uint32_t>(params.cq_off.ring_mask);
    cqes_ = rings_.at<io_uring_cqe>(params.cq_off.cqes);
    io_uring_buf_reg group = {};
    group.ring_addr = reinterpret_cast<uint64_t>(buffers_.at<io_uring_buf>(0));
    group.ring_entries = slots_;
    group.bgid = kGroup;
    if (syscall(SYS_io_uring_register, ring_, IORING_REGISTER_PBUF_RING, &group, 1) < 0) return "IORING_REGISTER_PBUF_RING";
    for (uint32_t i = 0; i < slots_; i++) provide(static_cast<uint16_t>(i));
    publish();
    control_.msg_controllen = kControl;
    if (int result = enter(); result < 0) {
      errno = -result;
      return "io_uring_enter";
    }
    // A kernel that does not know multishot answers at once.
    if (load(cq_tail_) != *cq_head_) {
      const io_uring_cqe& first = cqes_[*cq_head_ & cq_mask_];
      if (first.res == -EINVAL) {
        errno = EINVAL;
        return "IORING_RECV_MULTISHOT";
      }
    }
    return nullptr;
  }

  int receive() override {
    arena.read_clocks();
    arena.state().empty = 0;
    for (uint16_t buffer : shown_) provide(buffer);
    if (!shown_.empty()) publish();
    shown_.clear();
    harvest();
    if (shown_.empty() || !armed_) {
      // The kernel fills slots when this thread enters it, and only then.
      if (int result = enter(); result < 0) return result;
      harvest();
    }
    if (error_ != 0) return std::exchange(error_, 0);
    if (shown_.empty()) arena.state().empty = drained() ? 1 : 0;
    return static_cast<int>(shown_.size());
  }

 private:
  int fd_;
  uint32_t slots_;
  uint32_t buffer_bytes_;
  uint32_t batch_;
  int ring_ = -1;
  Region rings_;
  Region entries_;
  Region buffers_;
  uint32_t* sq_tail_ = nullptr;
  uint32_t* sq_array_ = nullptr;
  uint32_t sq_mask_ = 0;
  uint32_t* cq_head_ = nullptr;
  uint32_t* cq_tail_ = nullptr;
  uint32_t cq_mask_ = 0;
  io_uring_cqe* cqes_ = nullptr;
  uint16_t provided_ = 0;
  bool armed_ = false;
  int error_ = 0;
  msghdr control_ = {};
  std::vector<uint16_t> shown_;

  void provide(uint16_t buffer) {
    // Not the whole entry: the tail lies in a spare field of the first one.
    auto* entry = buffers_.at<io_uring_buf>((provided_++ & (slots_ - 1)) * sizeof(io_uring_buf));
    entry->addr = reinterpret_cast<uint64_t>(arena.slot(buffer));
    entry->len = buffer_bytes_;
    entry->bid = buffer;
  }

  void publish() {
    auto* tail = &buffers_.at<io_uring_buf>(0)->resv;
    std::atomic_ref(*tail).store(provided_, std::memory_order_release);
  }

  // Submits the receive again when it has ended, and lets the kernel do what waits for this thread.
  int enter() {
    uint32_t submit = 0;
    if (!armed_) {
      uint32_t tail = *sq_tail_;
      uint32_t index = tail & sq_mask_;
      auto* entry = entries_.at<io_uring_sqe>(index * sizeof(io_uring_sqe));
      memset(entry, 0, sizeof *entry);
      entry->opcode = IORING_OP_RECVMSG;
      entry->ioprio = IORING_RECV_MULTISHOT;
      entry->flags = IOSQE_BUFFER_SELECT;
      entry->fd = fd_;
      entry->addr = reinterpret_cast<uint64_t>(&control_);
      entry->msg_flags = MSG_TRUNC;
      entry->buf_group = kGroup;
      sq_array_[index] = index;
      store(sq_tail_, tail + 1);
      armed_ = true;
      submit = 1;
    }
    long result = syscall(SYS_io_uring_enter, ring_, submit, 0, IORING_ENTER_GETEVENTS, nullptr, 0);
    return result < 0 && errno != EINTR ? -errno : 0;
  }

  void harvest() {
    uint32_t head = *cq_head_;
    uint32_t tail = load(cq_tail_);
    while (head != tail && shown_.size() < batch_) {
      const io_uring_cqe& done = cqes_[head++ & cq_mask_];
      if ((done.flags & IORING_CQE_F_MORE) == 0) armed_ = false;
      if ((done.flags & IORING_CQE_F_BUFFER) != 0) {
        take(static_cast<uint16_t>(done.flags >> IORING_CQE_BUFFER_SHIFT), done.res);
      } else if (done.res < 0 && done.res != -ENOBUFS && done.res != -EINTR) {
        error_ = done.res;
      }
    }
    store(cq_head_, head);
  }

  void take(uint16_t buffer, int length) {
    uint8_t* slot = arena.slot(buffer);
    io_uring_recvmsg_out out;
    memcpy(&out, slot, sizeof out);
    uint32_t captured = std::max(length, static_cast<int>(kPrefix)) - kPrefix;
    msghdr messages = {};
    messages.msg_control = slot + sizeof out;
    messages.msg_controllen = std::min<size_t>(out.controllen, kControl);
    arena.put(static_cast<uint32_t>(shown_.size()), slot + kPrefix, captured, std::max(captured, out.payloadlen), &messages);
    shown_.push_back(buffer);
  }

  // Whether all that had come to the socket has been shown.
  bool drained() {
    pollfd socket = {fd_, POLLIN, 0};
    return armed_ && poll(&socket, 1, 0) == 0 && load(cq_tail_) == *cq_head_;
  }
};

}  // namespace

std::unique_ptr<Receiver> ring_receiver(int fd, uint32_t slots, uint32_t slot_bytes, int* error, std::string* step) {
  auto receiver = std::make_unique<RingReceiver>(fd, slots, slot_bytes);
  const char* failed = receiver->open();
  if (failed == nullptr) return receiver;
  *error = errno;
  *step = failed;
  return nullptr;
}

}  // namespace sluice
