// bpf(2) by descriptor: programs, links, pins, test runs. Descriptors are plain numbers, so a worker uses those of
// the main thread; each belongs to the environment that made it.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "addon.h"

namespace sluice {

namespace {

constexpr size_t kLogCap = 64 * 1024;
thread_local LibbpfLog* current_log = nullptr;

int print(enum libbpf_print_level level, const char* format, va_list args) {
  if (current_log == nullptr || level == LIBBPF_DEBUG || current_log->text.size() >= kLogCap) return 0;
  char line[1024];
  int size = vsnprintf(line, sizeof line, format, args);
  if (size > 0) current_log->text.append(line, std::min<size_t>(static_cast<size_t>(size), sizeof line - 1));
  return 0;
}

// libbpf returns a negative errno (mode 1.0); every descriptor it hands out is close-on-exec.
napi_value owned(napi_env env, int result) { return number(env, own(env, result)); }

// (fd, withDump)
napi_value prog_info(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int fd = args.i32(0);
  bool dump = args.boolean(1);
  if (!args.ok) return nullptr;
  bpf_prog_info prog = {};
  uint32_t size = sizeof prog;
  if (int error = bpf_obj_get_info_by_fd(fd, &prog, &size); error < 0) return throw_errno(env, -error, "program info");
  std::vector<uint8_t> xlated;
  if (dump && prog.xlated_prog_len > 0) {
    xlated.resize(prog.xlated_prog_len);
    bpf_prog_info again = {};
    again.xlated_prog_len = prog.xlated_prog_len;
    again.xlated_prog_insns = reinterpret_cast<uintptr_t>(xlated.data());
    size = sizeof again;
    if (int error = bpf_obj_get_info_by_fd(fd, &again, &size); error < 0) {
      return throw_errno(env, -error, "program dump");
    }
    if (again.xlated_prog_insns == 0) xlated.clear();  // the kernel hides it from this process
  }
  std::string tag;
  for (uint8_t byte : prog.tag) {
    char hex[3];
    snprintf(hex, sizeof hex, "%02x", byte);
    tag += hex;
  }
  napi_value out = nullptr;
  napi_create_object(env, &out);
  set(env, out, "type", number(env, prog.type));
  set(env, out, "id", number(env, prog.id));
  set(env, out, "name", text(env, std::string(prog.name, strnlen(prog.name, sizeof prog.name))));
  set(env, out, "tag", text(env, tag));
  set(env, out, "xlatedBytes", number(env, prog.xlated_prog_len));
  set(env, out, "jitedBytes", number(env, prog.jited_prog_len));
  set(env, out, "verifiedInstructions", number(env, prog.verified_insns));
  set(env, out, "loadTime", number(env, static_cast<double>(prog.load_time) / 1e9));
  set(env, out, "xlated", dump ? bytes_copy(env, xlated.data(), xlated.size()) : undefined(env));
  return out;
}

napi_value link_info(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  bpf_link_info link = {};
  uint32_t size = sizeof link;
  if (int error = bpf_obj_get_info_by_fd(fd, &link, &size); error < 0) return throw_errno(env, -error, "link info");
  napi_value out = nullptr;
  napi_create_object(env, &out);
  set(env, out, "type", number(env, link.type));
  set(env, out, "id", number(env, link.id));
  set(env, out, "programId", number(env, link.prog_id));
  // The interface is the first word for XDP and tcx links; 0 once it has gone.
  set(env, out, "ifindex", number(env, link.xdp.ifindex));
  return out;
}

// (bytes, type, name, license, expectedAttachType, flags, logSize) -> {fd, log}; fd may be a negative errno
napi_value prog_load(napi_env env, napi_callback_info info) {
  Args args(env, info, 7);
  Bytes code = args.bytes(0);
  uint32_t type = args.u32(1);
  std::string name = args.text(2);
  std::string license = args.text(3);
  uint32_t attach_type = args.u32(4);
  uint32_t flags = args.u32(5);
  uint32_t log_size = args.u32(6);
  if (!args.ok) return nullptr;
  std::vector<bpf_insn> instructions(code.size / sizeof(bpf_insn));
  if (!instructions.empty()) memcpy(instructions.data(), code.data, instructions.size() * sizeof(bpf_insn));
  std::vector<char> log(log_size, 0);
  // With log_level 0 and a buffer, libbpf loads without a log first and again with one when that fails.
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = static_cast<bpf_attach_type>(attach_type),
              .prog_flags = flags, .log_size = log_size, .log_buf = log_size > 0 ? log.data() : nullptr);
  int fd = bpf_prog_load(static_cast<bpf_prog_type>(type), name.empty() ? nullptr : name.c_str(), license.c_str(),
                         instructions.data(), instructions.size(), &options);
  napi_value out = nullptr;
  napi_create_object(env, &out);
  set(env, out, "fd", owned(env, fd));
  set(env, out, "log", text(env, log_size > 0 ? std::string(log.data(), strnlen(log.data(), log_size)) : ""));
  return out;
}

// (fd, data, dataOut, ctxIn, ctxOut, repeat, flags, cpu, batch, result: Uint8Array of 4 doubles) -> 0 or a negative errno.
// result: retval, mean duration in ns, bytes of dataOut, bytes of ctxOut.
napi_value prog_test_run(napi_env env, napi_callback_info info) {
  Args args(env, info, 10);
  int fd = args.i32(0);
  Bytes data = args.bytes(1);
  Bytes data_out = args.bytes(2);
  Bytes context = args.bytes(3);
  Bytes context_out = args.bytes(4);
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = data.present ? data.data : nullptr;
  options.data_size_in = static_cast<uint32_t>(data.size);
  options.data_out = data_out.present ? data_out.data : nullptr;
  options.data_size_out = static_cast<uint32_t>(data_out.size);
  options.ctx_in = context.present ? context.data : nullptr;
  options.ctx_size_in = static_cast<uint32_t>(context.size);
  options.ctx_out = context_out.present ? context_out.data : nullptr;
  options.ctx_size_out = static_cast<uint32_t>(context_out.size);
  options.repeat = args.i32(5);
  options.flags = args.u32(6);
  options.cpu = args.u32(7);
  options.batch_size = args.u32(8);
  Bytes result = args.bytes(9);
  if (!args.ok) return nullptr;
  if (result.size < 32) return number(env, -EINVAL);
  int error = bpf_prog_test_run_opts(fd, &options);
  double values[4] = {static_cast<double>(options.retval), static_cast<double>(options.duration),
                      static_cast<double>(options.data_size_out), static_cast<double>(options.ctx_size_out)};
  memcpy(result.data, values, sizeof values);
  return number(env, error);
}

// A syscall program: (fd, context) -> its return value (signed 32 bits), or -2^32 - errno when it did not run.
napi_value prog_run_syscall(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int fd = args.i32(0);
  Bytes context = args.bytes(1);
  if (!args.ok) return nullptr;
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = context.size > 0 ? context.data : nullptr,
              .ctx_size_in = static_cast<uint32_t>(context.size));
  int error = bpf_prog_test_run_opts(fd, &options);
  return number(env, error < 0 ? -4294967296.0 + error : static_cast<int32_t>(options.retval));
}

