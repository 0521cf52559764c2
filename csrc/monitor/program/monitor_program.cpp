#include "monitor/program/monitor_program.h"

// The assembler reads the file; CMake names it, and builds it first.
asm(R"(
  .pushsection .rodata
  .balign 16
  .globl fastdock_monitor_begin
  .hidden fastdock_monitor_begin
fastdock_monitor_begin:
  .incbin ")" FASTDOCK_MONITOR_FILE R"("
  .globl fastdock_monitor_end
  .hidden fastdock_monitor_end
fastdock_monitor_end:
  .popsection
)");

extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte fastdock_monitor_begin[];
[[gnu::visibility("hidden")]] extern const std::byte fastdock_monitor_end[];
}

namespace fastdock::monitor {

std::span<const std::byte> monitor_program() { return {fastdock_monitor_begin, fastdock_monitor_end}; }

}  // namespace fastdock::monitor
