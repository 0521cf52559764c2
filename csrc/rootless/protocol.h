// What is said on the holder's socket: one packet of text each way (SOCK_SEQPACKET), closed afterwards.
//
//   enter                               ok PID WAY REASON      with the descriptors user, mount [and net]
//   take SCOPE PROTOCOL HOST PORT       ok | failed ERRNO      binds a port of the host
//   set SCOPE\nPROTOCOL HOST PORT ADDRESS PORT\n...            ok | failed ERRNO LINE
//                                       all forwards of one engine root; the others of it end
//   known SCOPE                         ok | unknown           whether this holder was told of that root
//   stop                                ok                     it ends, and the containers' way out with it
//
// HOST is "*", an IPv4 or an IPv6 address; "*6" every IPv6 one.  WAY: pasta, slirp4netns or "-" (no network).
#pragma once

#include <cstddef>

namespace fastdock::rootless {

constexpr std::size_t kMaximumPacket = 192 * 1024;  // below the least of net.core.wmem_default that is in use
constexpr const char* kSocketName = "rootless.sock";
constexpr const char* kLockName = "rootless.lock";
constexpr const char* kNamespacesName = "rootless.namespaces";

}  // namespace fastdock::rootless
