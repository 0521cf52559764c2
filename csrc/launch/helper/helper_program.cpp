#include "launch/helper/helper_program.h"

// The assembler reads the file; CMake names it, and builds it first.
asm(R"(
  .pushsection .rodata
  .balign 16
  .globl fastdock_helper_begin
  .hidden fastdock_helper_begin
fastdock_helper_begin:
  .incbin ")" FASTDOCK_HELPER_FILE R"("
  .globl fastdock_helper_end
  .hidden fastdock_helper_end
fastdock_helper_end:
  .popsection
)");

extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte fastdock_helper_begin[];
[[gnu::visibility("hidden")]] extern const std::byte fastdock_helper_end[];
}

namespace fastdock::launch {

std::span<const std::byte> helper_program() { return {fastdock_helper_begin, fastdock_helper_end}; }

}  // namespace fastdock::launch
