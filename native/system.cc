// Clocks, membarrier, locks, mounts, affinity.
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "addon.h"

namespace sluice {

namespace {

double seconds(clockid_t clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

napi_value monotonic(napi_env env, napi_callback_info) { return number(env, seconds(CLOCK_MONOTONIC)); }

napi_value coarse_step(napi_env env, napi_callback_info) {
  timespec step = {};
  clock_getres(CLOCK_MONOTONIC_COARSE, &step);
  return number(env, static_cast<double>(step.tv_sec) + static_cast<double>(step.tv_nsec) * 1e-9);
}

// Whether somebody keeps CLOCK_REALTIME right (NTP, PTP): 1, 0, or a negative errno.
napi_value clock_synchronized(napi_env env, napi_callback_info) {
  timex state = {};
  int result = adjtimex(&state);
  if (result < 0) return number(env, -errno);
  return number(env, (state.status & STA_UNSYNC) == 0 ? 1 : 0);
}

int64_t nanoseconds(clockid_t clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

// CLOCK_REALTIME - CLOCK_MONOTONIC in seconds, from the tightest of several readings.
napi_value realtime_offset(napi_env env, napi_callback_info) {
  int64_t best = INT64_MAX;
  int64_t offset = 0;
  for (int i = 0; i < 8; i++) {
    int64_t before = nanoseconds(CLOCK_MONOTONIC);
    int64_t real = nanoseconds(CLOCK_REALTIME);
    int64_t after = nanoseconds(CLOCK_MONOTONIC);
    if (after - before < best) {
      best = after - before;
      offset = real - (before + (after - before) / 2);
    }
  }
  return number(env, static_cast<double>(offset) * 1e-9);
}

struct BarrierJob : Job {
  int error = 0;
  void run() override {
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0) error = -errno;
  }
  napi_value result(napi_env env) override { return number(env, error); }
};

napi_value membarrier_global(napi_env env, napi_callback_info) {
  return queue_job(env, "sluice:membarrier", std::make_unique<BarrierJob>(), {});
}

// Bits of the commands that the kernel knows, or a negative errno.
napi_value membarrier_query(napi_env env, napi_callback_info) {
  int result = static_cast<int>(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0));
  return number(env, result < 0 ? -errno : result);
}

// (path) -> fd; -EWOULDBLOCK when another process (or another handle of this one) holds it
napi_value lock_file(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  std::string path = args.text(0);
  if (!args.ok) return nullptr;
  int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return number(env, -errno);
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
    int error = errno;
    close(fd);
    return number(env, -error);
  }
  return number(env, own(env, fd));
}

napi_value mount_bpffs(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  std::string path = args.text(0);
  if (!args.ok) return nullptr;
  return number(env, mount("bpf", path.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0 ? -errno : 0);
}

// (cpu): pins the calling thread
napi_value set_affinity(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  uint32_t cpu = args.u32(0);
  if (!args.ok) return nullptr;
  if (cpu >= CPU_SETSIZE) return number(env, -EINVAL);
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return number(env, sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0);
}

// The calling thread's network namespace only: sockets, links and child processes made by this thread from now on.
napi_value unshare_netns(napi_env env, napi_callback_info) {
  return number(env, unshare(CLONE_NEWNET) < 0 ? -errno : 0);
}

// (fd of a Unix socket) -> {pid, uid, gid} of who connected
napi_value peer_credentials(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return throw_errno(env, errno, "SO_PEERCRED");
  napi_value out = nullptr;
  napi_create_object(env, &out);
  set(env, out, "pid", number(env, peer.pid));
  set(env, out, "uid", number(env, peer.uid));
  set(env, out, "gid", number(env, peer.gid));
  return out;
}

// -> the number of this thread's network namespace, which no other has had since boot (SO_NETNS_COOKIE), as text; empty before Linux 5.14.
napi_value netns_cookie(napi_env env, napi_callback_info) {
  constexpr int kNetnsCookie = 71;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return text(env, "");
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  bool known = getsockopt(fd, SOL_SOCKET, kNetnsCookie, &cookie, &size) == 0;
  close(fd);
  return text(env, known ? std::to_string(cookie) : "");
}

// (path), such as /proc/PID/ns/net
napi_value enter_netns(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  std::string path = args.text(0);
  if (!args.ok) return nullptr;
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return number(env, -errno);
  int error = setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
  close(fd);
  return number(env, error);
}

}  // namespace

void register_system(napi_env env, napi_value exports) {
  const Function functions[] = {
      {"monotonic", monotonic},           {"realtimeOffset", realtime_offset},
      {"coarseStep", coarse_step},         {"clockSynchronized", clock_synchronized},
      {"membarrier", membarrier_global},  {"membarrierQuery", membarrier_query},
      {"lockFile", lock_file},            {"mountBpffs", mount_bpffs},
      {"netnsCookie", netns_cookie},       {"setAffinity", set_affinity},      {"unshareNetns", unshare_netns},
      {"enterNetns", enter_netns},        {"peerCredentials", peer_credentials},
  };
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