napi_value obj_pin(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int fd = args.i32(0);
  std::string path = args.text(1);
  if (!args.ok) return nullptr;
  return number(env, bpf_obj_pin(fd, path.c_str()));
}

// What the kernel calls the three kinds of objects in /proc/self/fd; newer kernels write bpf-link, older bpf_link.
constexpr const char* kKinds[] = {"bpf-map", "bpf-prog", "bpf-link"};

bool is_kind(int fd, int kind) {
  std::string link = "/proc/thread-self/fd/" + std::to_string(fd);
  char target[64] = {};
  if (readlink(link.c_str(), target, sizeof target - 1) < 0) return false;
  for (char& c : target) c = c == '_' ? '-' : c;
  return strstr(target, kKinds[kind]) != nullptr;
}

// (path, kind, readOnly): -EINVAL for an object of another kind, whose information would be taken for something else
napi_value obj_get(napi_env env, napi_callback_info info) {
  Args args(env, info, 3);
  std::string path = args.text(0);
  int kind = args.i32(1);
  LIBBPF_OPTS(bpf_obj_get_opts, options);
  if (args.boolean(2)) options.file_flags = BPF_F_RDONLY;
  if (!args.ok) return nullptr;
  int fd = bpf_obj_get_opts(path.c_str(), &options);
  if (fd >= 0 && (kind < 0 || kind > 2 || !is_kind(fd, kind))) {
    close(fd);
    fd = -EINVAL;
  }
  return owned(env, fd);
}

// (kind, id): a descriptor for the map (0), program (1) or link (2) with this id
napi_value fd_by_id(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int kind = args.i32(0);
  uint32_t id = args.u32(1);
  if (!args.ok) return nullptr;
  int fd = kind == 0   ? bpf_map_get_fd_by_id(id)
           : kind == 1 ? bpf_prog_get_fd_by_id(id)
                       : bpf_link_get_fd_by_id(id);
  return owned(env, fd);
}

