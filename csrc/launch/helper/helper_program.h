// The helper's executable, embedded in the programs that start it.
#pragma once

#include <cstddef>
#include <span>

namespace fastdock::launch {

std::span<const std::byte> helper_program();

}  // namespace fastdock::launch
