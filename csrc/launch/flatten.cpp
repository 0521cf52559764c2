#include "launch/flatten.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <set>

#include "base/path.h"
#include "base/sealed.h"
#include "base/user_namespace.h"
#include "launch/capabilities.h"
#include "launch/init/init_program.h"
#include "rootfs/bare_mounts.h"

namespace fastdock::launch {
namespace {

constexpr std::uint64_t kRecursive = 16384;    // MS_REC
constexpr std::uint64_t kPrivate = 1UL << 18;  // MS_PRIVATE
constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

constexpr std::array<std::uint64_t, static_cast<std::size_t>(Namespace::kCount_)> kFlags = {
    CLONE_NEWUSER, CLONE_NEWNS,     CLONE_NEWUTS,  CLONE_NEWIPC,
    CLONE_NEWNET,  CLONE_NEWCGROUP, CLONE_NEWTIME, CLONE_NEWPID};

std::vector<const char*> pointers(const std::vector<std::string>& texts) {
  std::vector<const char*> result;
  result.reserve(texts.size() + 3);
  for (const std::string& text : texts) result.push_back(text.c_str());
  return result;
}

std::vector<unsigned long> bit_mask(const std::vector<int>& numbers) {
  constexpr int kBits = sizeof(unsigned long) * CHAR_BIT;
  std::vector<unsigned long> mask;
  for (int number : numbers) {
    auto word = static_cast<std::size_t>(number / kBits);
    if (mask.size() <= word) mask.resize(word + 1);
    mask[word] |= 1UL << (number % kBits);
  }
  return mask;
}

// The tiny init, for execveat(2); open for the life of the process.
Result<int> init_descriptor() {
  static const Result<Fd> memory = sealed_memory("fastdock-init", init_program());
  if (!memory) return std::unexpected(memory.error());
  return memory->get();
}

// getrlimit(2), in the order of their numbers.
const char* limit_name(int resource) {
  constexpr auto kNames = std::to_array<const char*>({"cpu", "fsize", "data", "stack", "core", "rss", "nproc",
                                                      "nofile", "memlock", "as", "locks", "sigpending",
                                                      "msgqueue", "nice", "rtprio", "rttime"});
  auto index = static_cast<std::size_t>(resource);
  return index < kNames.size() ? kNames[index] : "";
}

bool has_nul(const std::vector<std::string>& texts) {
  return std::ranges::any_of(texts,
                             [](const std::string& text) { return text.find('\0') != std::string::npos; });
}

}  // namespace

Result<std::unique_ptr<Flattened>> Flattened::make(const LaunchPlan& plan, int sync, bool greeted) {
  FASTDOCK_TRY(auto flat, begin(plan, greeted));
  flat->finish(sync);
  return flat;
}

Result<std::unique_ptr<Flattened>> Flattened::begin(const LaunchPlan& plan, bool greeted) {
  std::unique_ptr<Flattened> flat(new Flattened(plan));
  FASTDOCK_CHECK(flat->set_program());
  FASTDOCK_CHECK(flat->add_namespaces());
  if (greeted && (flat->clone_flags_ & CLONE_NEWUSER) != 0) flat->prepared_.may_map_late();
  FASTDOCK_CHECK(flat->add_root());
  FASTDOCK_CHECK(flat->add_stdio());
  flat->add_names_and_limits();
  flat->add_credentials();
  return flat;
}

void Flattened::finish(int sync) {
  child_.sync = sync;
  child_.cgroup_tasks = plan_.cgroup_tasks;
  auto late = plan_.late_sources.begin();
  for (std::size_t index = 0; index < mounts_.size(); ++index)
    if (plan_.mounts[index].late_source) mounts_[index].tree = *late++;
  add_unneeded_descriptors();
}

Result<void> Flattened::map_ids(pid_t child) {
  if (!prepared_.has_late()) return {};
  const std::string path = "/proc/" + std::to_string(child) + "/ns/user";
  auto opened = open_file(path, O_RDONLY);
  if (!opened) return failed_with(opened.error().number, Operation::kOpenNamespace, path);
  return prepared_.map_ids_late(opened->get());
}

Result<void> Flattened::add_namespaces() {
  for (std::size_t index = 0; index < kFlags.size(); ++index) {
    const NamespacePlan& wanted = plan_.namespaces[index];
    auto kind = static_cast<Namespace>(index);
    if (wanted.mode == NamespaceMode::kHost) continue;
    if (wanted.mode == NamespaceMode::kNew) {
      // The child makes its cgroup namespace when it is in its cgroup, which becomes that namespace's root.
      (kind == Namespace::kCgroup ? child_.unshare_flags : clone_flags_) |= kFlags[index];
      continue;
    }
    auto opened = open_file(wanted.path, O_RDONLY);
    if (!opened) return failed_with(opened.error().number, Operation::kOpenNamespace, wanted.path);
    int fd = descriptors_.emplace_back(std::move(*opened)).get();
    bool by_parent = kind == Namespace::kPid || kind == Namespace::kTime;
    (by_parent ? joined_by_parent_ : joined_)
        .push_back({fd, static_cast<int>(kFlags[index]), wanted.path.c_str()});
  }
  if (!joined_.empty() && joined_.front().type == CLONE_NEWUSER)
    prepared_.map_ids_by(joined_.front().descriptor);
  if (!joined_.empty() && joined_.front().type == CLONE_NEWUSER && clone_flags_ != 0) {
    owner_of_namespaces_ = joined_.front().descriptor;
    joined_.erase(joined_.begin());
  }
  child_.joined = joined_;
  child_.new_user_namespace = (clone_flags_ & CLONE_NEWUSER) != 0;
  child_.joins_user_namespace = plan_.namespaces[0].mode == NamespaceMode::kJoin;
  child_.wait_for_parent = true;
  return {};
}

Result<void> Flattened::add_root() {
  if (!plan_.root && !plan_.other_root.empty()) {
    FASTDOCK_TRY(Fd other, open_file(plan_.other_root, O_PATH | O_DIRECTORY));
    child_.other_root = descriptors_.emplace_back(std::move(other)).get();
  }
  if (!plan_.root) return {};
  const rootfs::IdMaps maps{plan_.uid_map, plan_.gid_map};
  child_.has_root = true;
  child_.root_change = plan_.root_change;
  if (plan_.root_change == rootfs::RootChange::kMove) {
    FASTDOCK_TRY(bare_mounts_, rootfs::bare_mounts(plan_.attach_point));
    bare_ = pointers(bare_mounts_);
    child_.bare_mounts = bare_;
  }
  child_.final_propagation = plan_.root_propagation;
  rootfs::ChildRoot& root = child_.root;
  root.attach_point = plan_.attach_point.c_str();
  root.overlay_takes_descriptors = rootfs::overlay_takes_descriptors();
  if (plan_.root_change != rootfs::RootChange::kChroot) root.old_root_propagation = kRecursive | kPrivate;
  FASTDOCK_TRY(root.root, prepared_.add(*plan_.root, maps, true));
  std::set<const void*> made;  // devices and links
  for (const Mount& mount : plan_.mounts) {
    FASTDOCK_TRY(auto child, add_mount(mount, maps, made));
    mounts_.push_back(child);
  }
  for (const Device& device : plan_.devices) {
    if (made.contains(&device)) continue;
    devices_.push_back({device.path.c_str(), device.host_path.empty() ? nullptr : device.host_path.c_str(),
                        device.mode | rootfs::type_of(device), makedev(device.major, device.minor),
                        device.uid, device.gid});
  }
  for (const Link& link : plan_.links)
    if (!made.contains(&link)) links_.push_back({link.target.c_str(), link.path.c_str()});
  masked_ = pointers(plan_.masked_paths);
  read_only_ = pointers(plan_.read_only_paths);
  root.mounts = mounts_;
  root.devices = devices_;
  root.links = links_;
  root.masked_paths = masked_;
  root.read_only_paths = read_only_;
  return {};
}

Result<rootfs::ChildMount> Flattened::add_mount(const Mount& mount, const rootfs::IdMaps& maps,
                                                std::set<const void*>& made) {
  // The root of a joined user namespace is somebody whom we do not know, and it must own what is made here.
  const bool joins =
      plan_.namespaces[static_cast<std::size_t>(Namespace::kUser)].mode == NamespaceMode::kJoin;
  if (joins || !rootfs::can_be_filled(mount, maps)) return prepared_.add(mount, maps);
  auto contents = rootfs::contents_of(mount, plan_.devices, plan_.links, plan_.mounts);
  if (contents.empty()) return prepared_.add(mount, maps);
  auto filled = prepared_.add_filled(mount, contents, maps);
  // In a container ourselves: the child makes the mount, and binds our devices.
  if (!filled && filled.error().number == EPERM) return prepared_.add(mount, maps);
  made.insert(contents.devices.begin(), contents.devices.end());
  made.insert(contents.links.begin(), contents.links.end());
  return filled;
}

Result<void> Flattened::add_stdio() {
  for (int target = 0; target < 3; ++target) {
    int source = plan_.stdio[static_cast<std::size_t>(target)];
    // A source below 3 would be overwritten by an earlier dup3, or not closed at execve.
    if (source < 3 && source != target && !plan_.terminal) {
      Fd copy(::fcntl(source, F_DUPFD_CLOEXEC, 3));
      if (!copy) return failed(Operation::kRedirectStdio);
      source = descriptors_.emplace_back(std::move(copy)).get();
    }
    child_.stdio[target] = source;
    give_pipe(source);
  }
  child_.preserve = plan_.preserve_descriptors;
  child_.new_session = plan_.new_session;
  child_.parent_death_signal = plan_.parent_death_signal;
  if (plan_.terminal) {
    child_.terminal = true;
    child_.console = plan_.root.has_value();
    child_.plain_newlines = plan_.terminal->plain_newlines;
    child_.rows = plan_.terminal->rows;
    child_.columns = plan_.terminal->columns;
  }
  return {};
}

// Programs open /dev/stdout again, which is a new open of the pipe, by the rights of its owner.  Only pipes:
// a terminal or a file keeps the owner that it has on the host.
void Flattened::give_pipe(int descriptor) const {
  struct stat status{};
  if (!child_.new_user_namespace || ::fstat(descriptor, &status) != 0 || !S_ISFIFO(status.st_mode)) return;
  if (plan_.uid_map.empty() || plan_.gid_map.empty()) return;
  // The group too: the child passes the pipe on to its user, for which both must be mapped
  // (capable_wrt_inode_uidgid).
  if (::fchown(descriptor, plan_.uid_map.front().outside, plan_.gid_map.front().outside) != 0) {
    // A pipe of a file system that is read-only or another user's: then only the descriptor itself works.
  }
}

void Flattened::add_names_and_limits() {
  for (const Sysctl& sysctl : plan_.sysctls) {
    std::string path = "sys/" + sysctl.name;
    // sysctl.d(5): the first separator decides; with dots, slashes stand for dots inside a component.
    if (path.find('/', 4) == std::string::npos || path.find('.') < path.find('/', 4))
      for (std::size_t i = 4; i < path.size(); ++i)
        path[i] = path[i] == '.' ? '/' : path[i] == '/' ? '.' : path[i];
    sysctls_.push_back({text(std::move(path)), sysctl.value.c_str()});
  }
  child_.sysctls = sysctls_;
  if (!plan_.hostname.empty()) child_.hostname = plan_.hostname.c_str();
  if (!plan_.domainname.empty()) child_.domainname = plan_.domainname.c_str();
  child_.raise_loopback = plan_.raise_loopback;
  for (const ResourceLimit& limit : plan_.limits)
    limits_.push_back({limit.resource, limit.soft, limit.hard, limit_name(limit.resource)});
  child_.limits = limits_;
  if (plan_.scheduler) {
    const Scheduler& from = *plan_.scheduler;
    scheduler_ = {sizeof scheduler_, from.policy,  from.flags,    from.nice,
                  from.priority,     from.runtime, from.deadline, from.period};
    child_.scheduler = &scheduler_;
  }
  if (plan_.io_priority) child_.io_priority = *plan_.io_priority;
  initial_cpus_ = bit_mask(plan_.initial_cpus);
  final_cpus_ = bit_mask(plan_.final_cpus);
  child_.initial_cpus = initial_cpus_;
  child_.final_cpus = final_cpus_;
  if (plan_.memory_policy) {
    child_.memory_policy = plan_.memory_policy->mode;
    memory_nodes_ = bit_mask(plan_.memory_policy->nodes);
    child_.memory_nodes = memory_nodes_;
  }
  if (plan_.personality) child_.personality = static_cast<long>(*plan_.personality);
  child_.new_keyring = plan_.new_keyring;
}

void Flattened::add_credentials() {
  ChildUser& user = child_.user;
  if (!plan_.user.name.empty()) user.name = plan_.user.name.c_str();
  user.uid = plan_.user.uid;
  user.gid = plan_.user.gid;
  user.groups = plan_.user.groups;
  group_names_ = pointers(plan_.user.group_names);
  user.group_names = group_names_;
  if (plan_.user.umask) user.umask = static_cast<int>(*plan_.user.umask);
  if (!plan_.apparmor_profile.empty()) child_.apparmor_profile = text("exec " + plan_.apparmor_profile);
  if (!plan_.selinux_label.empty()) child_.selinux_label = plan_.selinux_label.c_str();

  // Without a user namespace of its own a container cannot have what this process has not: a machine
  // without CAP_SYS_RESOURCE must not make --privileged fail.
  const Capabilities& wanted = plan_.capabilities;
  bool own_users = child_.new_user_namespace || plan_.namespaces[0].mode == NamespaceMode::kJoin;
  std::uint64_t possible = own_users ? kAllCapabilities : bounding_set();
  child_.capabilities = {wanted.bounding & possible,  wanted.effective & possible,
                         wanted.permitted & possible, wanted.inheritable & possible,
                         wanted.ambient & possible,   static_cast<unsigned>(last_capability())};
  child_.keeps_groups = !own_users && !may_set_groups();
  child_.no_new_privileges = plan_.no_new_privileges;
  if (!plan_.seccomp.empty()) {
    filter_ = {static_cast<unsigned short>(plan_.seccomp.size()),
               const_cast<sock_filter*>(plan_.seccomp.data())};
    child_.seccomp = &filter_;
    child_.seccomp_flags = plan_.seccomp_flags;
  }
}

Result<void> Flattened::set_program() {
  if (plan_.argv.empty()) return failed_with(EINVAL, Operation::kExecute, "an empty command");
  if (has_nul(plan_.argv) || has_nul(plan_.environment))
    return failed_with(EINVAL, Operation::kExecute, "a command or environment with a NUL byte");
  argv_ = pointers(plan_.argv);
  child_.program = plan_.program.empty() ? plan_.argv.front().c_str() : plan_.program.c_str();
  if (plan_.init) {
    FASTDOCK_TRY(child_.init, init_descriptor());
    argv_.insert(argv_.begin(), "fastdock-init");
  }
  argv_.push_back(nullptr);
  child_.argv = argv_.data();
  environment_ = pointers(plan_.environment);
  child_.search_path = kDefaultPath;
  bool has_home = false;
  for (const char* variable : environment_) {
    std::string_view view(variable);
    if (view.starts_with("PATH=")) child_.search_path = variable + 5;
    has_home = has_home || view.starts_with("HOME=");
  }
  environment_.push_back(nullptr);
  environment_.push_back(nullptr);
  child_.environment = environment_.data();
  if (!has_home) child_.home_slot = &environment_[environment_.size() - 2];
  child_.working_directory = plan_.working_directory.empty() ? "/" : plan_.working_directory.c_str();
  child_.create_working_directory = plan_.create_working_directory;
  if (!plan_.start_fifo.empty()) {
    // fifo(7): opened for both, so that this does not wait and a read later does.
    FASTDOCK_TRY(Fd fifo, open_file(plan_.start_fifo, O_RDWR | O_NOFOLLOW));
    child_.start_fifo = descriptors_.emplace_back(std::move(fifo)).get();
  }
  return {};
}

void Flattened::add_unneeded_descriptors() {
  std::vector<int> needed = plan_.cgroup_tasks;
  for (int source : child_.stdio) needed.push_back(source);
  for (int i = 0; i < plan_.preserve_descriptors; ++i) needed.push_back(3 + i);
  for (const JoinedNamespace& joined : joined_) needed.push_back(joined.descriptor);
  auto add = [&](const rootfs::ChildMount& mount) {
    needed.push_back(mount.tree);
    needed.insert(needed.end(), mount.layers.begin(), mount.layers.end());
  };
  if (child_.has_root) add(child_.root.root);
  for (const rootfs::ChildMount& mount : mounts_) add(mount);
  needed.insert(needed.end(), {0, 1, 2, child_.sync, child_.init, child_.start_fifo, child_.other_root});
  std::ranges::sort(needed);
  unsigned next = 0;
  for (int fd : needed) {
    if (fd < 0) continue;
    auto number = static_cast<unsigned>(fd);
    if (number > next) unneeded_.push_back({next, number - 1});
    next = std::max(next, number + 1);
  }
  unneeded_.push_back({next, ~0U});
  child_.unneeded = unneeded_;
}

}  // namespace fastdock::launch
