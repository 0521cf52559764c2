// "mounts" of config.json.
#include <linux/mount.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "oci/config.h"

namespace fastdock::oci {
namespace {

// <sys/mount.h> cannot be included beside <linux/mount.h>.
constexpr std::uint64_t kUnbindable = 1U << 17;
constexpr std::uint64_t kPrivate = 1U << 18;
constexpr std::uint64_t kSlave = 1U << 19;
constexpr std::uint64_t kShared = 1U << 20;

// The mount options of mount(8) that are attributes of the mount, not of the file system.  With an "r" in
// front they are for the whole tree (config.md, "Mount options").
struct Attribute {
  std::string_view name;
  std::uint64_t set, clear;
};
constexpr auto kAttributes = std::to_array<Attribute>({
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"rw", 0, MOUNT_ATTR_RDONLY},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"suid", 0, MOUNT_ATTR_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"dev", 0, MOUNT_ATTR_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"exec", 0, MOUNT_ATTR_NOEXEC},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"diratime", 0, MOUNT_ATTR_NODIRATIME},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"atime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"norelatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
});

struct Propagation {
  std::string_view name;
  std::uint64_t type;
  bool recursive;
};
constexpr auto kPropagations = std::to_array<Propagation>({
    {"shared", kShared, false},
    {"rshared", kShared, true},
    {"slave", kSlave, false},
    {"rslave", kSlave, true},
    {"private", kPrivate, false},
    {"rprivate", kPrivate, true},
    {"unbindable", kUnbindable, false},
    {"runbindable", kUnbindable, true},
});

// Of the super block.  fsconfig(2) takes them as flags; for a bind mount they say nothing (mount(2)).
constexpr auto kSuperblockFlags =
    std::to_array<std::string_view>({"sync", "dirsync", "lazytime", "mand", "async", "nolazytime", "nomand"});
// Of mount(8), without meaning for the kernel.
constexpr auto kIgnored =
    std::to_array<std::string_view>({"defaults", "noiversion", "iversion", "silent", "loud", "acl", "noacl",
                                     "auto", "noauto", "user", "nouser", "_netdev"});

template <class Table>
const typename Table::value_type* look_up(const Table& table, std::string_view name) {
  const auto* found = std::ranges::find(table, name, &Table::value_type::name);
  return found == table.end() ? nullptr : found;
}

// They take back what an earlier option said; a bind mount then has its source's, and a new mount relatime.
constexpr auto kUndoneAccessTimes = std::to_array<std::string_view>({"atime", "norelatime", "nostrictatime"});

void apply(const Attribute& attribute, std::uint64_t& set, std::uint64_t& clear) {
  set = (set & ~attribute.clear) | attribute.set;
  clear = (clear & ~attribute.set) | attribute.clear;
}

struct Options {
  bool bind = false;
  bool attributes = false;  // there is one of kAttributes or kSuperblockFlags
  bool map_ids = false;
};

void add_data(rootfs::Mount& mount, std::string_view option) {
  if (!mount.options.empty()) mount.options += ',';
  mount.options += option;
}

void read_option(std::string_view option, Json where, rootfs::Mount& mount, Options& options) {
  if (option == "bind" || option == "rbind") {
    options.bind = true;
    mount.recursive = option == "rbind";
  } else if (const Attribute* attribute = look_up(kAttributes, option)) {
    options.attributes = true;
    apply(*attribute, mount.attributes_set, mount.attributes_clear);
    if (std::ranges::find(kUndoneAccessTimes, option) != kUndoneAccessTimes.end())
      mount.attributes_clear &= ~std::uint64_t{MOUNT_ATTR__ATIME};
  } else if (const Propagation* propagation = look_up(kPropagations, option)) {
    mount.propagation = propagation->type;
    mount.propagation_recursive = propagation->recursive;
  } else if (const Attribute* recursive =
                 option.starts_with('r') ? look_up(kAttributes, option.substr(1)) : nullptr) {
    apply(*recursive, mount.recursive_set, mount.recursive_clear);
  } else if (option == "idmap" || option == "ridmap") {
    options.map_ids = true;
    mount.map_ids_below = option == "ridmap";
  } else if (option == "tmpcopyup") {
    mount.copy_up = true;
  } else if (std::ranges::find(kSuperblockFlags, option) != kSuperblockFlags.end()) {
    options.attributes = true;
    add_data(mount, option);
  } else if (option == "remount") {
    where.refuse("has the option remount, which needs a mount to change");
  } else if (std::ranges::find(kIgnored, option) == kIgnored.end()) {
    add_data(mount, option);
  }
}

