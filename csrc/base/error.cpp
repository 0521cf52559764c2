#include "base/error.h"

#include <array>
#include <cerrno>
#include <cstring>

namespace fastdock {
namespace {

constexpr auto kOperationTexts = std::to_array<std::string_view>({
    "do nothing",
    "create a pipe",
    "allocate a stack",
    "clone the container's process",
    "write the user id map",
    "write the group id map",
    "open the namespace",
    "reserve user ids",
    "run fastdock's helper",
    "prepare the container's directory",
    "remove the container's directory",
    "send a descriptor",
    "receive a descriptor",
    "wait for the process",
    "signal the process",
    "set the parent death signal",
    "join the cgroup",
    "join the namespace",
    "create the namespace",
    "set the mount propagation of",
    "set the host name",
    "set the domain name",
    "bring up the loopback device",
    "set the clock offset",
    "write the sysctl",
    "change the root directory to",
    "detach the old root directory",
    "start a new session",
    "open a terminal",
    "set the terminal's size",
    "set the controlling terminal",
    "redirect standard input, output or error",
    "set the resource limit",
    "set the OOM score adjustment",
    "set the scheduler",
    "set the I/O priority",
    "set the CPU affinity",
    "set the memory policy",
    "set the personality",
    "set the security label",
    "create a session keyring",
    "drop capabilities from the bounding set",
    "set the capabilities",
    "set the ambient capabilities",
    "set no_new_privs",
    "load the seccomp filter",
    "set the additional groups",
    "set the group id",
    "set the user id",
    "find the user",
    "find the group",
    "change the working directory to",
    "close inherited descriptors",
    "run the hook",
    "wait for the start of the container",
    "execute",
    "open the layer",
    "map the ids of the layer",
    "create an overlay file system",
    "configure the overlay file system",
    "mount the overlay file system",
    "open the root file system",
    "create a file system of type",
    "configure the file system",
    "mount the file system",
    "open the source of the bind mount",
    "map the ids of the bind mount",
    "create the mount point",
    "open the mount point",
    "attach the mount at",
    "set the mount attributes of",
    "create the device",
    "create the link",
    "mask",
    "make read-only",
    "check that this is procfs:",
    "open",
    "read",
    "write",
    "create",
    "create the directory",
    "rename",
    "link",
    "remove",
    "list",
    "inspect",
    "lock",
    "set the owner of",
    "set the mode of",
    "set the times of",
    "set the extended attribute of",
    "sync",
    "find the cgroup hierarchies",
    "create the cgroup",
    "set the cgroup limit",
    "read the cgroup file",
    "freeze the cgroup",
    "kill the processes of the cgroup",
    "remove the cgroup",
    "load the device program for",
    "compile the seccomp profile",
    "read the archive",
    "decompress",
    "compress",
    "compute the digest of",
    "unpack",
    "open a netlink socket",
    "create the network device",
    "configure the network device",
    "remove the network device",
    "add the address",
    "add the route",
    "configure the firewall",
    "open the container's resolver address",
    "talk to the resolver at",
    "open the relay of published ports",
    "parse",
    "use the container:",
    "find the Python interpreter of the fastdock in",
    "run without root:",
    "talk to the message bus:",
});
static_assert(kOperationTexts.size() == static_cast<std::size_t>(Operation::kCount_));

constexpr auto kHintTexts = std::to_array<std::string_view>({
    "",
    "set FASTDOCK_PYTHON to the interpreter that fastdock is installed for",
    "no such program in the container; check the name, the image and PATH",
    "the file is there but may not be executed: chmod +x it, or check that its directories can be searched",
    "this is a directory, not a program",
    "the program exists, but the interpreter in its first line (#!) or its dynamic loader does not",
    "not a program for this machine: check the architecture, or give the script a #! line",
    "arguments and environment together are larger than the kernel takes (ARG_MAX)",
    "the host path does not exist; create it first",
    "the image's /etc/passwd has no such user; use a number, or a name that is there",
    "the image's /etc/group has no such group; use a number, or a name that is there",
    "the working directory does not exist in the container",
    "this machine's kernel offers no such cgroup controller ('fastdock info' lists them)",
    "the kernel refused this value",
    "more than this is in use now; stop something in the container first",
    "creating namespaces needs root or user namespaces; see 'fastdock info'",
    "the kernel's limit of namespaces is reached: see /proc/sys/user/max_*_namespaces",
    "user namespaces are restricted here, or this process is in a chroot; see 'fastdock info' for the "
    "setting",
    "this needs root",
    "the file system is full",
    "all id ranges for containers are in use",
    "a layer directory is missing or unreadable; 'fastdock system check --repair' finds and repairs it",
    "overlayfs stacks at most 500 layers",
    "this kernel is too old for it; 'fastdock info' says what is missing",
    "the path leads out of the container's root",
    "the directory does not exist in the image and cannot be created",
    "this file system cannot hold an overlay's upper directory (extended attributes are needed)",
    "above the hard limit of this process, and CAP_SYS_RESOURCE is missing",
    "this process does not hold the capability itself, so it cannot pass it on",
    "the other side of the terminal is closed",
    "the memory limit is too small to start a process",
    "the archive is damaged or not of this format",
    "the archive goes beyond a safety limit",
    "the content does not have the digest that was promised: refused",
    "this kernel has no seccomp filters",
    "this kernel offers no nftables; see 'fastdock info'",
    "something else listens there; choose another port",
    "the address is in use; choose another",
    "the process has already ended",
    "memory_swap is memory and swap together: it cannot be less than memory; set both at once",
    "this cgroup holds processes itself, so cgroup v2 allows no limits below it; start fastdock from a "
    "cgroup of "
    "its own (systemd-run --scope -p Delegate=yes)",
    "processes in it have not ended: see its cgroup.procs; they may be frozen, or wait in the kernel",
    "this machine's cgroup version has no such limit",
    "the archive names a file outside of the directory that it is unpacked into: refused",
    "what should be a directory is a file, or a link that leads in circles: refused",
    "the archive has a kind of entry that is no file, link, device or directory",
    "no layer has the file that this hard link names",
    "the directory must be empty",
    "the file changed while it was being read; stop or pause what writes to it",
    "the overlay was mounted with redirect_dir or metacopy, so its upper directory alone is not all that "
    "changed",
    "a bridge takes 1,023 containers: put the others on another network",
    "without root there are only the ids of /etc/subuid and /etc/subgid; 'fastdock info' says how to get "
    "more",
    "a process that has threads cannot change its user namespace: call fastdock.rootless.enter() before any "
    "thread starts",
    "without root this needs a delegated cgroup (cgroup v2: systemd-run --user --scope -p Delegate=yes)",
    "proc and sysfs must be mounted on an ordinary directory, and the image has a symbolic link or a file "
    "there",
    "this kernel may not know the mode (linux.memoryPolicy), or the nodes are not there, not in the cpuset, "
    "or not "
    "what the mode takes",
});
static_assert(kHintTexts.size() == static_cast<std::size_t>(Hint::kCount_));

}  // namespace

std::string_view text(Operation operation) {
  auto index = static_cast<std::size_t>(operation);
  return index < kOperationTexts.size() ? kOperationTexts[index] : "do something unknown";
}

std::string_view text(Hint hint) {
  auto index = static_cast<std::size_t>(hint);
  return index < kHintTexts.size() ? kHintTexts[index] : "";
}

std::string describe(const Error& error) {
  std::string message = "cannot ";
  message += text(error.operation);
  if (!error.path.empty()) message.append(" ").append(error.path);
  if (error.number != 0) message.append(": ").append(std::strerror(error.number));
  if (error.hint != Hint::kNone) message.append(" (").append(text(error.hint)).append(")");
  return message;
}

std::unexpected<Error> failed(Operation operation, std::string_view path, Hint hint) {
  return failed_with(errno, operation, path, hint);
}

std::unexpected<Error> failed_with(int number, Operation operation, std::string_view path, Hint hint) {
  return std::unexpected(Error{number, operation, std::string(path), hint});
}

}  // namespace fastdock
