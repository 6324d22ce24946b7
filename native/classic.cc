// libpcap: the filter language to classic BPF, and libpcap's interpreter. Apart from the rest because pcap/pcap.h
// and linux/bpf.h both define struct bpf_insn.
#include <pcap/pcap.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "addon.h"

namespace sluice {

namespace {

// Names in expressions are looked up through state that libpcap keeps for the whole process.
std::mutex compiling;

// (expression, linkType, snaplen, optimize) -> Uint8Array of instructions, or libpcap's message as a string
napi_value compile_filter(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  std::string expression = args.text(0);
  int link_type = args.i32(1);
  int snaplen = args.i32(2);
  int optimize = args.boolean(3) ? 1 : 0;
  if (!args.ok) return nullptr;
  if (expression.find('\0') != std::string::npos) return text(env, "a NUL character in the expression");
  std::lock_guard<std::mutex> alone(compiling);
  pcap_t* handle = pcap_open_dead(link_type, snaplen);
  if (handle == nullptr) return text(env, "no memory");
  bpf_program program = {};
  napi_value out = nullptr;
  if (pcap_compile(handle, &program, expression.c_str(), optimize, PCAP_NETMASK_UNKNOWN) != 0) {
    out = text(env, pcap_geterr(handle));
  } else {
    out = bytes_copy(env, program.bf_insns, program.bf_len * sizeof(bpf_insn));
    pcap_freecode(&program);
  }
  pcap_close(handle);
  return out;
}

// (filter, packet, wireLength) -> what the filter returns
napi_value run_filter(napi_env env, napi_callback_info info) {
  Args args(env, info, 3);
  Bytes filter = args.bytes(0);
  Bytes packet = args.bytes(1);
  uint32_t wire_length = args.u32(2);
  if (!args.ok) return nullptr;
  std::vector<bpf_insn> code(filter.size / sizeof(bpf_insn));
  if (!code.empty()) memcpy(code.data(), filter.data, code.size() * sizeof(bpf_insn));
  if (bpf_validate(code.data(), static_cast<int>(code.size())) == 0) return number(env, -1);
  static const u_char nothing = 0;
  return number(env, bpf_filter(code.data(), packet.size > 0 ? packet.data : &nothing, wire_length,
                                static_cast<u_int>(packet.size)));
}

// (filter, memory, frames, returns) -> packets that match, or -1 when the filter is not valid. `frames` has three
// words a packet: offset in `memory`, captured length, length on the wire; `returns` gets one word a packet.
napi_value run_filter_batch(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  Bytes filter = args.bytes(0);
  Bytes memory = args.bytes(1);
  Bytes frames = args.bytes(2);
  Bytes returns = args.bytes(3);
  if (!args.ok) return nullptr;
  std::vector<bpf_insn> code(filter.size / sizeof(bpf_insn));
  if (!code.empty()) memcpy(code.data(), filter.data, code.size() * sizeof(bpf_insn));
  if (bpf_validate(code.data(), static_cast<int>(code.size())) == 0) return number(env, -1);
  size_t count = std::min(frames.size / (3 * sizeof(uint32_t)), returns.size / sizeof(uint32_t));
  static const u_char nothing = 0;
  double matched = 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t frame[3];
    memcpy(frame, frames.data + i * sizeof frame, sizeof frame);
    // A frame that does not lie in the memory is cut to what does.
    size_t offset = std::min<size_t>(frame[0], memory.size);
    uint32_t captured = static_cast<uint32_t>(std::min<size_t>(frame[1], memory.size - offset));
    uint32_t result =
        bpf_filter(code.data(), captured > 0 ? memory.data + offset : &nothing, frame[2], captured);
    memcpy(returns.data + i * sizeof result, &result, sizeof result);
    if (result != 0) matched++;
  }
  return number(env, matched);
}

// (name) -> DLT, or -1
napi_value link_type_value(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  std::string name = args.text(0);
  if (!args.ok) return nullptr;
  return number(env, pcap_datalink_name_to_val(name.c_str()));
}

// (DLT) -> name, or undefined
napi_value link_type_name(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int value = args.i32(0);
  if (!args.ok) return nullptr;
  const char* name = pcap_datalink_val_to_name(value);
  return name == nullptr ? undefined(env) : text(env, name);
}

}  // namespace

void register_classic(napi_env env, napi_value exports) {
  const Function functions[] = {{"compileFilter", compile_filter},
                                {"runFilter", run_filter},
                                {"runFilterBatch", run_filter_batch},
                                {"linkTypeValue", link_type_value},
                                {"linkTypeName", link_type_name}};
  define(env, exports, functions, 5);
}

}  // namespace sluice
