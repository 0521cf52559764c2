// Giving a container its networks: devices, addresses, routes, firewall elements and names, in one call.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "net/address.h"
#include "net/firewall.h"

namespace fastdock::net {

enum class Driver : std::uint8_t { kBridge, kMacvlan };

// One network of one container.
struct Endpoint {
  Driver driver = Driver::kBridge;
  std::string device;     // the bridge, or macvlan's parent
  std::string host_name;  // the host's end of the veth pair (kBridge)
  std::string name;       // in the container: eth0
  Mac mac{};
  std::uint32_t mtu = 0;
  bool isolated = false;
  std::uint32_t macvlan_mode = 0;
  std::vector<Prefix> addresses;
  std::vector<IpAddress> gateways;  // of the default routes, at most one per family
};

// Everything that `attach` does.  A plain value, made once by the policy above; nothing in it is looked up
// again.
struct AttachPlan {
  Scope scope;
  std::vector<Endpoint> endpoints;
  FirewallRules firewall;
  std::string resolver_socket;  // the resolver's control socket; empty: the container does not use it
  std::string resolver_record;  // what the resolver is told about the container (dns/registry.h)
  // Of the container's devices, which are not there yet when its other sysctls are written: a path below
  // /proc/sys, and its value.
  std::vector<std::pair<std::string, std::string>> sysctls;
};

// The calling thread in another network namespace, for as long as this lives.  setns(2) with CLONE_NEWNET
// moves only the thread that calls it, and what is done inside is a dozen system calls.  A helper thread
// would keep the caller's out of it, but costs two context switches: 60 us on an idle machine, milliseconds
// on a busy one.
class NamespaceVisit {
 public:
  static Result<NamespaceVisit> begin(int namespace_fd);
  NamespaceVisit(NamespaceVisit&&) = default;
  NamespaceVisit& operator=(NamespaceVisit&&) = delete;
  ~NamespaceVisit();

 private:
  explicit NamespaceVisit(Fd home) : home_(std::move(home)) {}
  Fd home_;
};

// Order: the container's process exists (its network namespace does, too) and waits; attach; let it run.
//
// What has to be made inside the container's namespace (a netlink socket, the resolver's sockets) is made by
// the calling thread, which goes there and comes back (NamespaceVisit); the process's other threads
// stay. `process` is a descriptor (pidfd_open(2)) of the container's init process, so that the resolver
// forgets the container when it ends, whoever is still there to tell it; -1 if there is none. On failure
// nothing is left behind.
Result<void> attach(const AttachPlan& plan, int namespace_fd, int process = -1);

// The same for a process that has been cloned: launch's Observer::created.
Result<void> attach_process(const AttachPlan& plan, pid_t pid);

// Gives a running container to a resolver that was started after it (the one before it died).
Result<void> reconnect_resolver(const AttachPlan& plan, pid_t pid);

// Gives a running container default routes through a device that it has: another network led out, and has
// been left.
Result<void> add_default_routes(pid_t pid, const std::string& device, const std::vector<IpAddress>& gateways);

// Loopback up and the sysctls that every container gets; for a container without a network.
Result<void> attach_loopback(int namespace_fd);

// Undoes it.  Good at any time, also after the container has ended, and twice.
Result<void> detach(const AttachPlan& plan);

// The same for a container that has ended: its devices end with its network namespace, in the background,
// where removing them by hand takes 30 ms (unregister_netdevice() waits for RCU grace periods) and the RTNL
// lock, which all starts need.  Until they are gone they are mute: the firewall does not know them any more.
Result<void> release(const AttachPlan& plan);

}  // namespace fastdock::net
