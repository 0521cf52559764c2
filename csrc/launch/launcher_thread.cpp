#include "launch/launcher_thread.h"

#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <thread>

namespace fastdock::launch {
namespace {

class LauncherThread {
 public:
  LauncherThread() {
    // The embedding program's signals are for its own threads.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([this] { work(); }).detach();
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void run(const std::function<void()>& task) {
    std::packaged_task<void()> packaged(task);
    auto done = packaged.get_future();
    {
      std::scoped_lock lock(mutex_);
      tasks_.push_back(std::move(packaged));
    }
    wake_.notify_one();
    done.get();
  }

 private:
  [[noreturn]] void work() {
    while (true) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return !tasks_.empty(); });
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::packaged_task<void()>> tasks_;
};

}  // namespace

void run_on_launcher_thread(const std::function<void()>& task) {
  static std::mutex mutex;
  static LauncherThread* thread = nullptr;  // never destroyed: it waits for work until the process ends
  static pid_t owner = -1;
  LauncherThread* current = nullptr;
  {
    std::scoped_lock lock(mutex);
    if (owner != ::getpid()) {  // the first time, and after fork(2), which copies no threads
      thread = new LauncherThread;
      owner = ::getpid();
    }
    current = thread;
  }
  current->run(task);
}

}  // namespace fastdock::launch
