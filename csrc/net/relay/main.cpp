// fastdock-relay: one per engine root.  Started by the engine when a container first publishes a port on
// IPv6, ends by itself when none does.
//
//   fastdock-relay SOCKET TABLE [IDLE_SECONDS]
//
// Returns to its caller when it listens, and goes on in the background.  If one is running, that is success.
#include <algorithm>
#include <charconv>
#include <cstdio>

#include "net/daemon.h"
#include "net/relay/relay.h"

namespace fastdock::net::relay {
namespace {

constexpr std::size_t kMostConnections = 4096;
constexpr std::size_t kDescriptorsEach = 6;  // two sockets, two pipes
constexpr std::size_t kOwnDescriptors = 64;

Result<void> serve(const std::string& path, const std::string& table, std::chrono::seconds idle) {
  FASTDOCK_TRY(auto lock, lock_daemon(path));
  if (!lock) return {};
  FASTDOCK_TRY(auto listeners, open_listeners());
  Scope scope;
  scope.table = table;
  FASTDOCK_CHECK(set_relay_port(scope, listeners.port));
  FASTDOCK_TRY(auto control, listen_on(path));
  FASTDOCK_CHECK(go_to_background("fastdock-relay"));
  std::size_t descriptors = std::max(use_all_descriptors(), 2 * kOwnDescriptors);
  FASTDOCK_CHECK(drop_privileges());
  std::size_t most = std::min(kMostConnections, (descriptors - kOwnDescriptors) / kDescriptorsEach);
  return Relay(scope, std::move(control), std::move(listeners), most, idle).run();
}

}  // namespace
}  // namespace fastdock::net::relay

int main(int argc, char** argv) {
  using namespace fastdock;
  long idle = 90;  // longer than a monitor waits between two lives of a container
  if (argc == 4) {
    std::string_view text(argv[3]);
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), idle);
    if (error != std::errc{} || end != text.data() + text.size() || idle < 1) argc = 0;
  }
  if (argc < 3 || argc > 4) {
    std::fputs("usage: fastdock-relay SOCKET TABLE [IDLE_SECONDS]\n", stderr);
    return 2;
  }
  auto served = net::relay::serve(argv[1], argv[2], std::chrono::seconds(idle));
  if (!served) {
    std::fprintf(stderr, "fastdock-relay: %s\n", describe(served.error()).c_str());
    return 1;
  }
  return 0;
}