void read_maps(Json maps, std::vector<rootfs::IdMapping>& target) {
  maps.each([&](Json entry) {
    rootfs::IdMapping mapping;
    entry.required("containerID").read(mapping.inside);
    entry.required("hostID").read(mapping.outside);
    entry.required("size").read(mapping.count);
    target.push_back(mapping);
  });
}

// As runc 1.2 and later, and mount(2) with MS_REMOUNT: where one attribute is asked for, those that are not
// are cleared, whatever the source has; without any, the source's stay.  The access time stays unless it is
// asked for; nodiratime alone implies relatime.
void reset_unnamed(rootfs::Mount& mount, bool own_users) {
  // diratime asks for nothing, as with mount(2).
  mount.attributes_clear &= ~std::uint64_t{MOUNT_ATTR_NODIRATIME};
  std::uint64_t reset =
      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
  // In a user namespace runc finds them locked by the kernel (mount_namespaces(7)), and keeps them.  Ours are
  // made outside of it, where they are not; but a container of other ids must not gain by that.  What the
  // options take away by name is an error there: check_locked_attributes().
  if (own_users) reset = MOUNT_ATTR_NOSYMFOLLOW;
  const bool has_mode = (mount.attributes_clear & MOUNT_ATTR__ATIME) != 0;
  const bool has_nodiratime = (mount.attributes_set & MOUNT_ATTR_NODIRATIME) != 0;
  if (!own_users && has_mode) reset |= MOUNT_ATTR_NODIRATIME;
  if (!own_users && has_nodiratime && !has_mode) reset |= MOUNT_ATTR__ATIME;
  mount.attributes_reset = reset & ~(mount.attributes_set & ~std::uint64_t{MOUNT_ATTR__ATIME});
}

void check_bind(const rootfs::Mount& mount, Json entry) {
  if (mount.source.empty()) entry.refuse("is a bind mount without a source");
  if (mount.copy_up) entry.refuse("has the option tmpcopyup, which is for tmpfs");
}

void check_filesystem(const rootfs::Mount& mount, const Options& options, Json entry) {
  if (mount.type.empty()) entry.refuse("must have a type");
  if (options.map_ids || !mount.id_maps.empty()) entry.refuse("maps ids, which only a bind mount can");
  if (mount.recursive_set != 0 || mount.recursive_clear != 0)
    entry.refuse("has a recursive option, which only a bind mount can have");
  if (mount.copy_up && mount.type != "tmpfs") entry.refuse("has the option tmpcopyup, which is for tmpfs");
}

// "/a//b/./c/.." -> "/a/b"
std::string normal(std::string_view path) {
  std::string result;
  while (!path.empty()) {
    std::string_view name = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(name.size() + 1, path.size()));
    if (name == "..") {
      result.resize(result.empty() ? 0 : result.rfind('/'));
    } else if (!name.empty() && name != ".") {
      result.append("/").append(name);
    }
  }
  return result.empty() ? "/" : result;
}

// "/a" covers "/a" and "/a/b".
bool covers(std::string_view directory, std::string_view path) {
  return directory == "/" ||
         (path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/'));
}

// As runc (utils.StripRoot): a destination that starts with the root file system's directory on the host
// means the same place inside.
void strip_root(std::string& destination, const Config& config) {
  if (config.rootfs.size() < 2 || !destination.starts_with(config.rootfs)) return;
  const std::string root = normal(config.rootfs);
  const std::string place = normal(destination);
  if (root == "/" || !covers(root, place)) return;
  destination = place.size() == root.size() ? "/" : place.substr(root.size());
}

rootfs::Mount read_mount(Json entry, const Config& config) {
  rootfs::Mount mount;
  Options options;
  entry.required("destination").read(mount.destination);
  // Since 1.0.2 relative ones are deprecated, and mean the same as absolute ones.
  if (!mount.destination.starts_with('/')) mount.destination.insert(0, "/");
  while (mount.destination.size() > 1 && mount.destination.ends_with('/')) mount.destination.pop_back();
  strip_root(mount.destination, config);
  entry["type"].read(mount.type);
  entry["source"].read(mount.source);
  entry["options"].each([&](Json word) {
    std::string option;
    word.read(option);
    read_option(option, entry, mount, options);
  });
  read_maps(entry["uidMappings"], mount.id_maps.uids);
  read_maps(entry["gidMappings"], mount.id_maps.gids);
  if (mount.id_maps.uids.empty() != mount.id_maps.gids.empty())
    entry.refuse("must map both user and group ids");
  options.bind = options.bind || mount.type == "bind";
  if (!options.bind) {
    check_filesystem(mount, options, entry);
    // As runc: a tmpfs over /run is not for everybody to write to.
    mount.keep_mode = mount.type == "tmpfs" && ("," + mount.options).find(",mode=") == std::string::npos;
    return mount;
  }
  mount.type = "bind";
  mount.options.clear();
  check_bind(mount, entry);
  if (options.attributes)
    reset_unnamed(mount, config.plan.namespaces[static_cast<std::size_t>(launch::Namespace::kUser)].mode !=
                             launch::NamespaceMode::kHost);
  if (!mount.source.starts_with('/')) mount.source = config.bundle + "/" + mount.source;
  if (!options.map_ids) mount.map_ids_below = false;
  mount.map_ids = options.map_ids || !mount.id_maps.empty();
  if (mount.map_ids && mount.id_maps.empty()) {
    // config.md: without mappings of its own, those of the container's user namespace.
    mount.id_maps = {config.plan.uid_map, config.plan.gid_map};
    // Of a user namespace that is joined the kernel knows them.
    const bool joins = config.plan.namespaces[static_cast<std::size_t>(launch::Namespace::kUser)].mode ==
                       launch::NamespaceMode::kJoin;
    if (joins) mount.id_maps = {};
    if (mount.id_maps.empty() && !joins) entry.refuse("maps ids, but there are no mappings");
  }
  return mount;
}

// As runc: a source below the root file system's directory is taken when its turn comes, with what the mounts
// before it have put there.  It is looked for inside the container's root, so that no link leads out of that.
void find_inside(rootfs::Mount& mount, const Config& config) {
  if (mount.type != "bind") return;
  const std::string root = normal(config.rootfs);
  const std::string source = normal(mount.source);
  if (root == "/" || !covers(root, source)) return;
  std::string inside = source.size() == root.size() ? "/" : source.substr(root.size());
  const bool made = std::ranges::any_of(config.plan.mounts, [&](const rootfs::Mount& earlier) {
    const std::string place = normal(earlier.destination);
    return covers(place, inside) || (mount.recursive && covers(inside, place));
  });
  if (!made) return;
  mount.inside = std::move(inside);
}

}  // namespace

