#include "launch/held.h"

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "launch/child.h"
#include "launch/clone_container.h"

namespace fastdock::launch {
namespace {

std::string_view name_of(std::string_view variable) { return variable.substr(0, variable.find('=')); }

void set(std::vector<std::string>& environment, std::string variable) {
  auto found = std::ranges::find(environment, name_of(variable),
                                 [](const std::string& each) { return name_of(each); });
  if (found == environment.end()) {
    environment.push_back(std::move(variable));
  } else {
    *found = std::move(variable);
  }
}

}  // namespace

Result<std::unique_ptr<HeldLaunch>> HeldLaunch::begin(LaunchPlan plan, bool in_filter, Observer observer) {
  std::unique_ptr<HeldLaunch> held(new HeldLaunch(std::move(plan), std::move(observer)));
  const LaunchPlan& own = held->plan_;
  if (is_exposed(own) || own.terminal)
    return failed_with(EINVAL, Operation::kWaitForStart, "a container without user ids of its own");
  FASTDOCK_TRY(Sockets sockets, make_sockets());
  FASTDOCK_TRY(held->flat_, Flattened::make(own, sockets.theirs.get(), true));
  ChildPlan* child_plan = held->flat_->child();
  child_plan->held = true;
  child_plan->held_in_filter = in_filter;
  child_plan->sync_points = sync_points(held->observer_);
  FASTDOCK_TRY(Child child, clone_by(held->observer_, [&] {
                 return clone_sharing_memory(held->flat_->clone_flags(), run_child, child_plan,
                                             own.cgroup_directory);
               }));
  sockets.theirs.reset();
  held->gone_ = true;  // until it is held, its end is the conversation's
  held->conversation_.emplace(own, held->observer_, std::move(sockets.ours));
  held->conversation_->begin(std::move(child), held->flat_.get());
  FASTDOCK_CHECK(held->conversation_->run_until_held());
  held->observer_ = {};  // it did what it is for, and may refer to what is its caller's
  held->gone_ = false;
  return held;
}

HeldLaunch::~HeldLaunch() {
  if (conversation_ && !gone_ && ::getpid() == owner_) conversation_->child().kill_and_reap();
}

// The child reads its plan again after go(): the memory is one, and it sleeps meanwhile.
void HeldLaunch::take(HeldProgram& program) {
  plan_.argv = std::move(program.argv);
  plan_.program.clear();
  for (std::string& variable : program.environment) set(plan_.environment, std::move(variable));
  if (!program.working_directory.empty()) plan_.working_directory = std::move(program.working_directory);
}

Result<Process> HeldLaunch::go(HeldProgram program) {
  take(program);
  FASTDOCK_CHECK(flat_->set_program());
  for (int descriptor : program.stdio) flat_->give_pipe(descriptor);
  FASTDOCK_CHECK(conversation_->go(program.stdio));
  gone_ = true;
  auto process = conversation_->run();
  if (process) process->unmapped = flat_->unmapped(), process->memory = flat_->take_memory();
  return process;
}

}  // namespace fastdock::launch
