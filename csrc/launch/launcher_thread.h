// A thread that lives as long as the process, to start containers that must not die with their caller's
// thread.
#pragma once

#include <functional>

namespace fastdock::launch {

// Runs `task` on that thread and waits for it.
//
// prctl(2), PR_SET_PDEATHSIG: the "parent" whose death kills the child is the *thread* that created it.  A
// container started by a short-lived worker thread would be killed when that thread ends.
void run_on_launcher_thread(const std::function<void()>& task);

}  // namespace fastdock::launch
