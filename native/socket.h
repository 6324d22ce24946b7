// A socket that is being set up: one option after the other, closed when it does not come to an end.
#pragma once

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

namespace sluice {

// After the first step that fails nothing more is done; `error` is its errno and `step` its name.
class SocketSetup {
 public:
  SocketSetup(int family, int type, int protocol) : fd_(socket(family, type | SOCK_CLOEXEC, protocol)) {
    if (fd_ < 0) fail("socket");
  }
  ~SocketSetup() {
    if (fd_ >= 0) close(fd_);
  }
  SocketSetup(const SocketSetup&) = delete;
  SocketSetup& operator=(const SocketSetup&) = delete;

  template <typename Value>
  void option(int level, int name, const Value& value, const char* at) {
    if (error == 0 && setsockopt(fd_, level, name, &value, sizeof value) < 0) fail(at);
  }
  // As far as the privileges go: a smaller buffer is no failure.
  void buffer(int forced, int asked, int bytes) {
    if (error != 0 || setsockopt(fd_, SOL_SOCKET, forced, &bytes, sizeof bytes) == 0) return;
    setsockopt(fd_, SOL_SOCKET, asked, &bytes, sizeof bytes);
  }
  void bind_to(const sockaddr* address, socklen_t size) {
    if (error == 0 && bind(fd_, address, size) < 0) fail("bind");
  }
  int release() {
    int fd = fd_;
    fd_ = -1;
    return fd;
  }

  int error = 0;
  const char* step = "";

 private:
  int fd_;
  void fail(const char* at) {
    error = errno;
    step = at;
  }
};

}  // namespace sluice
