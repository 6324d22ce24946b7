// AF_PACKET: the TPACKET_V3 receive ring and a sender of prepared frames.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "addon.h"
#include "socket.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

namespace sluice {

namespace {

class PacketSetup : public SocketSetup {
 public:
  // Protocol 0: nothing is received before the socket is bound to its one interface.
  PacketSetup() : SocketSetup(AF_PACKET, SOCK_RAW, 0) {}

  template <typename Value>
  void packet_option(int name, const Value& value, const char* at) {
    option(SOL_PACKET, name, value, at);
  }
  // A classic filter that lets nothing through.
  void deafen() {
    sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    option(SOL_SOCKET, SO_ATTACH_FILTER, sock_fprog{1, &nothing}, "SO_ATTACH_FILTER");
  }
  void bind_to_interface(int ifindex, uint16_t protocol) {
    sockaddr_ll address = {};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(protocol);
    address.sll_ifindex = ifindex;
    bind_to(reinterpret_cast<sockaddr*>(&address), sizeof address);
  }
};

// (ifindex, blockSize, blocks, frameSize, retireMs, promiscuous, ignoreOutgoing, filter, fanout) -> fd.
// `fanout` is the word that PACKET_FANOUT takes (id | mode << 16), or -1.
napi_value packet_ring(napi_env env, napi_callback_info info) {
  Args args(env, info, 9);
  int ifindex = args.i32(0);
  tpacket_req3 request = {};
  request.tp_block_size = args.u32(1);
  request.tp_block_nr = args.u32(2);
  request.tp_frame_size = args.u32(3);
  request.tp_retire_blk_tov = args.u32(4);
  bool promiscuous = args.boolean(5);
  int ignore_outgoing = args.boolean(6) ? 1 : 0;
  Bytes filter = args.bytes(7);
  int32_t fanout = args.i32(8);
  if (!args.ok) return nullptr;
  if (request.tp_frame_size == 0) return throw_errno(env, EINVAL, "frame size");
  request.tp_frame_nr = request.tp_block_size / request.tp_frame_size * request.tp_block_nr;

  PacketSetup setup;
  setup.packet_option(PACKET_VERSION, static_cast<int>(TPACKET_V3), "PACKET_VERSION");
  if (filter.present) {
    sock_fprog program = {};
    program.len = static_cast<uint16_t>(filter.size / sizeof(sock_filter));
    std::vector<sock_filter> code(program.len);
    if (program.len > 0) memcpy(code.data(), filter.data, program.len * sizeof(sock_filter));
    program.filter = code.data();
    setup.option(SOL_SOCKET, SO_ATTACH_FILTER, program, "SO_ATTACH_FILTER");
  }
  if (ignore_outgoing != 0) setup.packet_option(PACKET_IGNORE_OUTGOING, ignore_outgoing, "PACKET_IGNORE_OUTGOING");
  setup.packet_option(PACKET_RX_RING, request, "PACKET_RX_RING");
  if (promiscuous) {
    packet_mreq membership = {};
    membership.mr_ifindex = ifindex;
    membership.mr_type = PACKET_MR_PROMISC;
    setup.packet_option(PACKET_ADD_MEMBERSHIP, membership, "PACKET_ADD_MEMBERSHIP");
  }
  setup.bind_to_interface(ifindex, ETH_P_ALL);
  if (fanout >= 0) setup.packet_option(PACKET_FANOUT, fanout, "PACKET_FANOUT");
  if (setup.error != 0) return throw_errno(env, setup.error, setup.step);
  return number(env, own(env, setup.release()));
}

// (ifindex, id, mode, members, program) -> fd of a socket that is in a fanout group and receives nothing. `mode` has the
// flags in its upper byte; id -1 makes a group of its own, with a free id and room for `members`; a program's descriptor
// or -1.
napi_value packet_fanout(napi_env env, napi_callback_info info) {
  Args args(env, info, 5);
  int ifindex = args.i32(0);
  int32_t id = args.i32(1);
  uint32_t mode = args.u32(2);
  uint32_t members = args.u32(3);
  int program = args.i32(4);
  if (!args.ok) return nullptr;
  PacketSetup setup;
  setup.deafen();
  setup.bind_to_interface(ifindex, ETH_P_ALL);
  if (id < 0) {
    mode |= PACKET_FANOUT_FLAG_UNIQUEID;
    fanout_args group = {};
    group.type_flags = static_cast<uint16_t>(mode);
    group.max_num_members = members;
    setup.packet_option(PACKET_FANOUT, group, "PACKET_FANOUT");
  } else {
    setup.packet_option(PACKET_FANOUT, static_cast<uint32_t>(id & 0xffff) | mode << 16, "PACKET_FANOUT");
  }
  if (program >= 0) setup.packet_option(PACKET_FANOUT_DATA, program, "PACKET_FANOUT_DATA");
  if (setup.error != 0) return throw_errno(env, setup.error, setup.step);
  return number(env, own(env, setup.release()));
}

// (fd) -> id of the socket's fanout group, or a negative errno
napi_value packet_fanout_id(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  uint32_t word = 0;
  socklen_t size = sizeof word;
  if (getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &word, &size) < 0) return number(env, -errno);
  return number(env, word & 0xffff);
}

// (fd, out: Uint8Array[12]) -> 0 or a negative errno: packets, drops, freezes since the last call. The kernel
// resets them on reading, and counts dropped ones under packets as well.
napi_value packet_stats(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int fd = args.i32(0);
  Bytes out = args.bytes(1);
  if (!args.ok) return nullptr;
  tpacket_stats_v3 stats = {};
  socklen_t size = sizeof stats;
  if (out.size < sizeof stats) return number(env, -EINVAL);
  if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) < 0) return number(env, -errno);
  memcpy(out.data, &stats, sizeof stats);
  return number(env, 0);
}

