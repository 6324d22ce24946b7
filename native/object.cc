// Loads an object file through libbpf and keeps nothing of it but descriptors: what the kernel holds lives on by
// them, and no libbpf state has to be shared between threads.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cstring>
#include <mutex>

#include "addon.h"

namespace sluice {

namespace {

struct Failure {
  int error;
  std::string text;
};

struct Constant {
  std::string name;
  Bytes bytes;
  bool scalar;
};

// Writes a `const volatile` global; its place comes from the BTF of its section.
void set_constant(bpf_object* object, const Constant& constant) {
  btf* types = bpf_object__btf(object);
  for (uint32_t id = 1; types != nullptr && id < btf__type_cnt(types); id++) {
    const btf_type* section = btf__type_by_id(types, id);
    if (!btf_is_datasec(section)) continue;
    const char* section_name = btf__name_by_offset(types, section->name_off);
    if (section_name == nullptr || strncmp(section_name, ".rodata", 7) != 0) continue;
    const btf_var_secinfo* vars = btf_var_secinfos(section);
    for (int i = 0; i < btf_vlen(section); i++) {
      const btf_type* var = btf__type_by_id(types, vars[i].type);
      const char* name = btf__name_by_offset(types, var->name_off);
      if (name == nullptr || constant.name != name) continue;
      // libbpf finds the maps of data sections by the section's name.
      bpf_map* map = bpf_object__find_map_by_name(object, section_name);
      size_t size = 0;
      // Until the load this is libbpf's own writable copy of the section.
      auto* memory = map == nullptr
                         ? nullptr
                         : static_cast<uint8_t*>(const_cast<void*>(bpf_map__initial_value(map, &size)));
      if (memory == nullptr || vars[i].offset + static_cast<uint64_t>(vars[i].size) > size) {
        throw Failure{EINVAL, "constant " + constant.name + " lies outside its section"};
      }
      if (constant.scalar) {
        // Eight bytes, two's complement: what does not fit must be an extension of the sign or zero.
        size_t width = vars[i].size;
        if (width > 8) throw Failure{EINVAL, "constant " + constant.name + " is not a scalar"};
        bool negative = width > 0 && (constant.bytes.data[width - 1] & 0x80) != 0;
        bool zeros = true, ones = true;
        for (size_t at = width; at < 8; at++) {
          zeros = zeros && constant.bytes.data[at] == 0;
          ones = ones && constant.bytes.data[at] == 0xff;
        }
        if (width < 8 && !zeros && !(ones && negative)) {
          throw Failure{ERANGE, "constant " + constant.name + " has " + std::to_string(width) + " bytes"};
        }
        memcpy(memory + vars[i].offset, constant.bytes.data, width);
      } else {
        if (constant.bytes.size != vars[i].size) {
          throw Failure{ERANGE, "constant " + constant.name + " has " + std::to_string(vars[i].size) + " bytes"};
        }
        memcpy(memory + vars[i].offset, constant.bytes.data, vars[i].size);
      }
      return;
    }
  }
  throw Failure{ENOENT, "the object has no constant named " + constant.name};
}

bpf_map* map_named(bpf_object* object, const std::string& name) {
  bpf_map* map = bpf_object__find_map_by_name(object, name.c_str());
  if (map == nullptr) throw Failure{ENOENT, "the object has no map named " + name};
  return map;
}

// libbpf would take a map of any shape; the program would then fail to load, or worse, load.
void reuse_map(bpf_map* map, const std::string& name, int fd) {
  bpf_map_info info = {};
  uint32_t size = sizeof info;
  if (int error = bpf_obj_get_info_by_fd(fd, &info, &size); error < 0) throw Failure{-error, "map " + name};
  // To a program a value is a value, whether each CPU has its own or all have one.
  const auto kind = [](uint32_t type) { return type == BPF_MAP_TYPE_PERCPU_HASH ? uint32_t{BPF_MAP_TYPE_HASH} : type; };
  if (kind(info.type) != kind(bpf_map__type(map)) || info.key_size != bpf_map__key_size(map) ||
      info.value_size != bpf_map__value_size(map)) {
    throw Failure{EINVAL, "map " + name + " cannot be reused: its type or sizes are others"};
  }
  if (int error = bpf_map__reuse_fd(map, fd); error < 0) throw Failure{-error, "map " + name + " cannot be reused"};
}

struct ObjectHandle {
  bpf_object* object = nullptr;
  ~ObjectHandle() { bpf_object__close(object); }
};


std::vector<Constant> read_constants(napi_env env, napi_value list) {
  std::vector<Constant> out;
  for (uint32_t i = 0; i < length_of(env, list); i++) {
    napi_value entry = element(env, list, i);
    Constant constant;
    if (!read_text(env, element(env, entry, 0), &constant.name) ||
        !read_bytes(env, element(env, entry, 1), &constant.bytes) ||
        napi_get_value_bool(env, element(env, entry, 2), &constant.scalar) != napi_ok ||
        (constant.scalar && constant.bytes.size < 8)) {
      throw Failure{EINVAL, "constants: [name, bytes, scalar]"};
    }
    out.push_back(std::move(constant));
  }
  return out;
}

// Each entry [name, number]: sizes of maps, or descriptors to use instead of making a map.
template <typename Use>
void each_pair(napi_env env, napi_value list, Use use) {
  for (uint32_t i = 0; i < length_of(env, list); i++) {
    napi_value entry = element(env, list, i);
    std::string name;
    int64_t value = 0;
    if (!read_text(env, element(env, entry, 0), &name) ||
        napi_get_value_int64(env, element(env, entry, 1), &value) != napi_ok) {
      throw Failure{EINVAL, "entries: [name, number]"};
    }
    use(name, value);
  }
}

// Each entry [name, expectedAttachType | -1, flags | -1, autoload].
void set_programs(napi_env env, bpf_object* object, napi_value list) {
  for (uint32_t i = 0; i < length_of(env, list); i++) {
    napi_value entry = element(env, list, i);
    std::string name;
    int64_t attach_type = -1;
    int64_t flags = -1;
    bool autoload = true;
    if (!read_text(env, element(env, entry, 0), &name) ||
        napi_get_value_int64(env, element(env, entry, 1), &attach_type) != napi_ok ||
        napi_get_value_int64(env, element(env, entry, 2), &flags) != napi_ok ||
        napi_get_value_bool(env, element(env, entry, 3), &autoload) != napi_ok) {
      throw Failure{EINVAL, "programs: [name, attachType, flags, autoload]"};
    }
    bpf_program* program = bpf_object__find_program_by_name(object, name.c_str());
    if (program == nullptr) throw Failure{ENOENT, "the object has no program named " + name};
    if (attach_type >= 0) {
      bpf_program__set_expected_attach_type(program, static_cast<bpf_attach_type>(attach_type));
    }
    if (flags >= 0) bpf_program__set_flags(program, static_cast<uint32_t>(flags));
    bpf_program__set_autoload(program, autoload);
  }
}

using Descriptors = std::vector<std::pair<std::string, int>>;

// Duplicates that outlive the libbpf object; all or none.
struct Kept {
  Descriptors maps;
  Descriptors programs;
  bool handed_over = false;

