// What the small processes of an engine root have in common: fastdock-dns and fastdock-relay.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock::net {

inline constexpr int kBacklog = 128;

// The lock that is held while one lives, by it or its copy.  Empty: another one is running.
Result<Fd> lock_daemon(const std::string& socket_path);
// The control socket (SOCK_SEQPACKET), for who holds the lock.
Result<Fd> listen_on(const std::string& path);
// The parent exits, so that the engine that started it goes on; the child belongs to nobody's terminal or
// session.
Result<void> go_to_background(const char* name);
// A copy of this process, for one that goes on when this ends.  Its pidfd; in the copy itself an empty one.
// The fork gives the pidfd at once: later, a copy that was killed already has no number any more.
Result<Fd> make_copy_of_self(const char* name);
// Returns when the process has ended.
void wait_for_end_of(const Fd& process);
// It deals with who is not trusted: nobody, with the one capability that asking or opening the firewall
// needs.
Result<void> drop_privileges();
// As many descriptors as may be had; how many that is.
std::size_t use_all_descriptors();

}  // namespace fastdock::net
