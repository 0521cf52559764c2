#include "layer/stack.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/path.h"
#include "layer/attributes.h"
#include "layer/directories.h"

namespace fastdock::layer {

Result<Stack> Stack::open(const std::vector<std::string>& layers) {
  Stack stack;
  for (const std::string& path : layers) {
    auto root = open_file(path, O_RDONLY | O_DIRECTORY);
    if (!root) return failed_with(root.error().number, Operation::kOpenLayer, path, Hint::kLayerUnreadable);
    stack.roots_.push_back(std::move(*root));
  }
  return stack;
}

Result<Stack::Look> Stack::look(std::size_t layer, std::string_view path) const {
  Look look;
  Look hidden;
  hidden.kind = Look::Kind::kHidden;
  FASTDOCK_TRY(FileHandle file, FileHandle::open(roots_[layer].get(), ".", ""));
  for (std::size_t start = 0; start < path.size();) {
    if (!file.is_directory()) return hidden;
    if (!look.parent_opaque) {
      FASTDOCK_TRY(look.parent_opaque, is_opaque(file.get(), file.path()));
    }
    std::size_t end = std::min(path.find('/', start), path.size());
    auto next = FileHandle::open(file.get(), std::string(path.substr(start, end - start)),
                                 std::string(path.substr(0, end)));
    if (!next && next.error().number == ENOENT) {
      look.kind = look.parent_opaque ? Look::Kind::kHidden : Look::Kind::kAbsent;
      return look;
    }
    if (!next) return std::unexpected(next.error());
    file = std::move(*next);
    start = end + 1;
    if (is_whiteout(file.status().st_mode, file.status().st_rdev)) return hidden;
  }
  if (file.is_directory()) {
    FASTDOCK_TRY(look.opaque, is_opaque(file.get(), file.path()));
  }
  look.kind = Look::Kind::kPresent;
  look.file = std::move(file);
  return look;
}

Result<std::optional<Stack::Found>> Stack::find(std::string_view path, std::size_t count) const {
  for (std::size_t layer = count; layer-- > 0;) {
    FASTDOCK_TRY(Look look, this->look(layer, path));
    if (look.kind == Look::Kind::kHidden) return std::nullopt;
    if (look.kind == Look::Kind::kAbsent) continue;
    bool alone = look.parent_opaque || look.opaque || !look.file->is_directory();
    return Found{layer, std::move(*look.file), alone};
  }
  return std::nullopt;
}

Result<std::vector<std::string>> Stack::list(std::string_view path) const {
  std::set<std::string> shown;
  std::set<std::string> hidden;
  for (std::size_t layer = size(); layer-- > 0;) {
    FASTDOCK_TRY(Look look, this->look(layer, path));
    if (look.kind == Look::Kind::kAbsent) continue;
    if (look.kind == Look::Kind::kHidden || !look.file->is_directory()) break;
    FASTDOCK_TRY(Fd directory, look.file->reopen());
    FASTDOCK_TRY(std::vector<std::string> names, list_names(directory.get(), path));
    for (std::string& name : names) {
      FASTDOCK_TRY(FileHandle file, FileHandle::open(directory.get(), name, join_path(path, name)));
      bool whiteout = is_whiteout(file.status().st_mode, file.status().st_rdev);
      if (!whiteout && !hidden.contains(name)) shown.insert(name);
      if (whiteout && !shown.contains(name)) hidden.insert(std::move(name));
    }
    if (look.opaque || look.parent_opaque) break;
  }
  return std::vector<std::string>(shown.begin(), shown.end());
}

}  // namespace fastdock::layer
