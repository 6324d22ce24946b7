// A connection as a line of conn.log, from its record in the flow table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::flow {

// Networks that count as local: 17 bytes each, the length of the prefix and the address (IPv4: 4 bytes of it count).
constexpr size_t kNetworkBytes = 17;

struct Networks {
  const uint8_t* nets4 = nullptr;
  size_t count4 = 0;
  const uint8_t* nets6 = nullptr;
  size_t count6 = 0;
};

constexpr size_t kLongestLine = 2048;
// Of which service and further fields take no more than this each; the rest is longer than all that the table knows.
constexpr size_t kLongestService = 128;
constexpr size_t kLongestMore = 1024;

// Writes the record in two parts as JSON with a newline at `out`, where kLongestLine bytes are free: the bytes written,
// or 0 for one that more is to be said of than the table knows, or that has numbers of unusual size. As connRecord
// (src/flow/record.ts) and jsonWriter (src/log/json-format.ts) with the fields that conn.log has without options. `service`: its
// value, of letters that JSON takes as they are; empty: none. `more`: fields behind these, each with the comma before it.
size_t conn_line(const int32_t* hot, const int32_t* cold, const Networks& local, std::string_view service, std::string_view more,
                 char* out);

}  // namespace sluice::flow
