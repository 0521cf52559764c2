#include "layer/repair.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <set>

#include "base/path.h"
#include "layer/name.h"
#include "layer/stack.h"
#include "layer/unpack.h"

namespace fastdock::layer {
namespace {

// LayerResult::repairs, taken apart.
struct Needs {
  std::set<std::string, std::less<>> implied;             // directories without an entry
  std::map<std::string, std::string, std::less<>> links;  // name -> target
};

Result<Needs> parse_needs(std::string_view text) {
  Needs needs;
  auto next = [&]() -> std::optional<std::string> {
    auto end = text.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    std::string word(text.substr(0, end));
    text.remove_prefix(end + 1);
    return word;
  };
  while (!text.empty()) {
    auto word = next();
    if (!word || word->empty()) return failed_with(EINVAL, Operation::kParse, "repairs");
    if (word->front() == 'd') {
      needs.implied.insert(word->substr(1));
      continue;
    }
    auto target = next();
    if (word->front() != 'l' || !target) return failed_with(EINVAL, Operation::kParse, "repairs");
    needs.links[word->substr(1)] = *target;
  }
  return needs;
}

bool same_attributes(const Entry& one, const Entry& other) {
  return one.mode == other.mode && one.uid == other.uid && one.gid == other.gid &&
         one.attributes == other.attributes;
}

class Repair {
 public:
  Repair(Stack stack, std::vector<Needs> needs) : stack_(std::move(stack)), needs_(std::move(needs)) {}

  Result<std::uint64_t> run(const std::string& destination) {
    FASTDOCK_CHECK(collect_directories());
    FASTDOCK_CHECK(collect_links());
    if (count_ == 0) return count_;
    FASTDOCK_CHECK(fill(destination));
    return count_;
  }

 private:
  using Look = Stack::Look;

  // Whether `path` is, or is in, something that layer `layer` links to a lower one.
  bool below_link(std::size_t layer, std::string_view path) const {
    for (std::string_view above = path; !above.empty(); above = split_name(above).first)
      if (needs_[layer].links.contains(above)) return true;
    return false;
  }

  // The attributes that the stack should show for a directory: of the topmost layer that lists it.  None
  // if it is no directory there.  `shown` becomes what overlayfs shows by itself.
  Result<std::optional<Entry>> directory(const std::string& path, std::optional<Entry>& shown) const {
    std::optional<Entry> best;
    for (std::size_t layer = stack_.size(); layer-- > 0;) {
      FASTDOCK_TRY(Look look, stack_.look(layer, path));
      if (look.kind == Look::Kind::kHidden) break;
      if (look.kind == Look::Kind::kAbsent) {
        if (below_link(layer, path)) break;
        continue;
      }
      if (!look.file->is_directory()) break;
      FASTDOCK_TRY(std::optional<Entry> entry, look.file->entry({}));
      if (!shown) best = shown = entry;
      if (!needs_[layer].implied.contains(path)) {
        best = entry;
        break;
      }
      // An opaque directory hides files below, but is still the same directory; an opaque parent hides it
      // all.
      if (look.parent_opaque) break;
    }
    return best;
  }

  Result<void> collect_directories() {
    std::set<std::string> implied;
    for (const Needs& needs : needs_) implied.insert(needs.implied.begin(), needs.implied.end());
    for (const std::string& path : implied) {
      std::optional<Entry> shown;
      FASTDOCK_TRY(std::optional<Entry> right, directory(path, shown));
      if (!right || same_attributes(*right, *shown)) continue;
      FASTDOCK_CHECK(add_directory(path));
      ++count_;
    }
    return {};
  }

  // The directory and its parents: as the new topmost ones they decide what is shown.
  Result<void> add_directory(const std::string& path) {
    if (directories_.contains(path)) return {};
    if (!path.empty()) FASTDOCK_CHECK(add_directory(std::string(split_name(path).first)));
    std::optional<Entry> shown;
    FASTDOCK_TRY(std::optional<Entry> right, directory(path, shown));
    if (!right) return failed_with(ENOTDIR, Operation::kUnpackEntry, path);
    directories_[path] = std::move(*right);
    return {};
  }

