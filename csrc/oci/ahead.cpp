#include "oci/ahead.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "base/loopback.h"

namespace fastdock::oci {
namespace {

using launch::Namespace;
using launch::NamespaceMode;

// Puts a new thread on another processor than ours.  Under KVM the scheduler would leave it on this one,
// until we wait for it: an idle processor counts as taken there (available_idle_cpu() asks
// vcpu_is_preempted()).
void send_elsewhere(std::thread& thread, cpu_set_t allowed) {
  const int here = ::sched_getcpu();
  if (here < 0 || here >= CPU_SETSIZE) return;
  CPU_CLR(static_cast<std::size_t>(here), &allowed);
  if (CPU_COUNT(&allowed) == 0) return;
  (void)::pthread_setaffinity_np(thread.native_handle(), sizeof allowed, &allowed);
}

// Waits without sleeping, for as long as the other thread's next step takes: to wake a processor that sleeps
// takes 0.1 to 0.25 ms in a virtual machine.
void acquire(std::counting_semaphore<2>& semaphore) {
  using namespace std::chrono;
  const auto end = steady_clock::now() + microseconds(500);
  while (!semaphore.try_acquire()) {
    if (steady_clock::now() > end) return semaphore.acquire();
    ::sched_yield();
  }
}

void share_network(launch::LaunchPlan& plan) {
  plan.namespaces[static_cast<std::size_t>(Namespace::kNet)].mode = NamespaceMode::kHost;
  plan.raise_loopback = false;
}

bool suits(const launch::LaunchPlan& plan) {
  auto mode = [&](Namespace kind) { return plan.namespaces[static_cast<std::size_t>(kind)].mode; };
  return mode(Namespace::kNet) == NamespaceMode::kNew && mode(Namespace::kUser) == NamespaceMode::kHost &&
         mode(Namespace::kTime) == NamespaceMode::kHost &&
         std::ranges::none_of(plan.namespaces, [](const launch::NamespacePlan& each) {
           return each.mode == NamespaceMode::kJoin;
         });
}

}  // namespace

std::unique_ptr<Ahead> Ahead::start(const launch::LaunchPlan& plan) {
  if (!suits(plan)) return nullptr;
  try {
    return std::unique_ptr<Ahead>(new Ahead);
  } catch (const std::system_error&) {  // EAGAIN: the clone, which has no room either, says it
    return nullptr;
  }
}

Ahead::Ahead() {
  if (::sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) CPU_ZERO(&allowed_);
  ::mallopt(M_ARENA_MAX, 1);  // a second one, of the thread's own, is five system calls
  // Signals are for the main thread.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  auto restore = [&] { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); };
  try {
    thread_ = std::thread([this] { work(); });
  } catch (...) {
    restore();
    throw;
  }
  restore();
  send_elsewhere(thread_, allowed_);
}

Ahead::~Ahead() {
  has_plan_.release();
  has_task_.release();
  thread_.join();
}

void Ahead::begin(launch::LaunchPlan& plan) {
  plan_ = &plan;
  has_plan_.release();
}

void Ahead::run(const std::function<void()>& task, const std::function<void()>& meanwhile) {
  task_ = &task;
  has_task_.release();
  meanwhile();
  has_run_.acquire();
}

void Ahead::work() {
  if (CPU_COUNT(&allowed_) > 0) (void)::sched_setaffinity(0, sizeof allowed_, &allowed_);
  const bool is_made = ::unshare(CLONE_NEWNET) == 0 && raise_loopback().has_value();
  acquire(has_plan_);
  if (plan_ == nullptr) return;
  // Otherwise the clone makes one, or says why it cannot.
  if (is_made) share_network(*plan_);
  flat_ = launch::Flattened::begin(*plan_, true);
  acquire(has_task_);
  if (task_ == nullptr) return;
  (*task_)();
  has_run_.release();
}

}  // namespace fastdock::oci
