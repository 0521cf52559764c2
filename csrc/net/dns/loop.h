// An epoll loop with timers, for one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace fastdock::net::dns {

class Loop {
 public:
  using Callback = std::function<void(std::uint32_t events)>;
  using Timer = std::uint64_t;

  // May be called again: then nothing is watched and no timer runs.
  Result<void> open();
  // Calls back whenever the descriptor is ready, until it is forgotten.  The caller owns the descriptor and
  // forgets it before closing it.
  Result<void> watch(int descriptor, std::uint32_t events, Callback callback);
  void forget(int descriptor);

  Timer after(std::chrono::milliseconds delay, std::function<void()> callback);
  void cancel(Timer timer) { timers_.erase(timer); }

  // Waits once for descriptors and timers, and calls back.  False when stop() was called.
  bool turn();
  void stop() { running_ = false; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Alarm {
    Clock::time_point when;
    std::function<void()> callback;
  };
  int wait_time() const;
  void ring();

  Fd epoll_;
  // Shared, because a callback may forget its own descriptor while it runs.
  std::unordered_map<int, std::shared_ptr<Callback>> watched_;
  std::map<Timer, Alarm> timers_;
  Timer next_timer_ = 1;
  bool running_ = true;
};

}  // namespace fastdock::net::dns
