// pasta or slirp4netns: what joins the network namespace to the host's network without privilege.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/error.h"

namespace fastdock::rootless {

class WayOut {
 public:
  // `net`: where the namespace is mounted; `view`: /proc/PID/task/TID/net of a thread in it; `run`: where the
  // program's words go, and a resolv.conf of our own.
  WayOut(std::string net, std::string view, const std::string& run)
      : net_(std::move(net)),
        view_(std::move(view)),
        log_(run + "/rootless.log"),
        resolv_conf_(run + "/resolv.conf") {}

  // Starts it unless it runs.  Afterwards program() says which, or reason() why none.
  void ensure();
  // A child of ours has ended: if it was this one, it is started again.
  void ended(pid_t pid);
  void stop();

  [[nodiscard]] const std::string& program() const { return program_; }
  [[nodiscard]] const std::string& reason() const { return reason_; }

 private:
  bool start(const std::string& name, const std::string& path);
  void forget_dns() const;
  void use_dns(const std::string& server) const;
  [[nodiscard]] bool leads_out() const;
  [[nodiscard]] std::string last_words() const;

  std::string net_, view_, log_, resolv_conf_;
  std::string program_, reason_;
  pid_t pid_ = -1;
  int lost_ = 0;  // ends that nobody has asked about since
};

}  // namespace fastdock::rootless
