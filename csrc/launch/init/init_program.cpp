#include "launch/init/init_program.h"

// The assembler reads the file; CMake names it, and builds it first.
asm(R"(
  .pushsection .rodata
  .balign 16
  .globl fastdock_init_begin
  .hidden fastdock_init_begin
fastdock_init_begin:
  .incbin ")" FASTDOCK_INIT_FILE R"("
  .globl fastdock_init_end
  .hidden fastdock_init_end
fastdock_init_end:
  .popsection
)");

extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte fastdock_init_begin[];
[[gnu::visibility("hidden")]] extern const std::byte fastdock_init_end[];
}

namespace fastdock::launch {

std::span<const std::byte> init_program() { return {fastdock_init_begin, fastdock_init_end}; }

}  // namespace fastdock::launch
