// Kernel memory as external ArrayBuffers: mmapable maps, ring buffers, packet rings.
//
// On release the buffer is detached and the region is replaced in place by anonymous zero pages: what stood behind
// it (map, socket) is let go at once, and a view that survived elsewhere (ArrayBuffer.prototype.transfer moves the
// memory to a buffer that we do not know) reads zeros instead of faulting. The address range itself is returned when
// the engine has dropped the buffer.
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "addon.h"

namespace sluice {

struct Mapping {
  void* address;
  size_t size;
  bool live;
  std::shared_ptr<State> state;
  std::shared_ptr<void> keeper;
};

namespace {

void let_go(Mapping* mapping) {
  if (!mapping->live) return;
  mapping->live = false;
  mapping->state->mappings.erase(mapping->address);
  mmap(mapping->address, mapping->size, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
       -1, 0);
}

void finalize(napi_env, void*, void* hint) {
  auto* mapping = static_cast<Mapping*>(hint);
  if (mapping->live) mapping->state->mappings.erase(mapping->address);
  if (mapping->keeper == nullptr) munmap(mapping->address, mapping->size);
  delete mapping;
}

// (fd, length, offset, writable) -> ArrayBuffer. Without a descriptor (-1): memory of its own, which is there at once.
napi_value map_fd(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  int fd = args.i32(0);
  size_t size = args.u64(1);
  uint64_t offset = args.u64(2);
  bool writable = args.boolean(3);
  if (!args.ok) return nullptr;
  int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void* address = mmap(nullptr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, flags, fd,
                       static_cast<off_t>(offset));
  if (address == MAP_FAILED) return throw_errno(env, errno, "mmap");
  // Large pages, as far as there are any: frames lie all over it.
  if (fd < 0 && madvise(address, size, MADV_HUGEPAGE) == 0) madvise(address, size, MADV_POPULATE_WRITE);
  return external_memory(env, address, size);
}

// (ArrayBuffer) -> true when it was a live mapping
napi_value unmap(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  if (!args.ok) return nullptr;
  void* address = nullptr;
  size_t size = 0;
  if (napi_get_arraybuffer_info(env, args.value(0), &address, &size) != napi_ok) {
    napi_throw_type_error(env, nullptr, "argument 0: an ArrayBuffer");
    return nullptr;
  }
  std::shared_ptr<State> state = state_of(env);
  auto found = state->mappings.find(address);
  bool live = address != nullptr && found != state->mappings.end();
  if (live) {
    Mapping* mapping = found->second;
    let_go(mapping);
    napi_detach_arraybuffer(env, args.value(0));
  }
  napi_value out = nullptr;
  napi_get_boolean(env, live, &out);
  return out;
}

// (Uint8Array over memory that nothing was written to, alignment) -> offset of the first place in it that has the alignment.
// Large pages from there on, as far as there are any.
napi_value large_pages(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  Bytes bytes = args.bytes(0);
  uint32_t alignment = args.u32(1);
  if (!args.ok) return nullptr;
  auto begin = reinterpret_cast<uintptr_t>(bytes.data);
  size_t offset = alignment == 0 ? 0 : (alignment - begin % alignment) % alignment;
  size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  // Advice alone: where it is not taken, pages stay small.
  if (offset < bytes.size && (begin + offset) % page == 0)
    madvise(bytes.data + offset, (bytes.size - offset) / page * page, MADV_HUGEPAGE);
  return number(env, static_cast<double>(offset));
}

}  // namespace

napi_value external_memory(napi_env env, void* address, size_t size, std::shared_ptr<void> keeper) {
  auto* mapping = new Mapping{address, size, true, state_of(env), std::move(keeper)};
  napi_value buffer = nullptr;
  if (napi_create_external_arraybuffer(env, address, size, finalize, mapping, &buffer) != napi_ok) {
    if (mapping->keeper == nullptr) munmap(address, size);
    delete mapping;
    return throw_errno(env, ENOTSUP, "this Node.js has no external buffers");
  }
  mapping->state->mappings[address] = mapping;
  return buffer;
}

void register_memory(napi_env env, napi_value exports) {
  const Function functions[] = {{"mapFd", map_fd}, {"unmap", unmap}, {"largePages", large_pages}};
  define(env, exports, functions, 3);
}

}  // namespace sluice
