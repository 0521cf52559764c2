// The terminal of a container, and the wait for its end in the foreground.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <termios.h>

#include <functional>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "launch/launch.h"

namespace fastdock::oci {

// Connects to a UNIX socket.  A path that is too long for sun_path is reached through its directory; "@name"
// is abstract (unix(7)).
Result<Fd> connect_to(const std::string& path, int type = SOCK_STREAM);

// Sends `data` and a descriptor.
Result<void> send_descriptor(int socket, int descriptor, std::string_view data);

// Hands a pidfd of the process to who listens at --pidfd-socket, if given.  `kind` is runc's word: standard
// for a container, setns for exec.
Result<void> send_pidfd(const std::string& socket_path, const launch::Process& process,
                        std::string_view kind);

// Hands the terminal to who listens at --console-socket.
Result<void> send_console(const std::string& socket_path, int terminal);

// A descriptor to be watched during the wait.
struct Beside {
  int descriptor = -1;
  std::function<bool()> readable;  // true: and further on
};

// The caller's signals, kept for forwarding from here on: made before the launch, so that none is lost.
class Foreground {
 public:
  Foreground();
  ~Foreground();
  Foreground(const Foreground&) = delete;
  Foreground& operator=(const Foreground&) = delete;
  // Forwards signals and, with a terminal, bytes and sizes, until the process ends.  Its exit code.
  Result<int> wait(launch::Process& process, const Beside& beside = {});

 private:
  void forward_signal(const launch::Process& process);
  void copy_size(int terminal) const;
  void begin_raw();
  void end_raw();

  Fd signals_;
  std::optional<termios> saved_;  // of the caller's terminal, while it is raw
};

}  // namespace fastdock::oci