  struct Origin {
    std::size_t layer;
    std::string path;
    auto operator<=>(const Origin&) const = default;
  };

  // The file that a link of layer `above` means; it may itself be a link to a still lower one.
  Result<Origin> origin(const std::string& target, std::size_t above, const std::string& link) const {
    for (std::size_t layer = above; layer-- > 0;) {
      FASTDOCK_TRY(Look look, stack_.look(layer, target));
      if (look.kind == Look::Kind::kPresent && !look.file->is_directory()) return Origin{layer, target};
      if (look.kind == Look::Kind::kAbsent) {
        auto further = needs_[layer].links.find(target);
        if (further != needs_[layer].links.end()) return origin(further->second, layer, link);
        if (!below_link(layer, target)) continue;
      }
      break;
    }
    return refused(Hint::kLinkTargetMissing, link + " -> " + target);
  }

  // Whether a link that layer `layer` makes is still what shows under its name.
  Result<bool> shows(const std::string& name, std::size_t layer) const {
    for (std::size_t above = layer; above < stack_.size(); ++above) {
      FASTDOCK_TRY(Look look, stack_.look(above, name));
      if (look.kind != Look::Kind::kAbsent) return false;
      if (above > layer && below_link(above, name)) return false;
    }
    return true;
  }

  Result<void> collect_links() {
    for (std::size_t layer = 0; layer < needs_.size(); ++layer) {
      for (const auto& [name, target] : needs_[layer].links) {
        FASTDOCK_TRY(Origin origin, this->origin(target, layer, name));
        FASTDOCK_TRY(bool visible, shows(name, layer));
        if (!visible) continue;
        FASTDOCK_CHECK(add_directory(std::string(split_name(name).first)));
        links_[origin].push_back(name);
        ++count_;
      }
    }
    return {};
  }

  Result<void> fill(const std::string& destination) {
    Limits limits;
    FASTDOCK_TRY(Fd fd, open_file(destination, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    FASTDOCK_TRY(Unpacker unpacker, Unpacker::create(std::move(fd), limits));
    NoData nothing;
    for (const auto& [path, entry] : directories_) FASTDOCK_CHECK(unpacker.add(entry, nothing));
    for (const auto& [origin, names] : links_) {
      FASTDOCK_TRY(Look look, stack_.look(origin.layer, origin.path));
      FASTDOCK_TRY(std::optional<Entry> entry, look.file->entry({}));
      if (!entry) return refused(Hint::kLinkTargetMissing, origin.path);
      entry->name = names.front();
      if (entry->type == EntryType::kFile) {
        FASTDOCK_TRY(Fd file, look.file->reopen());
        FASTDOCK_CHECK(find_holes(file.get(), *entry));
        FileData data(std::move(file), *entry);
        FASTDOCK_CHECK(unpacker.add(*entry, data));
      } else {
        FASTDOCK_CHECK(unpacker.add(*entry, nothing));
      }
      for (std::size_t i = 1; i < names.size(); ++i) {
        Entry link;
        link.type = EntryType::kHardLink;
        link.name = names[i];
        link.link = names.front();
        FASTDOCK_CHECK(unpacker.add(link, nothing));
      }
    }
    return unpacker.finish();
  }

  Stack stack_;
  std::vector<Needs> needs_;
  std::uint64_t count_ = 0;
  std::map<std::string, Entry> directories_;
  std::map<Origin, std::vector<std::string>> links_;
};

}  // namespace

Result<std::uint64_t> repair_layers(const std::vector<UnpackedLayer>& layers,
                                    const std::string& destination) {
  bool any = std::ranges::any_of(layers, [](const UnpackedLayer& layer) { return !layer.repairs.empty(); });
  if (!any) return 0;
  std::vector<std::string> paths;
  std::vector<Needs> needs;
  for (const UnpackedLayer& layer : layers) {
    paths.push_back(layer.path);
    FASTDOCK_TRY(Needs parsed, parse_needs(layer.repairs));
    needs.push_back(std::move(parsed));
  }
  FASTDOCK_TRY(Stack stack, Stack::open(paths));
  return Repair(std::move(stack), std::move(needs)).run(destination);
}

}  // namespace fastdock::layer
