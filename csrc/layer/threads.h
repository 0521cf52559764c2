// Threads of a library in somebody else's program.
#pragma once

#include <pthread.h>

#include <csignal>
#include <system_error>
#include <thread>
#include <utility>

#include "base/error.h"

namespace fastdock::layer {

// Starts a thread that takes none of the program's signals.
template <class Run>
Result<std::thread> start_thread(Run&& run) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  Result<std::thread> started;
  try {
    started = std::thread(std::forward<Run>(run));
  } catch (const std::system_error& error) {  // std::thread knows no other way to say EAGAIN
    started = failed_with(error.code().value(), Operation::kUnpackEntry, "in a thread of its own");
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

}  // namespace fastdock::layer
