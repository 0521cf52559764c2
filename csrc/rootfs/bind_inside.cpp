#include "rootfs/bind_inside.h"

#include <linux/mount.h>

namespace fastdock::rootfs {
namespace {

using child::check;
using child::Descriptor;
using child::Failure;

}  // namespace

long change_mount(int tree, const MountChange& change) {
  mount_attr attributes{};
  attributes.attr_set = change.set;
  attributes.attr_clr = change.clear | change.reset;
  attributes.propagation = change.propagation;
  unsigned flags = AT_EMPTY_PATH | (change.recursive ? AT_RECURSIVE : 0U);
  long answer = raw_syscall(SYS_mount_setattr, tree, "", flags, &attributes, sizeof attributes);
  if (answer != -EPERM || change.reset == 0) return answer;
  attributes.attr_clr = change.clear;
  return raw_syscall(SYS_mount_setattr, tree, "", flags, &attributes, sizeof attributes);
}

int bind_inside(std::span<ChildMount> mounts, std::size_t number, int root, IdMapper mapper,
                Failure& failure) {
  ChildMount& mount = mounts[number];
  Descriptor source(child::open_in_root(root, mount.inside, O_PATH));
  if (!check(source.get(), failure, Operation::kOpenBindSource, mount.source, Hint::kBindSourceMissing))
    return -1;
  struct stat status{};
  if (!check(child::status_of(source.get(), status), failure, Operation::kInspectFile, mount.source))
    return -1;
  mount.onto_directory = S_ISDIR(status.st_mode);
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
  if (mount.recursive) flags |= AT_RECURSIVE;
  Descriptor tree(raw_syscall(SYS_open_tree, source.get(), "", flags));
  if (!check(tree.get(), failure, Operation::kOpenBindSource, mount.source)) return -1;
  if (mount.map_ids && !mapper.ask(mapper.who, number, tree.get())) return -1;
  for (const MountChange& change : mount.changes)
    if (!check(change_mount(tree.get(), change), failure, Operation::kSetMountAttributes, mount.source))
      return -1;
  return tree.release();
}

}  // namespace fastdock::rootfs