  ~Kept() {
    if (handed_over) return;
    for (const Descriptors* list : {&maps, &programs}) {
      for (const auto& [name, fd] : *list) close(fd);
    }
  }
  static void keep(Descriptors* list, const std::string& name, int original) {
    if (original < 0) return;  // not loaded
    int fd = fcntl(original, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) throw Failure{errno, name};
    list->emplace_back(name, fd);
  }
};

napi_value pairs(napi_env env, const Descriptors& list) {
  napi_value out = nullptr;
  napi_create_array(env, &out);
  for (uint32_t i = 0; i < list.size(); i++) {
    napi_value entry = nullptr;
    napi_create_array_with_length(env, 2, &entry);
    napi_set_element(env, entry, 0, text(env, list[i].first));
    napi_set_element(env, entry, 1, number(env, own(env, list[i].second)));
    napi_set_element(env, out, i, entry);
  }
  return out;
}

napi_value results(napi_env env, bpf_object* object) {
  Kept kept;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    std::string name = bpf_map__name(map);
    // libbpf puts part of the object's name before that of a data section.
    if (bpf_map__is_internal(map) && name.find('.') != std::string::npos) name = name.substr(name.find('.'));
    Kept::keep(&kept.maps, name, bpf_map__fd(map));
  }
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    Kept::keep(&kept.programs, bpf_program__name(program), bpf_program__fd(program));
  }
  kept.handed_over = true;
  napi_value out = nullptr;
  napi_create_object(env, &out);
  set(env, out, "maps", pairs(env, kept.maps));
  set(env, out, "programs", pairs(env, kept.programs));
  return out;
}

