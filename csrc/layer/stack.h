// Several layers seen as overlayfs shows them, without mounting: which of them has a path.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "layer/file_entry.h"
#include "layer/layer.h"

namespace fastdock::layer {

class Stack {
 public:
  // Directories from the bottom to the top, as in a manifest.
  static Result<Stack> open(const std::vector<std::string>& layers);

  [[nodiscard]] std::size_t size() const { return roots_.size(); }

  // What one layer alone says of a path.
  struct Look {
    // Hidden: a whiteout, or something else than a directory where a parent would be.
    enum class Kind : std::uint8_t { kAbsent, kHidden, kPresent };
    Kind kind = Kind::kAbsent;
    std::optional<FileHandle> file;  // if present
    // Nothing of the layers below is seen here: a parent directory is opaque.
    bool parent_opaque = false;
    bool opaque = false;  // the directory itself is
  };
  Result<Look> look(std::size_t layer, std::string_view path) const;

  // The file that shows at `path` if only the lowest `count` layers are stacked.
  struct Found {
    std::size_t layer;
    FileHandle file;
    bool alone;  // a directory that does not merge with lower ones
  };
  Result<std::optional<Found>> find(std::string_view path, std::size_t count) const;

  // The names that show in a directory of the whole stack; none if it is no directory there.
  Result<std::vector<std::string>> list(std::string_view path) const;

 private:
  std::vector<Fd> roots_;
};

}  // namespace fastdock::layer
