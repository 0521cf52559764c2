// The native helper: the small program that clones where the caller must not (see launch.h).
#pragma once

#include <memory>
#include <span>

#include "base/clone.h"
#include "base/error.h"
#include "base/fd.h"
#include "launch/plan.h"

namespace fastdock::launch {

// The bytes of the helper's executable, embedded by whoever links the core; set once at start.
void set_helper_program(std::span<const std::byte> program);
// Instead: a descriptor of sealed memory that has it already.
void set_helper_descriptor(Fd program);

// True in processes that run from sealed memory and are not dumpable: these may clone themselves.
bool runs_from_sealed_memory();
void declare_sealed();

// A helper at work; keeps what its start needs until reap().
class Helper {
 public:
  virtual ~Helper() = default;
  virtual void reap() = 0;  // waits for its end, which follows the clone at once
};

// Starts it on `plan`: it clones the container's process as the caller's child (CLONE_PARENT) and says
// kCloned, or kError, on `sync`, which that child then goes on using.
Result<std::unique_ptr<Helper>> start_helper(const LaunchPlan& plan, std::uint32_t sync_points, int sync);

// The helper's main.
int helper_main(int argc, char** argv);

}  // namespace fastdock::launch
