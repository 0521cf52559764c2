// fastdock-dns: one per engine root.  Started by the engine when a container first needs it, ends by itself
// when none is left.
//
//   fastdock-dns SOCKET TABLE [IDLE_SECONDS]
//
// Returns to its caller when it listens, and goes on in the background.  If one is running, that is success.
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>

#include "net/daemon.h"
#include "net/dns/server.h"

namespace fastdock::net::dns {
namespace {

Result<void> serve(const std::string& path, const std::string& table, std::chrono::seconds idle) {
  FASTDOCK_TRY(auto lock, lock_daemon(path));
  if (!lock) return {};
  FASTDOCK_TRY(auto control, listen_on(path));
  uid_t owner = ::geteuid();
  FASTDOCK_CHECK(go_to_background("fastdock-dns"));
  // Again, so that SO_PEERCRED names this process to whoever connects, and not the parent.
  if (::listen(control.get(), kBacklog) != 0) return failed(Operation::kOpenResolver, path);
  use_all_descriptors();  // two sockets and a pidfd per container
  FASTDOCK_CHECK(drop_privileges());
  Scope scope;
  scope.table = table;
  return Server(scope, std::move(control), owner, idle).run();
}

}  // namespace
}  // namespace fastdock::net::dns

int main(int argc, char** argv) {
  using namespace fastdock;
  long idle = 30;
  if (argc == 4) {
    std::string_view text(argv[3]);
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), idle);
    if (error != std::errc{} || end != text.data() + text.size() || idle < 0) argc = 0;
  }
  if (argc < 3 || argc > 4) {
    std::fputs("usage: fastdock-dns SOCKET TABLE [IDLE_SECONDS]\n", stderr);
    return 2;
  }
  auto served = net::dns::serve(argv[1], argv[2], std::chrono::seconds(idle));
  if (!served) {
    std::fprintf(stderr, "fastdock-dns: %s\n", describe(served.error()).c_str());
    return 1;
  }
  return 0;
}
