// What SIOCETHTOOL tells and sets: receive classification rules of a NIC (ntuple), its receive queues, and by whole structures the
// settings that src/kernel/ethtool.ts knows.
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <vector>

#include "addon.h"

namespace sluice {

namespace {

// src/kernel/nic-rules.ts writes these structures.
static_assert(sizeof(ethtool_rx_flow_spec) == 168);
static_assert(offsetof(ethtool_rx_flow_spec, h_ext) == 56);
static_assert(offsetof(ethtool_rx_flow_spec, m_u) == 76);
static_assert(offsetof(ethtool_rx_flow_spec, m_ext) == 128);
static_assert(offsetof(ethtool_rx_flow_spec, ring_cookie) == 152);
static_assert(offsetof(ethtool_rx_flow_spec, location) == 160);
static_assert(sizeof(ethtool_rxnfc) == 192);
static_assert(offsetof(ethtool_rxnfc, data) == 8);
static_assert(offsetof(ethtool_rxnfc, fs) == 16);
static_assert(offsetof(ethtool_rxnfc, rule_cnt) == 184);
static_assert(offsetof(ethtool_rxnfc, rule_locs) == 188);

bool is_rule_command(uint32_t command) { return command >= ETHTOOL_GRXCLSRLCNT && command <= ETHTOOL_SRXCLSRLINS; }

// (ifname, struct ethtool_rxnfc with room for the locations that it asks for): 0, or a negative errno; the answer is in the bytes.
napi_value nic_rules(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  std::string ifname = args.text(0);
  Bytes bytes = args.bytes(1);
  if (!args.ok) return nullptr;
  ethtool_rxnfc command = {};
  if (bytes.size < sizeof command || ifname.size() >= IFNAMSIZ) return number(env, -EINVAL);
  memcpy(&command, bytes.data, sizeof command);
  if (!is_rule_command(command.cmd)) return number(env, -EINVAL);
  uint64_t room = (bytes.size - offsetof(ethtool_rxnfc, rule_locs)) / sizeof command.rule_locs[0];
  if (command.cmd == ETHTOOL_GRXCLSRLALL && command.rule_cnt > room) return number(env, -EINVAL);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return number(env, -errno);
  ifreq request = {};
  memcpy(request.ifr_name, ifname.data(), ifname.size());
  request.ifr_data = reinterpret_cast<char*>(bytes.data);
  int error = ioctl(fd, SIOCETHTOOL, &request) < 0 ? -errno : 0;
  close(fd);
  return number(env, error);
}

// (ifname) -> receive queues in use, or a negative errno: EOPNOTSUPP where the driver does not say.
napi_value rx_queues(napi_env env, napi_callback_info info) {
  Args args(env, info, 1);
  std::string ifname = args.text(0);
  if (!args.ok) return nullptr;
  if (ifname.size() >= IFNAMSIZ) return number(env, -EINVAL);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return number(env, -errno);
  ethtool_channels channels = {};
  channels.cmd = ETHTOOL_GCHANNELS;
  ifreq request = {};
  memcpy(request.ifr_name, ifname.data(), ifname.size());
  request.ifr_data = reinterpret_cast<char*>(&channels);
  int error = ioctl(fd, SIOCETHTOOL, &request) < 0 ? -errno : 0;
  close(fd);
  if (error < 0) return number(env, error);
  return number(env, channels.rx_count + channels.combined_count);
}

// Some commands make the kernel write as much as the driver has, whatever it was asked for (statistics, names): no answer is longer.
constexpr size_t kAnswerRoom = 4u << 20;

bool is_setting_command(uint32_t command) {
  switch (command) {
    case ETHTOOL_GDRVINFO:
    case ETHTOOL_GLINKSETTINGS:
    case ETHTOOL_GRINGPARAM:
    case ETHTOOL_SRINGPARAM:
    case ETHTOOL_GCHANNELS:
    case ETHTOOL_SCHANNELS:
    case ETHTOOL_GCOALESCE:
    case ETHTOOL_SCOALESCE:
    case ETHTOOL_GPAUSEPARAM:
    case ETHTOOL_SPAUSEPARAM:
    case ETHTOOL_GSSET_INFO:
    case ETHTOOL_GSTRINGS:
    case ETHTOOL_GSTATS:
    case ETHTOOL_GFEATURES:
    case ETHTOOL_SFEATURES:
    case ETHTOOL_GPFLAGS:
    case ETHTOOL_SPFLAGS:
    case ETHTOOL_GRSSH:
    case ETHTOOL_SRSSH:
    case ETHTOOL_GRXFH:
    case ETHTOOL_SRXFH:
    case ETHTOOL_GRXCLSRLCNT:
      return true;
    default:
      return false;
  }
}

// (ifname, structure of a command): what the ioctl gives back (0, of some commands more), or a negative errno; the answer is in the bytes.
napi_value ethtool(napi_env env, napi_callback_info info) {
  Args args(env, info, 2);
  std::string ifname = args.text(0);
  Bytes bytes = args.bytes(1);
  if (!args.ok) return nullptr;
  uint32_t command = 0;
  if (bytes.size < sizeof command || bytes.size > kAnswerRoom || ifname.size() >= IFNAMSIZ) return number(env, -EINVAL);
  memcpy(&command, bytes.data, sizeof command);
  if (!is_setting_command(command)) return number(env, -EINVAL);
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return number(env, -errno);
  std::vector<uint8_t> room(kAnswerRoom);
  memcpy(room.data(), bytes.data, bytes.size);
  ifreq request = {};
  memcpy(request.ifr_name, ifname.data(), ifname.size());
  request.ifr_data = reinterpret_cast<char*>(room.data());
  int result = ioctl(fd, SIOCETHTOOL, &request);
  if (result < 0) result = -errno;
  close(fd);
  memcpy(bytes.data, room.data(), bytes.size);
  return number(env, result);
}

}  // namespace

void register_ethtool(napi_env env, napi_value exports) {
  const Function functions[] = {{"nicRules", nic_rules}, {"rxQueues", rx_queues}, {"ethtool", ethtool}};
  define(env, exports, functions, sizeof functions / sizeof functions[0]);
}

}  // namespace sluice