// (programFd, ifindex, attachType, flags)
napi_value link_create(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  int program = args.i32(0);
  int ifindex = args.i32(1);
  uint32_t attach_type = args.u32(2);
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = args.u32(3));
  if (!args.ok) return nullptr;
  return owned(env, bpf_link_create(program, ifindex, static_cast<bpf_attach_type>(attach_type), &options));
}

// (linkFd, programFd) -> 0 or a negative errno: from one packet to the next the other program runs
napi_value link_update(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int link = args.i32(0);
  int program = args.i32(1);
  if (!args.ok) return nullptr;
  return number(env, bpf_link_update(link, program, nullptr));
}

napi_value link_detach(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  return number(env, bpf_link_detach(fd));
}

// (ifindex) -> {mode, programId}: mode as XDP_ATTACHED_* (0: none)
napi_value xdp_query(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int ifindex = args.i32(0);
  if (!args.ok) return nullptr;
  LibbpfLog log;
  LIBBPF_OPTS(bpf_xdp_query_opts, options);
  if (int error = bpf_xdp_query(ifindex, 0, &options); error < 0) return throw_errno(env, -error, log.text);
  napi_value out = nullptr;
  napi_create_object(env, &out);
  uint32_t id = options.prog_id != 0       ? options.prog_id
                : options.drv_prog_id != 0 ? options.drv_prog_id
                : options.hw_prog_id != 0  ? options.hw_prog_id
                                           : options.skb_prog_id;
  set(env, out, "mode", number(env, options.attach_mode));
  set(env, out, "programId", number(env, id));
  return out;
}

// Attaches to an interface of a network namespace made for this call, which no one else sees: (programFd,
// attachType, flags, netlinkRequest | undefined, interfaceName) -> 0, a negative errno of the attachment, or
// -2^32 - errno when the namespace or the interface could not be made.
napi_value attach_in_new_netns(napi_env env, napi_callback_info info) {
  Args args(env, info, 5);
  int program = args.i32(0);
  uint32_t attach_type = args.u32(1);
  uint32_t flags = args.u32(2);
  Bytes request = args.bytes(3);
  std::string name = args.text(4);
  if (!args.ok) return nullptr;
  double result = 0;
  // Threads have namespaces of their own; this one ends here and the namespace with it.
  std::thread thread([&] {
    constexpr double kNoPlace = -4294967296.0;
    if (unshare(CLONE_NEWNET) < 0) {
      result = kNoPlace - errno;
      return;
    }
    if (request.size > 0) {
      int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0 /* NETLINK_ROUTE */);
      alignas(4) char reply[8192];
      int error = fd < 0 ? errno : 0;
      if (fd >= 0 && send(fd, request.data, request.size, 0) < 0) error = errno;
      if (error == 0 && recv(fd, reply, sizeof reply, 0) >= 20) memcpy(&error, reply + 16, 4), error = -error;
      if (fd >= 0) close(fd);
      if (error != 0) {
        result = kNoPlace - error;
        return;
      }
    }
    unsigned ifindex = if_nametoindex(name.c_str());
    if (ifindex == 0) {
      result = kNoPlace - errno;
      return;
    }
    LIBBPF_OPTS(bpf_link_create_opts, options, .flags = flags);
    int link = bpf_link_create(program, static_cast<int>(ifindex), static_cast<bpf_attach_type>(attach_type), &options);
    if (link >= 0) close(link);
    result = link < 0 ? link : 0;
  });
  thread.join();
  return number(env, result);
}

napi_value possible_cpus(napi_env env, napi_callback_info) { return number(env, libbpf_num_possible_cpus()); }

}  // namespace

LibbpfLog::LibbpfLog() : outer_(current_log) { current_log = this; }
LibbpfLog::~LibbpfLog() { current_log = outer_; }

void init_libbpf() { libbpf_set_print(print); }

void register_bpf(napi_env env, napi_value exports) {
  const Function functions[] = {
      {"progInfo", prog_info},
      {"linkInfo", link_info},
      {"progLoad", prog_load},
      {"progTestRun", prog_test_run},
      {"progRunSyscall", prog_run_syscall},
      {"objPin", obj_pin},
      {"objGet", obj_get},
      {"fdById", fd_by_id},
      {"linkCreate", link_create},
      {"linkUpdate", link_update},
      {"linkDetach", link_detach},
      {"xdpQuery", xdp_query},
      {"attachInNewNetns", attach_in_new_netns},
      {"possibleCpus", possible_cpus},
  };
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
