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
  napi_ref held = nullptr;
};

// What lines are made of.
struct Lines {
  const int32_t* words = nullptr;
  const int32_t* cold = nullptr;
  uint32_t slots = 0;
  Networks local;
  napi_ref held = nullptr;
};

template <typename T>
void drop(napi_env env, void* data, void*) {
  auto* handle = static_cast<T*>(data);
  napi_delete_reference(env, handle->held);
  delete handle;
}

// The handle as a value, which keeps `tables`.
template <typename T>
napi_value given(napi_env env, napi_value tables, std::unique_ptr<T> handle) {
  napi_create_reference(env, tables, 1, &handle->held);
  napi_value out = nullptr;
  napi_create_external(env, handle.get(), drop<T>, nullptr, &out);
  handle.release();
  return out;
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
  if (!ok || (entries & (entries - 1)) != 0) {
    napi_throw_type_error(env, nullptr, "tables of another layout");
    return nullptr;
  }
  ways.capacity = static_cast<int32_t>(slots);
  ways.mask = static_cast<uint32_t>(entries - 1);
  return given(env, tables, std::move(handle));
}

// The first argument; nullptr and an exception when it is something else.
template <typename T>
T* handle_of(napi_env env, Args& args) {
  void* data = nullptr;
  if (args.ok && (napi_get_value_external(env, args.value(0), &data) != napi_ok || data == nullptr)) {
    args.ok = false;
    napi_throw_type_error(env, nullptr, "argument 0: a handle");
  }
  return static_cast<T*>(data);
}

// (ways, memory, places, times, from, count, fresh) -> the number of the first packet that was not taken, or count
napi_value short_take(napi_env env, napi_callback_info info) {
  Args args(env, info, 7);
  auto* handle = handle_of<Handle>(env, args);
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

// (tables) -> what `connLine` takes.
napi_value conn_lines(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  napi_value tables = args.value(0);
  if (!args.ok) return nullptr;
  auto lines = std::make_unique<Lines>();
  size_t words = 0;
  size_t cold = 0;
  bool ok = memory_of(env, tables, "words", napi_int32_array, &lines->words, &words) &&
            memory_of(env, tables, "cold", napi_int32_array, &lines->cold, &cold) &&
            cold / COLD_WORDS >= words / WORDS;
  auto networks = [&](const char* name, const uint8_t** out) {
    size_t count = 0;
    ok = ok && memory_of(env, tables, name, napi_uint8_array, out, &count);
    return count / kNetworkBytes;
  };
  lines->local.count4 = networks("nets4", &lines->local.nets4);
  lines->local.count6 = networks("nets6", &lines->local.nets6);
  if (!ok) {
    napi_throw_type_error(env, nullptr, "tables of another layout");
    return nullptr;
  }
  lines->slots = static_cast<uint32_t>(words / WORDS);
  return given(env, tables, std::move(lines));
}

// A string as UTF-8 in `room`; undefined is empty. False: it is neither, or does not fit.
bool text_in(napi_env env, napi_value value, char* room, size_t size, std::string_view* out) {
  napi_valuetype type;
  if (napi_typeof(env, value, &type) == napi_ok && type == napi_undefined) return true;
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, room, size, &length) != napi_ok) return false;
  *out = std::string_view(room, length);
  // One that is cut has no more than its end free.
  return length + 4 < size;
}

// (lines, slot, out, at, service, more) -> bytes of the line of conn.log written at out[at], or 0
napi_value line_of(napi_env env, napi_callback_info info) {
  Args args(env, info, 6);
  auto* lines = handle_of<Lines>(env, args);
  uint32_t slot = args.u32(1);
  Bytes out = args.bytes(2);
  uint32_t at = args.u32(3);
  if (!args.ok) return nullptr;
  char service_room[kLongestService];
  char more_room[kLongestMore];
  std::string_view service;
  std::string_view more;
  if (!text_in(env, args.value(4), service_room, sizeof service_room, &service) ||
      !text_in(env, args.value(5), more_room, sizeof more_room, &more) || slot >= lines->slots ||
      out.size < kLongestLine || at > out.size - kLongestLine)
    return number(env, 0);
  return number(env, static_cast<double>(conn_line(lines->words + static_cast<size_t>(slot) * WORDS,
                                                   lines->cold + static_cast<size_t>(slot) * COLD_WORDS, lines->local,
                                                   service, more, reinterpret_cast<char*>(out.data) + at)));
}

}  // namespace

}  // namespace sluice::flow

namespace sluice {

void register_flow(napi_env env, napi_value exports) {
  const Function functions[] = {{"shortWays", flow::short_ways},
                                {"shortTake", flow::short_take},
                                {"connLines", flow::conn_lines},
                                {"connLine", flow::line_of}};
  define(env, exports, functions, 4);
}

}  // namespace sluice
