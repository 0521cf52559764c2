#include "net/dns/loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>

namespace fastdock::net::dns {

Result<void> Loop::open() {
  watched_.clear();
  timers_.clear();
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return failed(Operation::kOpenResolver, "epoll");
  return {};
}

Result<void> Loop::watch(int descriptor, std::uint32_t events, Callback callback) {
  epoll_event event{};
  event.events = events;
  event.data.fd = descriptor;
  bool known = watched_.contains(descriptor);
  if (::epoll_ctl(epoll_.get(), known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, descriptor, &event) != 0)
    return failed(Operation::kOpenResolver, "epoll");
  watched_[descriptor] = std::make_shared<Callback>(std::move(callback));
  return {};
}

void Loop::forget(int descriptor) {
  if (watched_.erase(descriptor) != 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, descriptor, nullptr);
}

Loop::Timer Loop::after(std::chrono::milliseconds delay, std::function<void()> callback) {
  timers_.emplace(next_timer_, Alarm{Clock::now() + delay, std::move(callback)});
  return next_timer_++;
}

int Loop::wait_time() const {
  if (timers_.empty()) return -1;
  auto first = std::ranges::min_element(timers_, {}, [](const auto& entry) { return entry.second.when; });
  auto left = std::chrono::ceil<std::chrono::milliseconds>(first->second.when - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

void Loop::ring() {
  std::vector<Timer> due;
  auto now = Clock::now();
  for (const auto& [timer, alarm] : timers_)
    if (alarm.when <= now) due.push_back(timer);
  for (Timer timer : due) {
    auto alarm = timers_.extract(timer);
    if (alarm) alarm.mapped().callback();  // an earlier callback may have cancelled it
  }
}

bool Loop::turn() {
  std::array<epoll_event, 64> events{};
  int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), wait_time());
  for (int i = 0; i < count; ++i) {
    auto found = watched_.find(events[static_cast<std::size_t>(i)].data.fd);
    if (found == watched_.end()) continue;  // forgotten by a callback of this round
    auto callback = found->second;
    (*callback)(events[static_cast<std::size_t>(i)].events);
  }
  ring();
  return running_;
}

}  // namespace fastdock::net::dns
