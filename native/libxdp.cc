// Components of libxdp's dispatcher. The library is opened when it is first asked for, so nothing here needs it to be there; it
// works on objects of the libbpf that this addon is linked with, as libxdp.so.1 and libbpf.so.1 are of one version each. It waits for
// locks without end and leaves descriptors open: for processes that do one thing and end (src/kernel/libxdp-main.ts).
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/bpf.h>

#include <cstdarg>
#include <cstdio>

#include "addon.h"

namespace sluice {

namespace {

struct xdp_program;

using PrintFunction = int (*)(int level, const char* format, va_list args);

// What is used of <xdp/libxdp.h> (libxdp 1.2 or newer), by the names there.
struct Libxdp {
  PrintFunction (*set_print)(PrintFunction);
  long (*get_error)(const void*);
  xdp_program* (*from_bpf_obj)(bpf_object*, const char* section);
  xdp_program* (*from_id)(uint32_t);
  void (*close)(xdp_program*);
  int (*set_run_prio)(xdp_program*, unsigned int);
  int (*attach)(xdp_program*, int ifindex, int mode, unsigned int flags);
  int (*detach)(xdp_program*, int ifindex, int mode, unsigned int flags);
  int (*fd)(const xdp_program*);
  std::string missing;
};

constexpr size_t kLogCap = 16 * 1024;
thread_local std::string* current_text = nullptr;

int print(int level, const char* format, va_list args) {
  constexpr int kDebug = 2;
  if (current_text == nullptr || level >= kDebug || current_text->size() >= kLogCap) return 0;
  char line[512];
  if (vsnprintf(line, sizeof line, format, args) > 0) current_text->append(line);
  return 0;
}

const Libxdp& libxdp() {
  static const Libxdp library = [] {
    Libxdp out = {};
    void* handle = dlopen("libxdp.so.1", RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      const char* why = dlerror();
      out.missing = why == nullptr ? "libxdp.so.1" : why;
      return out;
    }
    const auto find = [&](auto* function, const char* name) {
      void* address = dlsym(handle, name);
      if (address == nullptr) out.missing = std::string("libxdp.so.1 has no ") + name;
      *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(address);
    };
    find(&out.set_print, "libxdp_set_print");
    find(&out.get_error, "libxdp_get_error");
    find(&out.from_bpf_obj, "xdp_program__from_bpf_obj");
    find(&out.from_id, "xdp_program__from_id");
    find(&out.close, "xdp_program__close");
    find(&out.set_run_prio, "xdp_program__set_run_prio");
    find(&out.attach, "xdp_program__attach");
    find(&out.detach, "xdp_program__detach");
    find(&out.fd, "xdp_program__fd");
    if (out.missing.empty()) out.set_print(print);
    return out;
  }();
  return library;
}

// Collects what libxdp and libbpf print on this thread while it lives.
struct Log {
  std::string text;
  LibbpfLog of_libbpf;
  Log() { current_text = &text; }
  ~Log() { current_text = nullptr; }
  std::string all() const { return text + of_libbpf.text; }
};

struct Object {
  bpf_object* object = nullptr;
  ~Object() { bpf_object__close(object); }
};

struct Program {
  xdp_program* program = nullptr;
  ~Program() {
    if (program != nullptr) libxdp().close(program);
  }
};

int error_of(const void* pointer) {
  if (pointer == nullptr) return ENOENT;
  return static_cast<int>(-libxdp().get_error(pointer));
}

// () -> '' or why the library cannot be used
napi_value libxdp_missing(napi_env env, napi_callback_info) { return text(env, libxdp().missing); }

// (path, fd of the map `entry`, priority, ifindex, mode) -> id of the program; throws with what libxdp says
napi_value libxdp_attach(napi_env env, napi_callback_info info) {
  Args args(env, info, 5);
  std::string path = args.text(0);
  int entry = args.i32(1);
  uint32_t priority = args.u32(2);
  int ifindex = args.i32(3);
  int mode = args.i32(4);
  if (!args.ok) return nullptr;
  if (!libxdp().missing.empty()) return throw_errno(env, ENOSYS, libxdp().missing);
  Log log;
  const auto failed = [&](int error) { return throw_errno(env, error, log.all()); };
  Object object;
  object.object = bpf_object__open_file(path.c_str(), nullptr);
  if (object.object == nullptr) return failed(errno);
  bpf_map* map = bpf_object__find_map_by_name(object.object, "entry");
  if (map == nullptr) return failed(ENOENT);
  if (int error = bpf_map__reuse_fd(map, entry); error < 0) return failed(-error);
  bpf_program* only = bpf_object__next_program(object.object, nullptr);
  // As all of ours: where libxdp loads it without a dispatcher, it goes on to programs of this attach type only (Linux 6.18).
  bpf_program__set_expected_attach_type(only, static_cast<bpf_attach_type>(0));
  Program program;
  xdp_program* made = libxdp().from_bpf_obj(object.object, nullptr);
  if (int error = error_of(made); error != 0) return failed(error);
  program.program = made;
  if (int error = libxdp().set_run_prio(made, priority); error < 0) return failed(-error);
  if (int error = libxdp().attach(made, ifindex, mode, 0); error < 0) return failed(-error);
  bpf_prog_info loaded = {};
  uint32_t size = sizeof loaded;
  if (int error = bpf_obj_get_info_by_fd(libxdp().fd(made), &loaded, &size); error < 0) return failed(-error);
  return number(env, loaded.id);
}

// (program id, ifindex); throws with what libxdp says
napi_value libxdp_detach(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  uint32_t id = args.u32(0);
  int ifindex = args.i32(1);
  if (!args.ok) return nullptr;
  if (!libxdp().missing.empty()) return throw_errno(env, ENOSYS, libxdp().missing);
  Log log;
  Program program;
  xdp_program* found = libxdp().from_id(id);
  if (int error = error_of(found); error != 0) return throw_errno(env, error, log.all());
  program.program = found;
  if (int error = libxdp().detach(found, ifindex, 0, 0); error < 0) return throw_errno(env, -error, log.all());
  return undefined(env);
}

// Loads the program of an object in the place of a function of another one's, and attaches it there.
int replaces(const std::string& target_path, const std::string& function, const std::string& path) {
  Object target;
  target.object = bpf_object__open_file(target_path.c_str(), nullptr);
  if (target.object == nullptr) return -errno;
  if (int error = bpf_object__load(target.object); error < 0) return error;
  int target_fd = bpf_program__fd(bpf_object__next_program(target.object, nullptr));
  Object object;
  object.object = bpf_object__open_file(path.c_str(), nullptr);
  if (object.object == nullptr) return -errno;
  bpf_program* program = bpf_object__next_program(object.object, nullptr);
  bpf_program__set_type(program, BPF_PROG_TYPE_EXT);
  bpf_program__set_expected_attach_type(program, static_cast<bpf_attach_type>(0));
  if (int error = bpf_program__set_attach_target(program, target_fd, function.c_str()); error < 0) return error;
  if (int error = bpf_object__load(object.object); error < 0) return error;
  bpf_link* link = bpf_program__attach_trace(program);
  if (link == nullptr) return -errno;
  bpf_link__destroy(link);
  return 0;
}

// (path of the target, function in it, path) -> 0 or a negative errno
napi_value program_replaces(napi_env env, napi_callback_info info) {
  Args args(env, info, 3);
  std::string target = args.text(0);
  std::string function = args.text(1);
  std::string path = args.text(2);
  if (!args.ok) return nullptr;
  LibbpfLog quiet;
  return number(env, replaces(target, function, path));
}

}  // namespace

void register_libxdp(napi_env env, napi_value exports) {
  const Function functions[] = {{"libxdpMissing", libxdp_missing},
                                {"libxdpAttach", libxdp_attach},
                                {"libxdpDetach", libxdp_detach},
                                {"programReplaces", program_replaces}};
  define(env, exports, functions, sizeof functions / sizeof *functions);
}

}  // namespace sluice
