// Answers the requests of protocol.h, one at a time: each takes microseconds, but for the first way out.
#pragma once

#include <string>

#include "base/error.h"
#include "base/fd.h"
#include "rootless/holder/forwards.h"
#include "rootless/holder/way_out.h"

namespace fastdock::rootless {

struct Held {
  Fd user, mount;
};

class Server {
 public:
  // `control` listens in the directory `run`.
  Server(Fd control, std::string run, Held held, Relay& relay, WayOut& way_out)
      : control_(std::move(control)),
        run_(std::move(run)),
        held_(std::move(held)),
        relay_(relay),
        way_out_(way_out),
        forwards_(relay) {}

  // Until somebody says stop, or SIGTERM.
  Result<void> run();

 private:
  void serve_one();
  std::string answer(const std::string& request, std::vector<int>& descriptors);
  std::string enter(std::vector<int>& descriptors);
  std::string set(const std::string& request);
  void end();
  void reap();

  Fd control_;
  std::string run_;
  Held held_;
  Relay& relay_;
  WayOut& way_out_;
  Forwards forwards_;
  bool running_ = true;
};

}  // namespace fastdock::rootless
