// Extended headers of POSIX.1-2001 (pax): the records, and what they change in an entry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "layer/layer.h"

namespace fastdock::layer {

using PaxRecords = std::vector<std::pair<std::string, std::string>>;

// The records of one extended header: "LENGTH KEY=VALUE\n" each.
Result<PaxRecords> parse_pax(std::string_view text);

// What the records say beyond plain fields of an entry.
struct PaxOverrides {
  std::optional<std::uint64_t> size;         // of the data in the archive
  std::optional<std::uint64_t> sparse_size;  // GNU.sparse.size, GNU.sparse.realsize
  std::string sparse_major, sparse_minor;    // "1", "0": the map stands before the data
  bool sparse_map = false;                   // GNU.sparse 0.0 or 0.1: the map is in entry.extents
};

// Applies global, then local records to `entry`.  The name of a sparse file wins over `path`.
Result<PaxOverrides> apply_pax(const PaxRecords& global, const PaxRecords& local, Entry& entry,
                               const Limits& limits);

}  // namespace fastdock::layer
