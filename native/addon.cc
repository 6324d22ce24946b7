// Entry point, the state of an environment, and the helpers that addon.h declares.
#include "addon.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

namespace sluice {

std::shared_ptr<State> state_of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<std::shared_ptr<State>*>(data);
}

int own(napi_env env, int fd) {
  if (fd >= 0) state_of(env)->fds.insert(fd);
  return fd;
}

int disown_and_close(napi_env env, int fd) {
  if (state_of(env)->fds.erase(fd) == 0) return -EBADF;
  return close(fd) == 0 ? 0 : -errno;
}

Args::Args(napi_env env_in, napi_callback_info info, size_t wanted) : env(env_in) {
  size_t count = kMax;
  napi_get_cb_info(env, info, &count, values_, nullptr, nullptr);
  if (count < wanted) {
    ok = false;
    napi_throw_type_error(env, nullptr, "too few arguments");
  }
}

void Args::fail(size_t index, const char* wanted) {
  if (!ok) return;
  ok = false;
  napi_throw_type_error(env, nullptr, ("argument " + std::to_string(index) + ": " + wanted).c_str());
}

int32_t Args::i32(size_t index) {
  int32_t out = 0;
  if (ok && napi_get_value_int32(env, values_[index], &out) != napi_ok) fail(index, "a number");
  return out;
}

uint32_t Args::u32(size_t index) {
  uint32_t out = 0;
  if (ok && napi_get_value_uint32(env, values_[index], &out) != napi_ok) fail(index, "a number");
  return out;
}

uint64_t Args::u64(size_t index) {
  double out = 0;
  if (ok && (napi_get_value_double(env, values_[index], &out) != napi_ok || !(out >= 0 && out <= 9007199254740991.0))) {
    fail(index, "a whole number");
    return 0;
  }
  return static_cast<uint64_t>(out);
}

bool Args::boolean(size_t index) {
  bool out = false;
  if (ok && napi_get_value_bool(env, values_[index], &out) != napi_ok) fail(index, "a boolean");
  return out;
}

std::string Args::text(size_t index) {
  std::string out;
  if (ok && !read_text(env, values_[index], &out)) fail(index, "a string");
  return out;
}

Bytes Args::bytes(size_t index) {
  Bytes out;
  if (!ok) return out;
  napi_valuetype type = napi_undefined;
  if (values_[index] != nullptr) napi_typeof(env, values_[index], &type);
  if (type == napi_undefined || type == napi_null) return out;
  if (!read_bytes(env, values_[index], &out)) fail(index, "a Uint8Array");
  return out;
}

bool read_bytes(napi_env env, napi_value value, Bytes* out) {
  napi_typedarray_type type;
  void* data = nullptr;
  size_t size = 0;
  if (napi_get_typedarray_info(env, value, &type, &size, &data, nullptr, nullptr) != napi_ok) return false;
  if (type != napi_uint8_array) return false;
  out->data = static_cast<uint8_t*>(data);
  out->size = data == nullptr ? 0 : size;  // a detached buffer has no data
  out->present = true;
  return true;
}

bool read_text(napi_env env, napi_value value, std::string* out) {
  size_t size = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &size) != napi_ok) return false;
  out->resize(size + 1);
  if (napi_get_value_string_utf8(env, value, out->data(), size + 1, &size) != napi_ok) return false;
  out->resize(size);
  return true;
}

napi_value element(napi_env env, napi_value array, uint32_t index) {
  napi_value out = nullptr;
  if (napi_get_element(env, array, index, &out) != napi_ok) return undefined(env);
  return out;
}

uint32_t length_of(napi_env env, napi_value array) {
  uint32_t out = 0;
  bool is_array = false;
  if (napi_is_array(env, array, &is_array) != napi_ok || !is_array) return 0;
  napi_get_array_length(env, array, &out);
  return out;
}

napi_value number(napi_env env, double value) {
  napi_value out = nullptr;
  napi_create_double(env, value, &out);
  return out;
}

napi_value text(napi_env env, const std::string& value) {
  napi_value out = nullptr;
  napi_create_string_utf8(env, value.data(), value.size(), &out);
  return out;
}

napi_value undefined(napi_env env) {
  napi_value out = nullptr;
  napi_get_undefined(env, &out);
  return out;
}

void set(napi_env env, napi_value object, const char* name, napi_value value) {
  napi_set_named_property(env, object, name, value);
}

