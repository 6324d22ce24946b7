// Hardware counters of one CPU (perf_event_open).
#include <errno.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "addon.h"

namespace sluice {

namespace {

// (cpu, config: PERF_COUNT_HW_*) -> fd of a counter of all that runs on the CPU, or a negative errno.
napi_value perf_open(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int cpu = args.i32(0);
  uint32_t config = args.u32(1);
  if (!args.ok) return nullptr;
  perf_event_attr attributes = {};
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_HARDWARE;
  attributes.config = config;
  int fd = static_cast<int>(syscall(SYS_perf_event_open, &attributes, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC));
  return number(env, fd < 0 ? -errno : own(env, fd));
}

// (fd) -> the count since it was opened, or a negative errno.
napi_value perf_read(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  uint64_t count = 0;
  if (read(fd, &count, sizeof count) != sizeof count) return number(env, -errno);
  return number(env, static_cast<double>(count));
}

}  // namespace

void register_perf(napi_env env, napi_value exports) {
  const Function functions[] = {{"perfOpen", perf_open}, {"perfRead", perf_read}};
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