void read_mounts(Json mounts, Config& config) {
  mounts.each([&](Json entry) {
    rootfs::Mount mount = read_mount(entry, config);
    find_inside(mount, config);
    if (mount.type == "cgroup" || mount.type == "cgroup2") {
      // A marker in its place in the order; add_cgroup_mounts() puts there what the machine has.
      mount.type = "cgroup";
    }
    config.plan.mounts.push_back(std::move(mount));
  });
}

namespace {

// The kernel's MNT_LOCK_* of a mount that a user namespace got from the host.
bool takes_away(const rootfs::Mount& mount, std::uint64_t has) {
  constexpr std::uint64_t kLockable =
      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  static_assert(kLockable == (ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC));
  if ((has & mount.attributes_clear & kLockable) != 0) return true;
  if (((mount.attributes_clear | mount.attributes_set) & (MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME)) == 0)
    return false;
  const std::uint64_t mode = (has & ST_NOATIME) != 0    ? MOUNT_ATTR_NOATIME
                             : (has & ST_RELATIME) != 0 ? MOUNT_ATTR_RELATIME
                                                        : MOUNT_ATTR_STRICTATIME;
  return mode != (mount.attributes_set & MOUNT_ATTR__ATIME) ||
         ((has & ST_NODIRATIME) != 0) != ((mount.attributes_set & MOUNT_ATTR_NODIRATIME) != 0);
}

}  // namespace

Result<void> check_locked_attributes(const launch::LaunchPlan& plan) {
  if (plan.namespaces[static_cast<std::size_t>(launch::Namespace::kUser)].mode ==
      launch::NamespaceMode::kHost)
    return {};
  for (const rootfs::Mount& mount : plan.mounts) {
    struct statvfs status{};
    if (mount.type != "bind" || !mount.inside.empty() || (mount.attributes_set | mount.attributes_clear) == 0)
      continue;
    if (::statvfs(mount.source.c_str(), &status) == 0 && takes_away(mount, status.f_flag))
      return failed_with(EPERM, Operation::kUseContainer,
                         "the options of the mount at " + mount.destination + " take away what " +
                             mount.source +
                             " has (ro, nosuid, nodev, noexec or its access time), "
                             "which a container with a user namespace may not");
  }
  return {};
}

std::vector<std::string> mount_options() {
  std::vector<std::string> names = {"bind", "rbind", "idmap", "ridmap", "tmpcopyup"};
  for (const Attribute& attribute : kAttributes) {
    names.emplace_back(attribute.name);
    names.push_back("r" + std::string(attribute.name));
  }
  for (const Propagation& propagation : kPropagations) names.emplace_back(propagation.name);
  names.insert(names.end(), kSuperblockFlags.begin(), kSuperblockFlags.end());
  names.insert(names.end(), kIgnored.begin(), kIgnored.end());
  std::ranges::sort(names);
  return names;
}

}  // namespace fastdock::oci