napi_value bytes_copy(napi_env env, const void* data, size_t size) {
  void* copy = nullptr;
  napi_value buffer = nullptr;
  napi_value view = nullptr;
  if (napi_create_arraybuffer(env, size, &copy, &buffer) != napi_ok) return nullptr;
  if (size > 0) memcpy(copy, data, size);
  napi_create_typedarray(env, napi_uint8_array, size, buffer, 0, &view);
  return view;
}

napi_value throw_errno(napi_env env, int error, const std::string& message) {
  napi_value object = nullptr;
  napi_create_error(env, nullptr, text(env, message), &object);
  set(env, object, "errno", number(env, error));
  napi_throw(env, object);
  return nullptr;
}

void define(napi_env env, napi_value exports, const Function* functions, size_t count) {
  for (size_t i = 0; i < count; i++) {
    napi_value call = nullptr;
    napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].call, nullptr, &call);
    set(env, exports, functions[i].name, call);
  }
}

namespace {

struct Queued {
  std::unique_ptr<Job> job;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void run_job(napi_env, void* data) { static_cast<Queued*>(data)->job->run(); }

void finish_job(napi_env env, napi_status status, void* data) {
  std::unique_ptr<Queued> queued(static_cast<Queued*>(data));
  for (napi_ref ref : queued->job->held) napi_delete_reference(env, ref);
  if (status == napi_ok) {
    napi_resolve_deferred(env, queued->deferred, queued->job->result(env));
  } else {
    napi_resolve_deferred(env, queued->deferred, number(env, -ECANCELED));
  }
  napi_delete_async_work(env, queued->work);
}

// Closes what this environment still owns. Watches have stopped by now: their hooks were added later and run first.
void clean_up(void* data) {
  State& state = **static_cast<std::shared_ptr<State>*>(data);
  state.handles.clear();
  for (int fd : state.fds) close(fd);
  state.fds.clear();
}

void drop_state(napi_env, void* data, void*) { delete static_cast<std::shared_ptr<State>*>(data); }

// What this environment holds, for the leak check: {fds, mappings, watches}.
napi_value holdings(napi_env env, napi_callback_info) {
  std::shared_ptr<State> state = state_of(env);
  napi_value out = nullptr;
  napi_create_object(env, &out);
  set(env, out, "fds", number(env, static_cast<double>(state->fds.size())));
  set(env, out, "mappings", number(env, static_cast<double>(state->mappings.size())));
  set(env, out, "watches", number(env, static_cast<double>(state->watches.size())));
  return out;
}

napi_value close_fd(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  return number(env, disown_and_close(env, fd));
}

// Another descriptor of what a thread of this process holds, for this one to close.
napi_value duplicate_fd(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  return number(env, copy < 0 ? -errno : own(env, copy));
}

}  // namespace

napi_value queue_job(napi_env env, const char* name, std::unique_ptr<Job> job, std::vector<napi_value> held) {
  napi_value promise = nullptr;
  auto queued = std::make_unique<Queued>();
  queued->job = std::move(job);
  for (napi_value value : held) {
    napi_ref ref = nullptr;
    if (napi_create_reference(env, value, 1, &ref) == napi_ok) queued->job->held.push_back(ref);
  }
  napi_create_promise(env, &queued->deferred, &promise);
  napi_create_async_work(env, nullptr, text(env, name), run_job, finish_job, queued.get(), &queued->work);
  napi_queue_async_work(env, queued->work);
  queued.release();
  return promise;
}

}  // namespace sluice

NAPI_MODULE_INIT() {
  using namespace sluice;
  auto* state = new std::shared_ptr<State>(std::make_shared<State>());
  napi_set_instance_data(env, state, drop_state, nullptr);
  napi_add_env_cleanup_hook(env, clean_up, state);
  init_libbpf();
  const Function functions[] = {{"holdings", holdings}, {"closeFd", close_fd}, {"duplicateFd", duplicate_fd}};
  define(env, exports, functions, 3);
  register_bpf(env, exports);
  register_maps(env, exports);
  register_object(env, exports);
  register_memory(env, exports);
  register_watch(env, exports);
  register_packet(env, exports);
  register_xsk(env, exports);
  register_netlink(env, exports);
  register_classic(env, exports);
  register_socket_filter(env, exports);
  register_flow(env, exports);
  register_system(env, exports);
  register_ethtool(env, exports);
  register_perf(env, exports);
  register_unix_datagrams(env, exports);
  register_udp(env, exports);
  register_receiver(env, exports);
  register_libxdp(env, exports);
  return exports;
}
