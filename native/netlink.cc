// One netlink request and all of its answers, as bytes; src/kernel builds the one and reads the others. The socket
// belongs to the network namespace of the calling thread, unlike /sys/class/net.
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "addon.h"

namespace sluice {

namespace {

constexpr size_t kAnswerCap = 256u << 20;

// 0, or an errno. EINTR: the tables changed during the dump.
int exchange(int fd, const Bytes& request, uint32_t sequence, std::vector<uint8_t>* answers) {
  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  if (sendto(fd, request.data, request.size, 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel) < 0) return errno;
  std::vector<uint8_t> buffer(256 * 1024);
  bool interrupted = false;
  for (;;) {
    ssize_t size = recv(fd, buffer.data(), buffer.size(), MSG_TRUNC);
    if (size < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    if (static_cast<size_t>(size) > buffer.size()) return EMSGSIZE;
    size_t at = 0;
    while (at + sizeof(nlmsghdr) <= static_cast<size_t>(size)) {
      nlmsghdr header;
      memcpy(&header, buffer.data() + at, sizeof header);
      if (header.nlmsg_len < sizeof header || at + header.nlmsg_len > static_cast<size_t>(size)) return EBADMSG;
      if (header.nlmsg_seq == sequence) {
        if ((header.nlmsg_flags & NLM_F_DUMP_INTR) != 0) interrupted = true;
        if (header.nlmsg_type == NLMSG_DONE) return interrupted ? EINTR : 0;
        if (header.nlmsg_type == NLMSG_ERROR) {
          int32_t error = 0;
          if (header.nlmsg_len >= sizeof header + sizeof error) {
            memcpy(&error, buffer.data() + at + sizeof header, sizeof error);
          }
          return -error;  // 0 is an acknowledgement
        }
        if (answers->size() + header.nlmsg_len > kAnswerCap) return EMSGSIZE;
        answers->insert(answers->end(), buffer.begin() + static_cast<ptrdiff_t>(at),
                        buffer.begin() + static_cast<ptrdiff_t>(at + header.nlmsg_len));
        // Each message starts on a multiple of four, in the result too.
        answers->resize((answers->size() + 3) & ~static_cast<size_t>(3));
      }
      at += NLMSG_ALIGN(header.nlmsg_len);
    }
  }
}

napi_value ask(napi_env env, const Bytes& request, int protocol) {
  nlmsghdr header;
  if (request.size < sizeof header) return throw_errno(env, EINVAL, "netlink request");
  memcpy(&header, request.data, sizeof header);
  if ((header.nlmsg_flags & (NLM_F_ACK | NLM_F_DUMP)) == 0) return throw_errno(env, EINVAL, "netlink request");
  constexpr int kTries = 8;
  int error = 0;
  for (int i = 0; i < kTries; i++) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0) return throw_errno(env, errno, "netlink socket");
    int strict = 1;
    setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &strict, sizeof strict);
    timeval limit = {10, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    std::vector<uint8_t> answers;
    error = exchange(fd, request, header.nlmsg_seq, &answers);
    close(fd);
    if (error == 0) return bytes_copy(env, answers.data(), answers.size());
    if (error != EINTR) break;
  }
  return throw_errno(env, error, "netlink");
}

// (request) -> Uint8Array of the answers of rtnetlink. The request must ask for a dump or an acknowledgement, or it never ends.
napi_value netlink(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  Bytes request = args.bytes(0);
  return args.ok ? ask(env, request, NETLINK_ROUTE) : nullptr;
}

// (request, protocol) -> the same of another protocol of netlink, such as NETLINK_GENERIC.
napi_value netlink_of(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  Bytes request = args.bytes(0);
  int protocol = args.i32(1);
  return args.ok ? ask(env, request, protocol) : nullptr;
}

}  // namespace

void register_netlink(napi_env env, napi_value exports) {
  const Function functions[] = {{"netlink", netlink}, {"netlinkOf", netlink_of}};
  define(env, exports, functions, 2);
}

}  // namespace sluice
