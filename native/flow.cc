// Node-API for the flow engine's short ways and lines of conn.log.
#include <memory>

#include "addon.h"
#include "conn-line.h"
#include "flow-ways.h"

namespace sluice::flow {

namespace {

// An array's memory; it must not be moved or freed as long as the short ways are used, which `held` sees to.
template <typename T>
bool array_of(napi_env env, napi_value value, napi_typedarray_type wanted, T** out, size_t* count) {
  napi_typedarray_type type;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, count, &data, nullptr, nullptr) != napi_ok) return false;
  *out = static_cast<T*>(data);
  return type == wanted && data != nullptr;
}

template <typename T>
bool memory_of(napi_env env, napi_value object, const char* name, napi_typedarray_type wanted, T** out, size_t* count) {
  napi_value value = nullptr;
  if (napi_get_named_property(env, object, name, &value) != napi_ok) return false;
  return array_of(env, value, wanted, out, count);
}

struct Handle {
  ShortWays ways;
  Networks local;
  napi_ref held = nullptr;
};

void drop(napi_env env, void* data, void*) {
  auto* handle = static_cast<Handle*>(data);
  napi_delete_reference(env, handle->held);
  delete handle;
}

// (tables) -> what `shortTake` takes. Sizes are those that the capacity asks for, or it throws.
napi_value short_ways(napi_env env, napi_callback_info info) {
  Args args(env, info, 3);
  napi_value tables = args.value(0);
  bool checksums = args.boolean(1);
  bool bare = args.boolean(2);
  if (!args.ok) return nullptr;
  auto handle = std::make_unique<Handle>();
  ShortWays& ways = handle->ways;
  ways.checksums = checksums;
  ways.bare = bare;
  size_t slots = 0;
  bool ok = true;
  auto words = [&](const char* name, auto** out, size_t least) {
    size_t count = 0;
    ok = ok && memory_of(env, tables, name, napi_int32_array, out, &count) && count >= least;
    return count;
  };
  auto doubles = [&](const char* name, auto** out, size_t least) {
    size_t count = 0;
    ok = ok && memory_of(env, tables, name, napi_float64_array, out, &count) && count >= least;
    return count;
  };
  auto ports = [&](const char* name, auto** out) {
    size_t count = 0;
    ok = ok && memory_of(env, tables, name, napi_uint8_array, out, &count) && count >= 65536;
  };
  slots = words("words", &ways.words, WORDS) / WORDS;
  words("cold", &ways.cold, slots * COLD_WORDS);
  words("free", &ways.free_slots, slots);
  words("totals", &ways.totals, 3);
  words("seed", &ways.seed, 3);
  size_t entries = words("index", &ways.index, 2 * slots) / 2;
  words("links", &ways.links, 2 * (slots + 2 * SLOTS + 1));
  words("uids", &ways.uids, 4);
  doubles("wheelClock", &ways.wheel_clock, 2);
  doubles("inactivity", &ways.inactivity, 6);
  doubles("timeouts", &ways.timeouts, 5);
  doubles("clock", &ways.clock, 2);
  doubles("losses", &ways.losses, 8);
  ports("udpServers", &ways.udp_servers);
  ports("dnsPorts", &ways.dns_ports);
  ports("interactive", &ways.interactive);
  ports("tunnelPorts", &ways.tunnel_ports);
  auto networks = [&](const char* name, const uint8_t** out) {
    size_t count = 0;
    ok = ok && memory_of(env, tables, name, napi_uint8_array, out, &count);
    return count / kNetworkBytes;
  };
  handle->local.count4 = networks("nets4", &handle->local.nets4);
  handle->local.count6 = networks("nets6", &handle->local.nets6);
  if (!ok || (entries & (entries - 1)) != 0) {
    napi_throw_type_error(env, nullptr, "tables of another layout");
    return nullptr;
  }
  ways.capacity = static_cast<int32_t>(slots);
  ways.mask = static_cast<uint32_t>(entries - 1);
  napi_create_reference(env, tables, 1, &handle->held);
  napi_value out = nullptr;
  napi_create_external(env, handle.get(), drop, nullptr, &out);
  handle.release();
  return out;
}

// The first argument; nullptr and an exception when it is something else.
Handle* handle_of(napi_env env, Args& args) {
  void* data = nullptr;
  if (args.ok && (napi_get_value_external(env, args.value(0), &data) != napi_ok || data == nullptr)) {
    args.ok = false;
    napi_throw_type_error(env, nullptr, "argument 0: short ways");
  }
  return static_cast<Handle*>(data);
}

// (ways, memory, places, times, from, count, fresh) -> the number of the first packet that was not taken, or count
napi_value short_take(napi_env env, napi_callback_info info) {
  Args args(env, info, 7);
  Handle* handle = handle_of(env, args);
  Bytes memory = args.bytes(1);
  uint32_t from = args.u32(4);
  uint32_t count = args.u32(5);
  bool fresh = args.boolean(6);
  if (!args.ok) return nullptr;
  ShortWays& ways = handle->ways;
  size_t words = 0;
  size_t times = 0;
  if (!array_of(env, args.value(2), napi_int32_array, &ways.places, &words) || words < kPlaceWords * static_cast<size_t>(count) ||
      !array_of(env, args.value(3), napi_float64_array, &ways.times, &times) || times < count) {
    napi_throw_type_error(env, nullptr, "fewer places or times than packets");
    return nullptr;
  }
  return number(env, ways.take(memory.data, memory.size, from, count, fresh));
}

// (ways, slot, out, at) -> bytes of the line of conn.log written at out[at], or 0
napi_value short_line(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  Handle* handle = handle_of(env, args);
  uint32_t slot = args.u32(1);
  Bytes out = args.bytes(2);
  uint32_t at = args.u32(3);
  if (!args.ok) return nullptr;
  ShortWays& ways = handle->ways;
  if (!ways.bare || slot >= static_cast<uint32_t>(ways.capacity) || out.size < kLongestLine || at > out.size - kLongestLine)
    return number(env, 0);
  return number(env, static_cast<double>(conn_line(const_cast<const int32_t*>(ways.words) + slot * WORDS,
                                                   const_cast<const int32_t*>(ways.cold) + slot * COLD_WORDS,
                                                   handle->local, reinterpret_cast<char*>(out.data) + at)));
}

}  // namespace

}  // namespace sluice::flow

namespace sluice {

void register_flow(napi_env env, napi_value exports) {
  const Function functions[] = {{"shortWays", flow::short_ways}, {"shortTake", flow::short_take}, {"shortLine", flow::short_line}};
  define(env, exports, functions, 3);
}

}  // namespace sluice
