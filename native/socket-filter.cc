// The kernel's own classic filters: attached to a Unix datagram socket, which wants no privilege. What a filter returns
// shows in what is left of a datagram: nothing, or as many bytes as it says.
#include <errno.h>
#include <linux/filter.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "addon.h"

namespace sluice {

namespace {

constexpr size_t kWords = 2;
constexpr uint32_t kLongest = 65536;

struct Pair {
  int fds[2] = {-1, -1};
  ~Pair() {
    for (int fd : fds) {
      if (fd >= 0) close(fd);
    }
  }
};

// (filter, memory, frames, kept) -> 0, or a negative errno. `frames` has two words a packet: offset in `memory` and
// length; `kept` gets one word a packet: bytes that the filter let through, 0 for none.
napi_value run_socket_filter(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  Bytes filter = args.bytes(0);
  Bytes memory = args.bytes(1);
  Bytes frames = args.bytes(2);
  Bytes kept = args.bytes(3);
  if (!args.ok) return nullptr;
  std::vector<sock_filter> code(filter.size / sizeof(sock_filter));
  if (code.empty() || code.size() > BPF_MAXINSNS) return number(env, -EINVAL);
  memcpy(code.data(), filter.data, code.size() * sizeof(sock_filter));
  Pair pair;
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.fds) != 0) return number(env, -errno);
  sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
  if (setsockopt(pair.fds[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) return number(env, -errno);
  size_t count = std::min(frames.size / (kWords * sizeof(uint32_t)), kept.size / sizeof(uint32_t));
  std::vector<uint8_t> received(kLongest);
  for (size_t i = 0; i < count; i++) {
    uint32_t frame[kWords];
    memcpy(frame, frames.data + i * sizeof frame, sizeof frame);
    size_t offset = std::min<size_t>(frame[0], memory.size);
    size_t length = std::min<size_t>(std::min(frame[1], kLongest), memory.size - offset);
    if (send(pair.fds[0], memory.data + offset, length, 0) < 0) return number(env, -errno);
    ssize_t got = recv(pair.fds[1], received.data(), received.size(), 0);
    if (got < 0 && errno != EAGAIN) return number(env, -errno);
    uint32_t result = got < 0 ? 0 : static_cast<uint32_t>(got);
    memcpy(kept.data + i * sizeof result, &result, sizeof result);
  }
  return number(env, 0);
}

// (socket, program) -> 0 or a negative errno: from now on this eBPF program filters what the socket receives, in place of
// the one before.
napi_value attach_socket_filter(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int fd = args.i32(0);
  int program = args.i32(1);
  if (!args.ok) return nullptr;
  return number(env, setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program) < 0 ? -errno : 0);
}

}  // namespace

void register_socket_filter(napi_env env, napi_value exports) {
  const Function functions[] = {{"runSocketFilter", run_socket_filter}, {"attachSocketFilter", attach_socket_filter}};
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
