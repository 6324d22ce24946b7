// bpf(2) on maps by descriptor: elements, batches, information.
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>

#include <cstring>

#include "addon.h"

namespace sluice {

namespace {

napi_value map_create(napi_env env, napi_callback_info info) {
  Args args(env, info, 6);
  uint32_t type = args.u32(0);
  std::string name = args.text(1);
  uint32_t key_size = args.u32(2);
  uint32_t value_size = args.u32(3);
  uint32_t max_entries = args.u32(4);
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = args.u32(5));
  if (!args.ok) return nullptr;
  return number(env, own(env, bpf_map_create(static_cast<bpf_map_type>(type), name.empty() ? nullptr : name.c_str(), key_size,
                                   value_size, max_entries, &options)));
}

// Element calls: the kernel reads and writes as many bytes as the map's sizes say, so the buffers are checked against
// the sizes that the caller names; src/kernel takes them from the map itself.
template <typename Call>
napi_value with_value(napi_env env, napi_callback_info info, Call call) {
  Args args(env, info, 6);
  int fd = args.i32(0);
  Bytes key = args.bytes(1);
  Bytes value = args.bytes(2);
  uint32_t flags = args.u32(3);
  size_t key_size = args.u32(4);
  size_t value_size = args.u32(5);
  if (!args.ok) return nullptr;
  if (key.size < key_size || value.size < value_size) return number(env, -EINVAL);
  return number(env, call(fd, key.data, value.data, flags));
}

napi_value map_lookup(napi_env env, napi_callback_info info) {
  return with_value(env, info, bpf_map_lookup_elem_flags);
}

napi_value map_update(napi_env env, napi_callback_info info) {
  return with_value(env, info, bpf_map_update_elem);
}

napi_value map_delete(napi_env env, napi_callback_info info) {
  Args args(env, info, 3);
  int fd = args.i32(0);
  Bytes key = args.bytes(1);
  size_t key_size = args.u32(2);
  if (!args.ok) return nullptr;
  if (key.size < key_size) return number(env, -EINVAL);
  return number(env, bpf_map_delete_elem(fd, key.data));
}

napi_value map_next_key(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  int fd = args.i32(0);
  Bytes key = args.bytes(1);
  Bytes next = args.bytes(2);
  size_t key_size = args.u32(3);
  if (!args.ok) return nullptr;
  if ((key.present && key.size < key_size) || next.size < key_size) return number(env, -EINVAL);
  return number(env, bpf_map_get_next_key(fd, key.present ? key.data : nullptr, next.data));
}

struct BatchJob : Job {
  int fd;
  bool first;
  uint8_t* cursor;
  uint8_t* keys;
  uint8_t* values;
  uint32_t count;
  int error = 0;

  void run() override {
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    // The cursor is opaque and may be written while it is read from: the kernel takes separate pointers.
    uint8_t next[64];
    error = bpf_map_lookup_batch(fd, first ? nullptr : cursor, next, keys, values, &count, &options);
    if (error == 0 || error == -ENOENT) memcpy(cursor, next, sizeof next);
  }
  // Number of elements; -1 - count when these were the last; below -2^32 a negative errno.
  napi_value result(napi_env env) override {
    if (error == 0) return number(env, count);
    if (error == -ENOENT) return number(env, -1.0 - count);
    return number(env, -4294967296.0 + error);
  }
};

// (fd, cursor[64], first, keys, values, count, keySize, valueSize) -> Promise<number>
napi_value map_lookup_batch(napi_env env, napi_callback_info info) {
  Args args(env, info, 8);
  auto job = std::make_unique<BatchJob>();
  job->fd = args.i32(0);
  Bytes cursor = args.bytes(1);
  job->first = args.boolean(2);
  Bytes keys = args.bytes(3);
  Bytes values = args.bytes(4);
  job->count = args.u32(5);
  uint64_t key_size = args.u32(6);
  uint64_t value_size = args.u32(7);
  if (!args.ok) return nullptr;
  if (cursor.size < 64 || key_size > 64 || keys.size < job->count * key_size ||
      values.size < job->count * value_size) {
    return throw_errno(env, EINVAL, "buffers too small for the batch");
  }
  job->cursor = cursor.data;
  job->keys = keys.data;
  job->values = values.data;
  return queue_job(env, "sluice:batch", std::move(job), {args.value(1), args.value(3), args.value(4)});
}

// (fd of a map with 4-byte keys and values) -> 0 when the kernel knows batched look-ups, or a negative errno
napi_value map_supports_batch(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  uint32_t cursor[16], key, value, count = 1;
  int error = bpf_map_lookup_batch(fd, nullptr, cursor, &key, &value, &count, &options);
  return number(env, error == -ENOENT ? 0 : error);  // an empty map ends at once
}

napi_value map_info(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  bpf_map_info map = {};
  uint32_t size = sizeof map;
  if (int error = bpf_obj_get_info_by_fd(fd, &map, &size); error < 0) return throw_errno(env, -error, "map info");
  napi_value out = nullptr;
  napi_create_object(env, &out);
  set(env, out, "type", number(env, map.type));
  set(env, out, "id", number(env, map.id));
  set(env, out, "keySize", number(env, map.key_size));
  set(env, out, "valueSize", number(env, map.value_size));
  set(env, out, "maxEntries", number(env, map.max_entries));
  set(env, out, "flags", number(env, map.map_flags));
  set(env, out, "name", text(env, std::string(map.name, strnlen(map.name, sizeof map.name))));
  return out;
}

}  // namespace

void register_maps(napi_env env, napi_value exports) {
  const Function functions[] = {
      {"mapCreate", map_create},
      {"mapLookup", map_lookup},
      {"mapUpdate", map_update},
      {"mapDelete", map_delete},
      {"mapNextKey", map_next_key},
      {"mapLookupBatch", map_lookup_batch},
      {"mapSupportsBatch", map_supports_batch},
      {"mapInfo", map_info},
  };
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
