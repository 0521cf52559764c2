#include "oci/network_ahead.h"

#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <system_error>

#include "base/loopback.h"

namespace fastdock::oci {
namespace {

using launch::Namespace;
using launch::NamespaceMode;

}  // namespace

bool NetworkAhead::suits(const launch::LaunchPlan& plan) {
  auto mode = [&](Namespace kind) { return plan.namespaces[static_cast<std::size_t>(kind)].mode; };
  return mode(Namespace::kNet) == NamespaceMode::kNew && mode(Namespace::kUser) == NamespaceMode::kHost &&
         mode(Namespace::kTime) == NamespaceMode::kHost &&
         std::ranges::none_of(plan.namespaces, [](const launch::NamespacePlan& each) {
           return each.mode == NamespaceMode::kJoin;
         });
}

NetworkAhead::NetworkAhead() {
  // Signals are for the main thread.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] { work(); });
  } catch (const std::system_error&) {  // EAGAIN: the clone, which has no room either, says it
    given_ = true;
    making_.set_value(false);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

NetworkAhead::~NetworkAhead() {
  if (!given_) giving_.set_value({});
  if (thread_.joinable()) thread_.join();
}

void NetworkAhead::run(const std::function<void()>& task) {
  std::packaged_task<void()> packaged(task);
  auto done = packaged.get_future();
  given_ = true;
  giving_.set_value(std::move(packaged));
  done.get();
}

void NetworkAhead::work() {
  auto given = giving_.get_future();
  making_.set_value(::unshare(CLONE_NEWNET) == 0 && raise_loopback().has_value());
  if (auto task = given.get(); task.valid()) task();
}

}  // namespace fastdock::oci
