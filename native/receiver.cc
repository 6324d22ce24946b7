// recvmmsg(2) in batches, and what the two receivers share.
#include "receiver.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include <cstring>

namespace sluice {

namespace {

constexpr uint32_t kMaxSlots = 32768;
constexpr uint32_t kMaxSlotBytes = 1 << 16;
constexpr uint32_t kRowBytes = 2 * sizeof(double) + 4 * sizeof(uint32_t);
constexpr uint32_t kPage = 4096;
constexpr int64_t kSecond = 1000000000;

int64_t nanoseconds(clockid_t clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

}  // namespace

Arena::Arena(uint32_t slots, uint32_t stride)
    : head_((sizeof(ReceiverState) + slots * kRowBytes + kPage - 1) / kPage * kPage),
      stride_(stride),
      slots_(slots),
      real_base_(nanoseconds(CLOCK_REALTIME)),
      monotonic_base_(nanoseconds(CLOCK_MONOTONIC)) {
  size_ = head_ + static_cast<size_t>(slots) * stride;
  void* base = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return;
  base_ = static_cast<uint8_t*>(base);
  memory_ = std::shared_ptr<void>(base, [size = size_](void* address) { munmap(address, size); });
}

void Arena::read_clocks() {
  // The monotonic clock first, and the attempt that was not interrupted: the offset is never too small.
  int64_t monotonic = 0;
  int64_t offset = INT64_MAX;
  for (int i = 0; i < 3; i++) {
    int64_t before = nanoseconds(CLOCK_MONOTONIC);
    int64_t between = nanoseconds(CLOCK_REALTIME) - before;
    if (i == 0) monotonic = before;
    if (between < offset) offset = between;
    if (nanoseconds(CLOCK_MONOTONIC) - before < 1000) break;
  }
  ReceiverState& now = state();
  now.now = static_cast<double>(monotonic - monotonic_base_);
  now.offset = static_cast<double>(offset - (real_base_ - monotonic_base_));
}

void Arena::put(uint32_t row, const uint8_t* payload, uint32_t captured, uint32_t wire, msghdr* control) {
  timespec stamp = {};
  uint32_t drops = 0;
  for (cmsghdr* message = CMSG_FIRSTHDR(control); message != nullptr; message = CMSG_NXTHDR(control, message)) {
    if (message->cmsg_level != SOL_SOCKET) continue;
    if (message->cmsg_type == SCM_TIMESTAMPNS) {
      memcpy(&stamp, CMSG_DATA(message), sizeof stamp);
    } else if (message->cmsg_type == SO_RXQ_OVFL) {
      memcpy(&drops, CMSG_DATA(message), sizeof drops);
    }
  }
  stamps()[row] = static_cast<double>(stamp.tv_sec) + static_cast<double>(stamp.tv_nsec) * 1e-9;
  since()[row] = static_cast<double>(stamp.tv_sec * kSecond + stamp.tv_nsec - real_base_);
  uint32_t* column = words();
  column[row] = offset_of(payload);
  column[slots_ + row] = captured;
  column[2 * slots_ + row] = wire;
  column[3 * slots_ + row] = drops;
}

namespace {

class BatchReceiver : public Receiver {
 public:
  BatchReceiver(int fd, uint32_t slots, uint32_t slot_bytes)
      : Receiver(slots, stride_for(slot_bytes)),
        fd_(fd),
        slot_bytes_(slot_bytes),
        messages_(slots),
        parts_(slots),
        controls_(slots * kControl) {
    if (!arena.ok()) return;
    for (uint32_t i = 0; i < slots; i++) {
      parts_[i] = {arena.slot(i), slot_bytes};
      msghdr& header = messages_[i].msg_hdr;
      header = {};
      header.msg_iov = &parts_[i];
      header.msg_iovlen = 1;
      header.msg_control = &controls_[i * kControl];
      header.msg_controllen = kControl;
    }
  }

