// libpcap: the filter language to classic BPF, and libpcap's interpreter. Apart from the rest because pcap/pcap.h
// and linux/bpf.h both define struct bpf_insn.
#include <pcap/pcap.h>

#include <cstring>

#include "addon.h"

namespace sluice {

namespace {

// (expression, linkType, snaplen, optimize) -> Uint8Array of instructions, or libpcap's message as a string
napi_value compile_filter(napi_env env, napi_callback_info info) {
  Args args(env, info, 4);
  std::string expression = args.text(0);
  int link_type = args.i32(1);
  int snaplen = args.i32(2);
  int optimize = args.boolean(3) ? 1 : 0;
  if (!args.ok) return nullptr;
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

}  // namespace

void register_classic(napi_env env, napi_value exports) {
  const Function functions[] = {{"compileFilter", compile_filter}, {"runFilter", run_filter}};
  define(env, exports, functions, 2);
}

}  // namespace sluice
