// From directories to layers: what a container changed, what differs between two trees, or a whole tree.
#pragma once

#include <string>
#include <vector>

#include "layer/compress.h"
#include "layer/file_entry.h"
#include "layer/layer.h"

namespace fastdock::layer {

struct OutputOptions {
  Compression compression = Compression::kNone;
  IdOffset offset;
};

// An overlay's upper directory: its whiteouts and opaque directories in OCI's form.
Result<LayerResult> write_diff(const std::string& upper, int output, const OutputOptions& options);

// What turns the tree `before` into the tree `after`.
Result<LayerResult> write_directory_diff(const std::string& before, const std::string& after, int output,
                                         const OutputOptions& options);

// The whole tree, without what is mounted in it.
Result<LayerResult> write_tar(const std::string& directory, int output, const OutputOptions& options);

struct Change {
  enum class Kind : char { kAdded = 'A', kChanged = 'C', kDeleted = 'D' };
  Kind kind;
  std::string path;  // "/a/b"
};
// What an upper directory changes in the layers below (bottom to top), by path.
Result<std::vector<Change>> changes(const std::string& upper, const std::vector<std::string>& lower);

}  // namespace fastdock::layer