  int receive() override {
    arena.read_clocks();
    arena.state().empty = 0;
    // MSG_TRUNC: the length is that of the whole datagram.
    int count = recvmmsg(fd_, messages_.data(), messages_.size(), MSG_DONTWAIT | MSG_TRUNC, nullptr);
    if (count < 0) {
      if (errno == EINTR) return 0;
      if (errno != EAGAIN) return -errno;
      count = 0;
    }
    arena.state().empty = static_cast<size_t>(count) < messages_.size() ? 1 : 0;
    for (int i = 0; i < count; i++) {
      mmsghdr& message = messages_[i];
      uint32_t wire = message.msg_len;
      arena.put(i, arena.slot(i), wire < slot_bytes_ ? wire : slot_bytes_, wire, &message.msg_hdr);
      message.msg_hdr.msg_controllen = kControl;
    }
    return count;
  }

 private:
  int fd_;
  uint32_t slot_bytes_;
  std::vector<mmsghdr> messages_;
  std::vector<iovec> parts_;
  std::vector<uint8_t> controls_;
};

Receiver* receiver_of(napi_env env, uint32_t id) {
  std::shared_ptr<State> state = state_of(env);
  auto found = state->handles.find(id);
  return found == state->handles.end() ? nullptr : dynamic_cast<Receiver*>(found->second.get());
}

// (fd, slots, slotBytes, ring) -> {id, memory}
napi_value receiver_open(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  int fd = args.i32(0);
  uint32_t slots = args.u32(1);
  uint32_t slot_bytes = args.u32(2);
  bool ring = args.boolean(3);
  if (!args.ok) return nullptr;
  bool power = (slots & (slots - 1)) == 0;
  if (slots == 0 || slots > kMaxSlots || !power || slot_bytes == 0 || slot_bytes > kMaxSlotBytes) {
    return throw_errno(env, EINVAL, "slots");
  }
  int error = ENOMEM;
  std::string step = "mmap";
  std::unique_ptr<Receiver> receiver;
  if (ring) {
    receiver = ring_receiver(fd, slots, slot_bytes, &error, &step);
  } else {
    receiver = std::make_unique<BatchReceiver>(fd, slots, slot_bytes);
    if (!receiver->arena.ok()) receiver.reset();
  }
  if (receiver == nullptr) return throw_errno(env, error, step);
  napi_value memory = receiver->arena.share(env);
  if (memory == nullptr) return nullptr;
  napi_value out = nullptr;
  napi_create_object(env, &out);
  std::shared_ptr<State> state = state_of(env);
  uint32_t id = state->next_handle++;
  set(env, out, "id", number(env, id));
  set(env, out, "memory", memory);
  state->handles[id] = std::move(receiver);
  return out;
}

// (id) -> rows, or a negative errno
napi_value receiver_read(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  Receiver* receiver = receiver_of(env, args.u32(0));
  return number(env, receiver == nullptr ? -EBADF : receiver->receive());
}

// (id) -> 0 or a negative errno: the clocks in the state are those of now.
napi_value receiver_clocks(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  Receiver* receiver = receiver_of(env, args.u32(0));
  if (receiver != nullptr) receiver->arena.read_clocks();
  return number(env, receiver == nullptr ? -EBADF : 0);
}

// (id) -> true when it was there. The memory stays until it is unmapped.
napi_value receiver_close(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  uint32_t id = args.u32(0);
  bool there = receiver_of(env, id) != nullptr;
  if (there) state_of(env)->handles.erase(id);
  napi_value out = nullptr;
  napi_get_boolean(env, there, &out);
  return out;
}

}  // namespace

void register_receiver(napi_env env, napi_value exports) {
  const Function functions[] = {{"receiverOpen", receiver_open},
                                {"receiverRead", receiver_read},
                                {"receiverClocks", receiver_clocks},
                                {"receiverClose", receiver_close}};
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
