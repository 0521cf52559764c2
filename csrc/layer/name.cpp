#include "layer/name.h"

#include <cerrno>
#include <climits>

namespace fastdock::layer {
namespace {

constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kAufs = ".wh..wh.";
constexpr std::string_view kOpaque = ".wh..wh..opq";

// What an error message shows of a name that may be a megabyte long.
std::string_view shown(std::string_view name) { return name.substr(0, 200); }

}  // namespace

std::unexpected<Error> refused(Hint hint, std::string_view name) {
  return failed_with(EBADMSG, Operation::kUnpackEntry, shown(name), hint);
}

std::unexpected<Error> over_limit(std::string_view name, std::string_view limit) {
  std::string what(shown(name));
  return failed_with(EFBIG, Operation::kUnpackEntry, what.append(" [").append(limit).append("]"),
                     Hint::kArchiveLimit);
}

Result<std::string> normalize(std::string_view name, const Limits& limits) {
  if (name.size() > limits.name) return over_limit(name, "max_name");
  if (name.find('\0') != std::string_view::npos) return refused(Hint::kCorruptArchive, name);
  std::string path;
  path.reserve(name.size());
  std::size_t depth = 0;
  for (std::size_t start = 0; start <= name.size();) {
    std::size_t end = std::min(name.find('/', start), name.size());
    std::string_view component = name.substr(start, end - start);
    start = end + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      if (depth == 0) return refused(Hint::kArchiveEscapes, name);
      path.resize(--depth == 0 ? 0 : path.rfind('/'));
      continue;
    }
    if (component.size() > NAME_MAX) return over_limit(name, "255 bytes between slashes");
    if (++depth > limits.depth) return over_limit(name, "depth of directories");
    if (!path.empty()) path += '/';
    path += component;
  }
  return path;
}

std::pair<std::string_view, std::string_view> split_name(std::string_view path) {
  auto slash = path.rfind('/');
  if (slash == std::string_view::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

std::string join_path(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty()) path += '/';
  path += name;
  return path;
}

Result<Whiteout> whiteout_of(std::string_view path) {
  // Almost every name has none.
  if (path.find(kWhiteout) == std::string_view::npos) return Whiteout{};
  auto [directory, name] = split_name(path);
  for (std::string_view rest = directory; !rest.empty();) {
    auto [above, component] = split_name(rest);
    if (component.starts_with(kAufs)) return Whiteout{Whiteout::Kind::kIgnored, {}};
    // A file inside of what is hidden: no writer makes this, and nothing it could mean is safe to guess.
    if (component.starts_with(kWhiteout)) return refused(Hint::kCorruptArchive, path);
    rest = above;
  }
  if (name == kOpaque) return Whiteout{Whiteout::Kind::kOpaque, std::string(directory)};
  if (name.starts_with(kAufs)) return Whiteout{Whiteout::Kind::kIgnored, {}};
  if (!name.starts_with(kWhiteout)) return Whiteout{};
  name.remove_prefix(kWhiteout.size());
  // ".wh..." would hide "..".
  if (name.empty() || name == "." || name == "..") return refused(Hint::kCorruptArchive, path);
  return Whiteout{Whiteout::Kind::kName, join_path(directory, name)};
}

}  // namespace fastdock::layer
