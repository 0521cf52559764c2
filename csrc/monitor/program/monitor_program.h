// The monitor's executable, embedded in the programs that start it.
#pragma once

#include <cstddef>
#include <span>

namespace fastdock::monitor {

std::span<const std::byte> monitor_program();

}  // namespace fastdock::monitor
