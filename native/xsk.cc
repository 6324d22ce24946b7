// AF_XDP sockets: memory for frames, the rings beside it, the binding to a queue. The rings are walked in JavaScript.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "addon.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

namespace sluice {

namespace {

// A protocol that nobody speaks (local experimental): the socket gets no frame, and still hears that its interface goes down.
constexpr uint16_t kNoProtocol = 0x88b6;

// (memory, chunkSize, fillEntries, rxEntries, offsets) -> fd. `offsets` gets struct xdp_mmap_offsets.
napi_value xsk_open(napi_env env, napi_callback_info info) {
  Args args(env, info, 5);
  Bytes memory = args.bytes(0);
  uint32_t chunk = args.u32(1);
  uint32_t fill = args.u32(2);
  uint32_t rx = args.u32(3);
  Bytes out = args.bytes(4);
  if (!args.ok) return nullptr;
  xdp_mmap_offsets offsets = {};
  socklen_t size = sizeof offsets;
  if (out.size < sizeof offsets) return throw_errno(env, EINVAL, "offsets");
  int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return throw_errno(env, errno, "socket");
  xdp_umem_reg umem = {};
  umem.addr = reinterpret_cast<uint64_t>(memory.data);
  umem.len = memory.size;
  umem.chunk_size = chunk;
  // Nothing is sent, but a socket without a ring for that cannot be bound.
  uint32_t completion = 1;
  const char* step = nullptr;
  if (setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem) < 0) {
    step = "XDP_UMEM_REG";
  } else if (setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &fill, sizeof fill) < 0) {
    step = "XDP_UMEM_FILL_RING";
  } else if (setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &completion, sizeof completion) < 0) {
    step = "XDP_UMEM_COMPLETION_RING";
  } else if (setsockopt(fd, SOL_XDP, XDP_RX_RING, &rx, sizeof rx) < 0) {
    step = "XDP_RX_RING";
  } else if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &size) < 0) {
    step = "XDP_MMAP_OFFSETS";
  } else if (size != sizeof offsets) {
    errno = ENOTSUP;
    step = "XDP_MMAP_OFFSETS";
  }
  if (step != nullptr) {
    int error = errno;
    close(fd);
    return throw_errno(env, error, step);
  }
  memcpy(out.data, &offsets, sizeof offsets);
  return number(env, own(env, fd));
}

// (fd, ifindex, queue, flags) -> 0 or a negative errno
napi_value xsk_bind(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  int fd = args.i32(0);
  sockaddr_xdp address = {};
  address.sxdp_family = AF_XDP;
  address.sxdp_ifindex = args.u32(1);
  address.sxdp_queue_id = args.u32(2);
  address.sxdp_flags = static_cast<uint16_t>(args.u32(3));
  if (!args.ok) return nullptr;
  return number(env, bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 ? -errno : 0);
}

// (fd) -> XDP_OPTIONS_*, or a negative errno
napi_value xsk_options(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  xdp_options options = {};
  socklen_t size = sizeof options;
  if (getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &size) < 0) return number(env, -errno);
  return number(env, options.flags);
}

// (fd, out: Uint8Array[48]) -> 0 or a negative errno: struct xdp_statistics, totals since the socket was made.
napi_value xsk_stats(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int fd = args.i32(0);
  Bytes out = args.bytes(1);
  if (!args.ok) return nullptr;
  xdp_statistics stats = {};
  socklen_t size = sizeof stats;
  if (out.size < sizeof stats) return number(env, -EINVAL);
  if (getsockopt(fd, SOL_XDP, XDP_STATISTICS, &stats, &size) < 0) return number(env, -errno);
  memcpy(out.data, &stats, sizeof stats);
  return number(env, 0);
}

// (fd): tells a driver that waits for it that there are free frames again.
napi_value xsk_wake(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  recvfrom(fd, nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
  return undefined(env);
}

// (ifindex) -> fd of a socket that keeps the interface promiscuous and says by ENETDOWN that it went down; no frame
// reaches it.
napi_value promiscuous(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int ifindex = args.i32(0);
  if (!args.ok) return nullptr;
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return throw_errno(env, errno, "socket");
  sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  sock_fprog program = {1, &nothing};
  packet_mreq membership = {};
  membership.mr_ifindex = ifindex;
  membership.mr_type = PACKET_MR_PROMISC;
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(kNoProtocol);
  address.sll_ifindex = ifindex;
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof membership) < 0 ||
      bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
    int error = errno;
    close(fd);
    return throw_errno(env, error, "promiscuous mode");
  }
  return number(env, own(env, fd));
}

}  // namespace

void register_xsk(napi_env env, napi_value exports) {
  const Function functions[] = {{"xskOpen", xsk_open},   {"xskBind", xsk_bind}, {"xskOptions", xsk_options},
                                {"xskStats", xsk_stats}, {"xskWake", xsk_wake}, {"promiscuous", promiscuous}};
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