// (fd) -> 0 or a negative errno: the ring takes no frame any more, and counts none. What it holds stays readable.
napi_value packet_stop(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  int fd = args.i32(0);
  if (!args.ok) return nullptr;
  sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  sock_fprog program = {1, &nothing};
  return number(env, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ? -errno : 0);
}

// (ifindex, qdiscBypass) -> fd
napi_value packet_sender(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  int ifindex = args.i32(0);
  int bypass = args.boolean(1) ? 1 : 0;
  if (!args.ok) return nullptr;
  PacketSetup setup;
  // A smaller one only means that sending waits more often.
  setup.buffer(SO_SNDBUFFORCE, SO_SNDBUF, 8 << 20);
  if (bypass != 0) setup.packet_option(PACKET_QDISC_BYPASS, bypass, "PACKET_QDISC_BYPASS");
  setup.bind_to_interface(ifindex, 0);
  if (setup.error != 0) return throw_errno(env, setup.error, setup.step);
  return number(env, own(env, setup.release()));
}

// (fd, frames, offsets: bytes of a Uint32Array, first, count) -> frames sent, or a negative errno when none was.
// Frame i lies at offsets[i] .. offsets[i + 1].
napi_value packet_send(napi_env env, napi_callback_info info) {
  Args args(env, info, 5);
  int fd = args.i32(0);
  Bytes frames = args.bytes(1);
  Bytes table = args.bytes(2);
  uint32_t first = args.u32(3);
  uint32_t count = args.u32(4);
  if (!args.ok) return nullptr;
  if ((static_cast<uint64_t>(first) + count + 1) * 4 > table.size) return number(env, -EINVAL);
  constexpr uint32_t kBatch = 512;
  mmsghdr messages[kBatch];
  iovec parts[kBatch];
  uint32_t sent = 0;
  while (sent < count) {
    uint32_t batch = std::min(kBatch, count - sent);
    memset(messages, 0, batch * sizeof messages[0]);
    for (uint32_t i = 0; i < batch; i++) {
      uint32_t bounds[2];
      memcpy(bounds, table.data + (static_cast<size_t>(first) + sent + i) * 4, sizeof bounds);
      if (bounds[0] > bounds[1] || bounds[1] > frames.size) return number(env, -EINVAL);
      parts[i] = {frames.data + bounds[0], bounds[1] - bounds[0]};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    int result = sendmmsg(fd, messages, batch, 0);
    if (result < 0) {
      if (errno == EINTR) continue;
      return number(env, sent > 0 ? static_cast<double>(sent) : -errno);
    }
    sent += static_cast<uint32_t>(result);
  }
  return number(env, sent);
}

}  // namespace

void register_packet(napi_env env, napi_value exports) {
  const Function functions[] = {{"packetRing", packet_ring},
                                {"packetStats", packet_stats},
                                {"packetStop", packet_stop},
                                {"packetFanout", packet_fanout},
                                {"packetFanoutId", packet_fanout_id},
                                {"packetSender", packet_sender},
                                {"packetSend", packet_send}};
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
