// Talking to the resolver (dns/): a container's sockets and record go there, over a UNIX socket.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock::net {

// 127.0.0.11:53 inside a container, as with Docker.  The sockets are made in the container's network
// namespace and handed to the resolver, which stays in the host's: so each question's asker is known without
// looking at addresses, no firewall rule or port of the host is involved, and an --internal container
// resolves names too.
struct ResolverSockets {
  Fd udp, tcp;
};
inline constexpr const char* kResolverAddress = "127.0.0.11";

// In the calling thread's network namespace, whose loopback device is up.
Result<ResolverSockets> open_resolver_sockets();

// Adds or replaces a container's record.  Without sockets (-1) the record of a known container is replaced.
// ENOENT, ECONNREFUSED: no resolver runs.
Result<void> register_container(const std::string& resolver, std::string_view record,
                                const ResolverSockets& sockets, int process);
Result<void> unregister_container(const std::string& resolver, std::string_view id);

// The ids that the resolver knows, a line each.
Result<std::string> list_registered(const std::string& resolver);

}  // namespace fastdock::net