constexpr char kFragsSection[] = "xdp.frags";

// libbpf would set the flag of this section whatever is asked for: here it is a section like any other.
void own_frags_section() {
  static std::once_flag once;
  std::call_once(once, [] { libbpf_register_prog_handler(kFragsSection, BPF_PROG_TYPE_XDP, static_cast<bpf_attach_type>(0), nullptr); });
}

// (path, constants, mapSizes, reuseMaps, programs, logSize, frags: whether XDP programs of section xdp.frags take frames in several buffers)
//   -> {maps: [name, fd][], programs: [name, fd][]} or {error, text, log}
napi_value load_object(napi_env env, napi_callback_info info) {
  Args args(env, info, 7);
  std::string path = args.text(0);
  uint32_t log_size = args.u32(5);
  bool frags = args.boolean(6);
  if (!args.ok) return nullptr;
  own_frags_section();
  LibbpfLog messages;
  std::vector<char> log(log_size + 1, 0);
  ObjectHandle handle;
  Failure failure{0, ""};
  try {
    // Log level 0 with a buffer: libbpf loads each program without a log and repeats the one that fails with it.
    LIBBPF_OPTS(bpf_object_open_opts, options, .kernel_log_buf = log_size > 0 ? log.data() : nullptr,
                .kernel_log_size = log_size);
    handle.object = bpf_object__open_file(path.c_str(), &options);
    if (handle.object == nullptr) throw Failure{errno, "open"};
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, handle.object) {
      // Kernels since 6.18 refuse tail calls between programs of different attach types; 0 is what others use.
      if (bpf_program__type(program) == BPF_PROG_TYPE_XDP &&
          bpf_program__expected_attach_type(program) == BPF_XDP) {
        bpf_program__set_expected_attach_type(program, static_cast<bpf_attach_type>(0));
      }
      if (frags && strcmp(bpf_program__section_name(program), kFragsSection) == 0)
        bpf_program__set_flags(program, bpf_program__flags(program) | BPF_F_XDP_HAS_FRAGS);
    }
    for (const Constant& constant : read_constants(env, args.value(1))) set_constant(handle.object, constant);
    each_pair(env, args.value(2), [&](const std::string& name, int64_t value) {
      bpf_map__set_max_entries(map_named(handle.object, name), static_cast<uint32_t>(value));
    });
    each_pair(env, args.value(3), [&](const std::string& name, int64_t value) {
      reuse_map(map_named(handle.object, name), name, static_cast<int>(value));
    });
    set_programs(env, handle.object, args.value(4));
    if (int error = bpf_object__load(handle.object); error < 0) throw Failure{-error, "load"};
    return results(env, handle.object);
  } catch (const Failure& thrown) {
    failure = thrown;
  }
  napi_value out = nullptr;
  napi_create_object(env, &out);
  set(env, out, "error", number(env, failure.error));
  set(env, out, "step", text(env, failure.text));
  set(env, out, "text", text(env, messages.text));
  set(env, out, "log", text(env, std::string(log.data())));
  return out;
}

}  // namespace

void register_object(napi_env env, napi_value exports) {
  const Function functions[] = {{"loadObject", load_object}};
  define(env, exports, functions, 1);
}

}  // namespace sluice
