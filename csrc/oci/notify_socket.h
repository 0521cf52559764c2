// NOTIFY_SOCKET (sd_notify(3)) for a container, as runc has it (runc, notify_socket.go): the container gets a
// socket of its own, and its READY=1 goes on to the service manager that this program was started by.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "launch/launch.h"
#include "oci/state.h"

namespace fastdock::oci {

// Whether there is somebody to tell: NOTIFY_SOCKET is set.
bool is_notify_wanted();

// Makes the directory for the socket, and lets the container have it at /run/notify.
Result<void> add_notify_directory(const Container& container, launch::LaunchPlan& plan);

// Whether the container was made with that directory.
bool has_notify_directory(const Container& container);

// The container's socket, and the way to the service manager.
class NotifySocket {
 public:
  // From here on the container can send.
  static Result<NotifySocket> open(const Container& container);

  [[nodiscard]] int descriptor() const { return socket_.get(); }
  // Reads one message.  Where it says READY=, the service manager is told so, and which process is the
  // service's main one from now on; then the answer is true.
  [[nodiscard]] Result<bool> forward(pid_t main_process) const;
  // Waits for the container to be ready, or to end.  The service manager has read it when this returns: it
  // may need to look at the sender, this process.
  [[nodiscard]] Result<void> wait_until_ready(int pidfd, pid_t main_process) const;

 private:
  NotifySocket(Fd socket, Fd manager) : socket_(std::move(socket)), manager_(std::move(manager)) {}
  [[nodiscard]] Result<void> send(const std::string& text) const;
  [[nodiscard]] Result<void> wait_until_read() const;

  Fd socket_, manager_;
};

}  // namespace fastdock::oci
