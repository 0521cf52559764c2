#include "oci/network_device.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/path.h"

namespace fastdock::oci {
namespace {

// One netlink request, grown attribute by attribute.
class Request {
 public:
  template <class Header>
  Request(std::uint16_t type, std::uint16_t flags, const Header& header) {
    bytes_.resize(NLMSG_LENGTH(0));
    auto* message = reinterpret_cast<nlmsghdr*>(bytes_.data());
    message->nlmsg_type = type;
    message->nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_REQUEST);
    append(&header, sizeof header);
  }
  void attribute(std::uint16_t type, const void* data, std::size_t size) {
    rtattr header{static_cast<unsigned short>(RTA_LENGTH(size)), type};
    append(&header, sizeof header);
    append(data, size);
  }
  std::string& finish() {
    reinterpret_cast<nlmsghdr*>(bytes_.data())->nlmsg_len = static_cast<std::uint32_t>(bytes_.size());
    return bytes_;
  }

 private:
  void append(const void* data, std::size_t size) {
    bytes_.append(static_cast<const char*>(data), size);
    bytes_.resize(NLMSG_ALIGN(bytes_.size()));
  }
  std::string bytes_;
};

Result<Fd> open_netlink() {
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket) return failed(Operation::kOpenNetlink);
  return socket;
}

// Sends, and calls `each` for every message of the answer but the last.
template <class Function>
Result<void> ask(int socket, Request& request, Operation operation, const std::string& name, Function each) {
  std::string& bytes = request.finish();
  if (::send(socket, bytes.data(), bytes.size(), 0) < 0) return failed(operation, name);
  alignas(nlmsghdr) char buffer[32768];
  while (true) {
    ssize_t count = ::recv(socket, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(operation, name);
    auto left = static_cast<unsigned>(count);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_type == NLMSG_DONE) return {};
      if (message->nlmsg_type == NLMSG_ERROR) {
        int number = -static_cast<const nlmsgerr*>(NLMSG_DATA(message))->error;
        if (number != 0) return failed_with(number, operation, name);
        return {};
      }
      each(message);
    }
  }
}

Result<void> ask(int socket, Request& request, Operation operation, const std::string& name) {
  return ask(socket, request, operation, name, [](const nlmsghdr*) {});
}

struct Address {
  ifaddrmsg header;
  std::string local;
};

// The permanent, global addresses of a device: those that the move takes away.
Result<std::vector<Address>> addresses_of(int socket, unsigned index, const std::string& name) {
  std::vector<Address> found;
  Request request(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
  FASTDOCK_CHECK(ask(socket, request, Operation::kAddAddress, name, [&](const nlmsghdr* message) {
    const auto* header = static_cast<const ifaddrmsg*>(NLMSG_DATA(message));
    if (header->ifa_index != index || header->ifa_scope != RT_SCOPE_UNIVERSE ||
        (header->ifa_flags & IFA_F_PERMANENT) == 0)
      return;
    Address address{*header, {}};
    auto left = static_cast<unsigned>(IFA_PAYLOAD(message));
    for (const rtattr* at = IFA_RTA(header); RTA_OK(at, left); at = RTA_NEXT(at, left))
      if (at->rta_type == IFA_LOCAL || (at->rta_type == IFA_ADDRESS && address.local.empty()))
        address.local.assign(static_cast<const char*>(RTA_DATA(at)), RTA_PAYLOAD(at));
    found.push_back(std::move(address));
  }));
  return found;
}

Result<void> move_device(int socket, const NetDevice& device, unsigned index, int network_namespace) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  header.ifi_change = IFF_UP;  // down: a device that is up cannot be renamed
  Request request(RTM_NEWLINK, NLM_F_ACK, header);
  request.attribute(IFLA_NET_NS_FD, &network_namespace, sizeof network_namespace);
  request.attribute(IFLA_IFNAME, device.name.c_str(), device.name.size() + 1);
  return ask(socket, request, Operation::kConfigureLinkDevice, device.host_name);
}

Result<void> set_up_inside(int socket, const NetDevice& device, const std::vector<Address>& addresses) {
  unsigned index = ::if_nametoindex(device.name.c_str());
  if (index == 0) return failed(Operation::kConfigureLinkDevice, device.name);
  for (const Address& address : addresses) {
    ifaddrmsg header = address.header;
    header.ifa_index = index;
    header.ifa_flags = IFA_F_PERMANENT;
    Request request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, header);
    request.attribute(IFA_LOCAL, address.local.data(), address.local.size());
    request.attribute(IFA_ADDRESS, address.local.data(), address.local.size());
    FASTDOCK_CHECK(ask(socket, request, Operation::kAddAddress, device.name));
  }
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  Request request(RTM_NEWLINK, NLM_F_ACK, header);
  return ask(socket, request, Operation::kConfigureLinkDevice, device.name);
}

// One that is joined is not yet the process's.
std::string network_namespace_of(const launch::LaunchPlan& plan, pid_t pid) {
  const launch::NamespacePlan& network = plan.namespaces[static_cast<std::size_t>(launch::Namespace::kNet)];
  if (network.mode == launch::NamespaceMode::kJoin) return network.path;
  return "/proc/" + std::to_string(pid) + "/ns/net";
}

}  // namespace

Result<void> move_network_devices(const Config& config, pid_t pid) {
  if (config.network_devices.empty()) return {};
  FASTDOCK_TRY(Fd theirs, open_file(network_namespace_of(config.plan, pid), O_RDONLY));
  FASTDOCK_TRY(Fd ours, open_file("/proc/self/ns/net", O_RDONLY));
  FASTDOCK_TRY(Fd socket, open_netlink());
  for (const NetDevice& device : config.network_devices) {
    unsigned index = ::if_nametoindex(device.host_name.c_str());
    if (index == 0) return failed(Operation::kConfigureLinkDevice, device.host_name);
    FASTDOCK_TRY(auto addresses, addresses_of(socket.get(), index, device.host_name));
    FASTDOCK_CHECK(move_device(socket.get(), device, index, theirs.get()));
    // This thread goes there and comes back.
    if (::setns(theirs.get(), CLONE_NEWNET) != 0) return failed(Operation::kJoinNamespace, device.name);
    auto inside = open_netlink();
    auto done = inside ? set_up_inside(inside->get(), device, addresses)
                       : Result<void>(std::unexpected(inside.error()));
    if (::setns(ours.get(), CLONE_NEWNET) != 0)
      return failed(Operation::kJoinNamespace, "the host's network");
    FASTDOCK_CHECK(done);
  }
  return {};
}

}  // namespace fastdock::oci
