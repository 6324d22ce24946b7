// Readiness of a descriptor on the event loop of its environment.
//
// The few libuv functions are declared here: their signatures are fixed for libuv 1.x, Node.js exports them, and
// the size of a handle is asked at run time, so that no Node.js header is needed.
#include <errno.h>
#include <sys/socket.h>

#include <cstdlib>

#include "addon.h"

extern "C" {
struct uv_loop_s;
struct uv_poll_s;
int uv_poll_init(uv_loop_s* loop, uv_poll_s* handle, int fd);
int uv_poll_start(uv_poll_s* handle, int events, void (*call)(uv_poll_s* handle, int status, int events));
int uv_poll_stop(uv_poll_s* handle);
void uv_close(uv_poll_s* handle, void (*call)(uv_poll_s* handle));
void uv_unref(uv_poll_s* handle);
size_t uv_handle_size(int type);
void* uv_handle_get_data(const uv_poll_s* handle);
void uv_handle_set_data(uv_poll_s* handle, void* data);
}

namespace sluice {

namespace {
constexpr int kUvPoll = 8;       // uv_handle_type UV_POLL
constexpr int kUvReadable = 1;   // UV_READABLE
}  // namespace

struct Watch {
  napi_env env;
  std::shared_ptr<State> state;
  uv_poll_s* poll = nullptr;
  uint32_t id = 0;
  int fd = -1;
  bool closing = false;
  napi_ref call = nullptr;
  napi_async_context context = nullptr;
  napi_async_cleanup_hook_handle hook = nullptr;
};

namespace {

// Called by libuv when it has let the handle go; nothing of it may be freed before.
void on_closed(uv_poll_s* handle) {
  auto* watch = static_cast<Watch*>(uv_handle_get_data(handle));
  if (watch->hook != nullptr) napi_remove_async_cleanup_hook(watch->hook);
  free(handle);
  delete watch;
}

void stop(Watch* watch) {
  if (watch->closing) return;
  watch->closing = true;
  watch->state->watches.erase(watch->id);
  napi_delete_reference(watch->env, watch->call);
  napi_async_destroy(watch->env, watch->context);
  uv_close(watch->poll, on_closed);
}

void on_environment_end(napi_async_cleanup_hook_handle, void* data) { stop(static_cast<Watch*>(data)); }

void on_ready(uv_poll_s* handle, int status, int) {
  auto* watch = static_cast<Watch*>(uv_handle_get_data(handle));
  napi_env env = watch->env;
  int report = 0;
  if (status < 0) {
    // libuv stops at POLLERR. A packet socket raises it when its interface goes down or away: take the error off the
    // socket and go on, because the interface may come back.
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0) {
      uv_poll_start(handle, kUvReadable, on_ready);
      report = -error;
    } else {
      report = status;
    }
  }
  napi_handle_scope scope = nullptr;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value call = nullptr;
  napi_value receiver = nullptr;
  if (napi_get_reference_value(env, watch->call, &call) == napi_ok && call != nullptr &&
      napi_get_global(env, &receiver) == napi_ok) {
    napi_value argument = number(env, report);
    if (napi_make_callback(env, watch->context, receiver, call, 1, &argument, nullptr) == napi_pending_exception) {
      napi_value error = nullptr;
      if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
    }
  }
  napi_close_handle_scope(env, scope);
}

// (fd, (error) => void, keepAlive) -> id. `error` is 0 or a negative errno.
napi_value watch_start(napi_env env, napi_callback_info info) {
  Args args(env, info, 3);
  int fd = args.i32(0);
  bool keep_alive = args.boolean(2);
  if (!args.ok) return nullptr;
  napi_valuetype type;
  napi_typeof(env, args.value(1), &type);
  if (type != napi_function) {
    napi_throw_type_error(env, nullptr, "argument 1: a function");
    return nullptr;
  }
  uv_loop_s* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return throw_errno(env, ENOSYS, "no event loop");
  auto* handle = static_cast<uv_poll_s*>(calloc(1, uv_handle_size(kUvPoll)));
  if (int error = uv_poll_init(loop, handle, fd); error < 0) {
    free(handle);  // a handle that failed to initialize was never linked into the loop
    return throw_errno(env, -error, "poll");
  }
  auto* watch = new Watch;
  watch->env = env;
  watch->state = state_of(env);
  watch->poll = handle;
  watch->fd = fd;
  watch->id = watch->state->next_watch++;
  uv_handle_set_data(handle, watch);
  napi_create_reference(env, args.value(1), 1, &watch->call);
  napi_async_init(env, nullptr, text(env, "sluice:watch"), &watch->context);
  napi_add_async_cleanup_hook(env, on_environment_end, watch, &watch->hook);
  watch->state->watches[watch->id] = watch;
  if (!keep_alive) uv_unref(handle);
  if (int error = uv_poll_start(handle, kUvReadable, on_ready); error < 0) {
    stop(watch);
    return throw_errno(env, -error, "poll");
  }
  return number(env, watch->id);
}

// (id) -> true when it was running
napi_value watch_stop(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  uint32_t id = args.u32(0);
  if (!args.ok) return nullptr;
  std::shared_ptr<State> state = state_of(env);
  auto found = state->watches.find(id);
  bool running = found != state->watches.end();
  if (running) stop(found->second);
  napi_value out = nullptr;
  napi_get_boolean(env, running, &out);
  return out;
}

// (id, on) -> true when there is such a watch: it calls back only while it is on, as it is when it starts.
napi_value watch_switch(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  uint32_t id = args.u32(0);
  bool on = args.boolean(1);
  if (!args.ok) return nullptr;
  std::shared_ptr<State> state = state_of(env);
  auto found = state->watches.find(id);
  if (found != state->watches.end()) {
    if (on) {
      uv_poll_start(found->second->poll, kUvReadable, on_ready);
    } else {
      uv_poll_stop(found->second->poll);
    }
  }
  napi_value out = nullptr;
  napi_get_boolean(env, found != state->watches.end(), &out);
  return out;
}

}  // namespace

void register_watch(napi_env env, napi_value exports) {
  const Function functions[] = {{"watchStart", watch_start}, {"watchStop", watch_stop}, {"watchSwitch", watch_switch}};
  define(env, exports, functions, 3);
}

}  // namespace sluice
