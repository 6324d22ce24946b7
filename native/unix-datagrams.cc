// Unix datagram sockets, which Node.js does not have.
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "addon.h"

namespace sluice {

namespace {

// A path, or with @ before it a name in the abstract namespace; its length in `length`. False when it is too long.
bool unix_address(const std::string& path, sockaddr_un& at, socklen_t& length) {
  at = {};
  at.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof at.sun_path) return false;
  memcpy(at.sun_path, path.data(), path.size());
  if (path[0] == '@') at.sun_path[0] = 0;
  length = offsetof(sockaddr_un, sun_path) + path.size() + (path[0] == '@' ? 0 : 1);
  return true;
}

// (path): a bound socket, or a negative errno
napi_value unix_datagrams(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  std::string path = args.text(0);
  if (!args.ok) return nullptr;
  sockaddr_un at;
  socklen_t length;
  if (!unix_address(path, at, length)) return number(env, -ENAMETOOLONG);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return number(env, -errno);
  if (bind(fd, reinterpret_cast<sockaddr*>(&at), length) < 0) {
    int error = errno;
    close(fd);
    return number(env, -error);
  }
  return number(env, own(env, fd));
}

// (fd, buffer): the bytes of the next datagram, cut to the buffer, or a negative errno
napi_value receive_datagram(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int fd = args.i32(0);
  auto buffer = args.bytes(1);
  if (!args.ok) return nullptr;
  ssize_t size = recv(fd, buffer.data, buffer.size, MSG_DONTWAIT);
  return number(env, size < 0 ? -errno : static_cast<double>(size));
}

// (path, bytes): sends one datagram without waiting; 0, or a negative errno
napi_value send_datagram(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  std::string path = args.text(0);
  auto bytes = args.bytes(1);
  if (!args.ok) return nullptr;
  sockaddr_un at;
  socklen_t length;
  if (!unix_address(path, at, length)) return number(env, -ENAMETOOLONG);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return number(env, -errno);
  ssize_t sent = sendto(fd, bytes.data, bytes.size, MSG_DONTWAIT | MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&at), length);
  int error = errno;
  close(fd);
  return number(env, sent < 0 ? -error : 0);
}

}  // namespace

void register_unix_datagrams(napi_env env, napi_value exports) {
  const Function functions[] = {
      {"unixDatagrams", unix_datagrams},
      {"receiveDatagram", receive_datagram},
      {"sendDatagram", send_datagram},
  };
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
