// Names from an archive, made safe before any of them reaches the kernel.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "layer/layer.h"

namespace fastdock::layer {

// An error about the archive itself, not about the machine.
std::unexpected<Error> refused(Hint hint, std::string_view name);
std::unexpected<Error> over_limit(std::string_view name, std::string_view limit);

// `name` below the root of the archive: "a/b", without ".", empty components and ".."; "" is the root.
// An absolute name is relative to the root, as Docker and GNU tar have it.  ".." is taken away by looking
// at the text alone, before any link is, as Docker does; one that leads out is refused.
Result<std::string> normalize(std::string_view name, const Limits& limits);

// {"a/b", "c"} of "a/b/c"; {"", "c"} of "c".
std::pair<std::string_view, std::string_view> split_name(std::string_view path);

// "directory/name"; "name" in the root.
std::string join_path(std::string_view directory, std::string_view name);

// OCI image-spec, layer.md, "Whiteouts".
struct Whiteout {
  enum class Kind : std::uint8_t {
    kNone,     // an ordinary name
    kName,     // .wh.NAME: `path` is hidden
    kOpaque,   // .wh..wh..opq: everything below in `path` is hidden
    kIgnored,  // aufs' own files (.wh..wh.plnk and the like)
  };
  Kind kind = Kind::kNone;
  std::string path;
};
Result<Whiteout> whiteout_of(std::string_view path);

}  // namespace fastdock::layer
