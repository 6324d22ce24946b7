// What every part of the addon shares: the state of one environment (main thread or worker), argument readers
// that never trust their caller, and results. System calls return a negative errno as a number; a failure that
// carries text (a verifier log, a message of libbpf) is thrown as an Error with `errno`.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace sluice {

struct Watch;

// A region of memory that JavaScript sees as one external ArrayBuffer.
struct Mapping;

// Something that JavaScript knows by a number; let go when it is taken out of `State::handles`.
struct Handle {
  virtual ~Handle() = default;
};

// One per environment. Shared with mappings, whose buffers may be collected after the environment's own end.
struct State {
  std::unordered_set<int> fds;
  std::unordered_map<void*, Mapping*> mappings;
  std::unordered_map<uint32_t, Watch*> watches;
  uint32_t next_watch = 1;
  std::unordered_map<uint32_t, std::unique_ptr<Handle>> handles;
  uint32_t next_handle = 1;
};

std::shared_ptr<State> state_of(napi_env env);

// A descriptor that this environment owns: closed at its end unless closed before.
int own(napi_env env, int fd);
// -EBADF when this environment does not own it, so a second close cannot hit a stranger that got the same number.
int disown_and_close(napi_env env, int fd);

struct Bytes {
  uint8_t* data = nullptr;
  size_t size = 0;
  bool present = false;
};

// Reads the arguments of one call. After the first mismatch `ok` is false and a TypeError is pending.
class Args {
 public:
  Args(napi_env env, napi_callback_info info, size_t wanted);
  bool ok = true;
  napi_env env;

  int32_t i32(size_t index);
  uint32_t u32(size_t index);
  uint64_t u64(size_t index);  // from a number: exact up to 2^53
  bool boolean(size_t index);
  std::string text(size_t index);
  // A Uint8Array, or undefined / null (then `present` is false).
  Bytes bytes(size_t index);
  napi_value value(size_t index) { return values_[index]; }

 private:
  static constexpr size_t kMax = 12;
  napi_value values_[kMax] = {};
  void fail(size_t index, const char* wanted);
};

// Readers for values inside arrays; false when the value is of another type.
bool read_bytes(napi_env env, napi_value value, Bytes* out);
bool read_text(napi_env env, napi_value value, std::string* out);
napi_value element(napi_env env, napi_value array, uint32_t index);
uint32_t length_of(napi_env env, napi_value array);

napi_value number(napi_env env, double value);
napi_value text(napi_env env, const std::string& value);
napi_value undefined(napi_env env);
// An ArrayBuffer over memory from mmap, which is unmapped by `unmap`, or when the engine drops the buffer. With a `keeper`, by
// that, once nobody has it any more.
napi_value external_memory(napi_env env, void* address, size_t size, std::shared_ptr<void> keeper = nullptr);
void set(napi_env env, napi_value object, const char* name, napi_value value);
// A Uint8Array with a copy of the bytes.
napi_value bytes_copy(napi_env env, const void* data, size_t size);

// Throws Error(`text`) with the positive `errno`; returns nullptr, so that callers can return it.
napi_value throw_errno(napi_env env, int error, const std::string& text);

struct Function {
  const char* name;
  napi_callback call;
};
void define(napi_env env, napi_value exports, const Function* functions, size_t count);

// Runs `work` on libuv's thread pool and resolves with its result (a number: >= 0, or a negative errno).
struct Job {
  virtual ~Job() = default;
  virtual void run() = 0;
  virtual napi_value result(napi_env env) = 0;
  std::vector<napi_ref> held;  // buffers that must outlive the work
};
napi_value queue_job(napi_env env, const char* name, std::unique_ptr<Job> job, std::vector<napi_value> held);

// Collects what libbpf prints on this thread while it lives; capped.
class LibbpfLog {
 public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog&) = delete;
  LibbpfLog& operator=(const LibbpfLog&) = delete;
  std::string text;

 private:
  LibbpfLog* outer_;
};

void init_libbpf();

void register_bpf(napi_env env, napi_value exports);
void register_maps(napi_env env, napi_value exports);
void register_object(napi_env env, napi_value exports);
void register_memory(napi_env env, napi_value exports);
void register_watch(napi_env env, napi_value exports);
void register_packet(napi_env env, napi_value exports);
void register_xsk(napi_env env, napi_value exports);
void register_netlink(napi_env env, napi_value exports);
void register_classic(napi_env env, napi_value exports);
void register_socket_filter(napi_env env, napi_value exports);
void register_flow(napi_env env, napi_value exports);
void register_system(napi_env env, napi_value exports);
void register_ethtool(napi_env env, napi_value exports);
void register_perf(napi_env env, napi_value exports);
void register_unix_datagrams(napi_env env, napi_value exports);
void register_udp(napi_env env, napi_value exports);
void register_receiver(napi_env env, napi_value exports);
void register_libxdp(napi_env env, napi_value exports);

}  // namespace sluice
