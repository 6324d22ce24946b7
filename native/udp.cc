// UDP sockets that a mirror sends to: opened with everything that makes losses known, and balanced over a group of them.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "addon.h"
#include "socket.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

namespace sluice {

namespace {

constexpr uint32_t kMemInfoWords = 9;  // SK_MEMINFO_VARS (linux/sock_diag.h)

// (address, port, reusePort, bufferBytes) -> fd, bound. `::` takes IPv4 as well.
napi_value udp_open(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  std::string address = args.text(0);
  uint32_t port = args.u32(1);
  bool reuse_port = args.boolean(2);
  int buffer = args.i32(3);
  if (!args.ok) return nullptr;
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* found = nullptr;
  if (port > 65535 || getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    return throw_errno(env, EINVAL, "address");
  }
  SocketSetup opening(found->ai_family, SOCK_DGRAM | SOCK_NONBLOCK, IPPROTO_UDP);
  if (found->ai_family == AF_INET6) opening.option(IPPROTO_IPV6, IPV6_V6ONLY, 0, "IPV6_V6ONLY");
  if (reuse_port) opening.option(SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  // Beyond net.core.rmem_max only with CAP_NET_ADMIN.
  opening.buffer(SO_RCVBUFFORCE, SO_RCVBUF, buffer);
  opening.option(SOL_SOCKET, SO_TIMESTAMPNS, 1, "SO_TIMESTAMPNS");
  opening.option(SOL_SOCKET, SO_RXQ_OVFL, 1, "SO_RXQ_OVFL");
  opening.bind_to(found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  if (opening.error != 0) return throw_errno(env, opening.error, opening.step);
  return number(env, own(env, opening.release()));
}

// (fd, out: Uint8Array) -> 0 or a negative errno: nine words of SO_MEMINFO, then the local port.
napi_value udp_state(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int fd = args.i32(0);
  Bytes out = args.bytes(1);
  if (!args.ok) return nullptr;
  uint32_t words[kMemInfoWords + 1] = {};
  if (out.size < sizeof words) return number(env, -EINVAL);
  socklen_t size = kMemInfoWords * sizeof(uint32_t);
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, words, &size) < 0) return number(env, -errno);
  sockaddr_storage bound = {};
  socklen_t length = sizeof bound;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length) < 0) return number(env, -errno);
  // Both families have the port at the same place.
  words[kMemInfoWords] = ntohs(reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  memcpy(out.data, words, sizeof words);
  return number(env, 0);
}

// (fd, program: classic instructions, or undefined; programFd) -> 0 or a negative errno: chooses the socket of each
// datagram among those that share the port.
napi_value udp_balance(napi_env env, napi_callback_info info) {
  Args args(env, info, 3);
  int fd = args.i32(0);
  Bytes classic = args.bytes(1);
  int program_fd = args.i32(2);
  if (!args.ok) return nullptr;
  if (!classic.present) {
    int result = setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &program_fd, sizeof program_fd);
    return number(env, result < 0 ? -errno : 0);
  }
  std::vector<sock_filter> code(classic.size / sizeof(sock_filter));
  if (code.empty() || code.size() > BPF_MAXINSNS) return number(env, -EINVAL);
  memcpy(code.data(), classic.data, code.size() * sizeof(sock_filter));
  sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
  int result = setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program);
  return number(env, result < 0 ? -errno : 0);
}

}  // namespace

void register_udp(napi_env env, napi_value exports) {
  const Function functions[] = {{"udpOpen", udp_open}, {"udpState", udp_state}, {"udpBalance", udp_balance}};
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
